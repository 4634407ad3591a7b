"""Servers that do nothing."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock

from sos.cli.stall_timeout import with_stall_timeout
from sos.errors import Unavailable


class Work:
    """Something that goes on until it is told to end."""

    def __init__(self):
        self.cancelled = False
        self.end = Deferred(self._cancel)

    def _cancel(self, _):
        self.cancelled = True

    async def __call__(self, moved):
        self.moved = moved
        return await self.end


@pytest.fixture
def clock():
    return Clock()


def test_what_gets_on_may_take_its_time(clock):
    """Each time that something moves it is given the same again."""
    work = Work()
    waiting = ensureDeferred(with_stall_timeout(work, 5, clock, "a server"))
    for _ in range(10):
        clock.advance(4)
        work.moved()
    work.end.callback("done")
    assert waiting.result == "done"
    assert clock.getDelayedCalls() == []


def test_what_does_not_is_given_up(clock):
    """The error says who did nothing, and for how long."""
    work = Work()
    waiting = ensureDeferred(with_stall_timeout(work, 5, clock, "a server"))
    clock.advance(4)
    work.moved()
    clock.advance(4.9)
    assert not work.cancelled
    clock.advance(0.2)
    assert work.cancelled
    failure = waiting.addErrback(lambda failure: failure.value)
    assert isinstance(failure.result, Unavailable)
    assert str(failure.result) == "timed out: a server made no progress for 5 s"


def test_who_cancels_is_told_so(clock):
    """That is no failure of the server's."""
    waiting = ensureDeferred(with_stall_timeout(Work(), 5, clock, "a server"))
    waiting.cancel()
    failure = waiting.addErrback(lambda failure: failure.value)
    assert isinstance(failure.result, CancelledError)
    assert clock.getDelayedCalls() == []
