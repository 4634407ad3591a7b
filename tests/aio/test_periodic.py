"""What is done again and again is never done twice at the same time."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sos.aio.periodic import PeriodicService
from sos.aio.threads import shielded


class Work(PeriodicService):
    """Takes until it is let end, whether or not it is cancelled.

    :ivar most: that were under way at once.
    """

    def __init__(self, clock):
        super().__init__("the work", clock)
        self.waiting = []
        self.begun = self.most = self.under_way = 0

    def delay(self):
        return 10.0

    async def work(self):
        self.begun += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.waiting.append(Deferred())
        try:
            await shielded(self.waiting[-1])
        except BaseException:
            await self.waiting[-1]
            raise
        finally:
            self.under_way -= 1

    def end(self):
        self.waiting[-1].callback(None)


@pytest.fixture
def clock():
    return Clock()


@ensureDeferred
async def test_work_that_takes_longer_than_the_delay_is_not_overtaken(clock):
    """The delay is from the end of one to the next."""
    work = Work(clock)
    work.startService()
    clock.pump([10.0] * 5)
    assert (work.begun, work.most) == (1, 1)
    work.end()
    clock.pump([9.0])
    assert work.begun == 1
    clock.pump([1.0])
    assert (work.begun, work.most) == (2, 1)
    stopping = work.stopService()
    work.end()
    await stopping
    assert clock.getDelayedCalls() == []


@ensureDeferred
async def test_a_service_that_is_started_again_waits_for_what_it_was_doing(clock):
    """And goes on as one, not as two."""
    work = Work(clock)
    work.startService()
    clock.pump([10.0])
    stopping = work.stopService()
    work.startService()
    clock.pump([10.0] * 3)
    assert (work.begun, work.most) == (1, 1)
    work.end()
    await stopping
    assert len(clock.getDelayedCalls()) == 1
    clock.pump([10.0])
    assert (work.begun, work.most) == (2, 1)
    stopping = work.stopService()
    work.end()
    await stopping
    assert clock.getDelayedCalls() == []
