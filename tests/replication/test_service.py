"""The service that makes a replication pass now and then."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sos.replication import Policy, ReplicationService
from sos.replication.executor import SMALL_AT_ONCE
from sos.stores.memory import MemoryStore
from tests.replication.groups import group, id_for, stores
from tests.support.blobs import put
from tests.support.doubles import FailingStore


def serving(clock, *members, hints=None):
    hints = set() if hints is None else hints
    groups = {"default": group(*members)}
    return ReplicationService(groups, Policy(2), 10.0, clock, hints, lambda: 5000.0)


@pytest.fixture
def clock():
    return Clock()


@ensureDeferred
async def test_a_pass_is_made_now_and_then(clock):
    """The first after one interval, give or take a fifth."""
    a, b = stores("a", "b")
    service = serving(clock, a, b)
    service.startService()
    for n in range(3):
        await put(a, b"%d" % n)
        clock.advance(7.9)
        assert len(b.blobs) == n
        clock.advance(4.2)
        assert len(b.blobs) == n + 1
        assert service.last.summary.copied == 1
        assert service.last.error is None
    await service.stopService()
    assert clock.getDelayedCalls() == []


@ensureDeferred
async def test_a_pass_that_fails_does_not_end_it(clock):
    """Not even if it fails in a way that no one thought of."""

    class Buggy(MemoryStore):
        async def digests(self):
            raise ZeroDivisionError

    service = serving(clock, Buggy())
    service.startService()
    for _ in range(3):
        clock.advance(12)
        assert len(clock.getDelayedCalls()) == 1
    service.stopService()


@ensureDeferred
async def test_what_the_last_pass_came_to_is_kept(clock):
    """When it was, how long it took, what it did or why it failed; and one under way."""

    class Waiting(MemoryStore):
        async def digests(self):
            self.listed = Deferred()
            return await self.listed

    a = Waiting("a")
    service = serving(clock, a)
    service.startService()
    assert (service.last, service.running_since) == (None, None)
    clock.advance(12)
    assert (service.last, service.running_since) == (None, 5000.0)
    clock.advance(3)
    a.listed.callback({})
    assert (service.last.started_at, service.last.seconds) == (5000.0, 3.0)
    assert (service.last.summary.servers, service.last.error) == (1, None)
    assert service.running_since is None
    service.groups = None  # which no one thought of
    clock.advance(12)
    assert service.last.summary is None
    assert "NoneType" in service.last.error
    assert service.running_since is None
    await service.stopService()


@ensureDeferred
async def test_passes_are_counted_by_how_they_ended(clock):
    """And what all of them have made; the lag is since one after which all was well."""
    a, b = stores("a", "b")
    down = FailingStore("b")
    service = serving(clock, a, b)
    clock.advance(5)
    assert service.lag == 5
    service.startService()
    await put(a, b"x")
    clock.advance(12.1)
    assert service.passes == {"ok": 1, "incomplete": 0, "failed": 0}
    assert service.made == {"copied": 1, "bytes": 1, "failed": 0, "moved": 0}
    assert service.lag < 12.1
    well = clock.seconds() - service.lag
    service.groups = {"default": group(a, down)}
    clock.advance(12.1)
    service.groups = None
    clock.advance(12.1)
    assert service.passes == {"ok": 1, "incomplete": 1, "failed": 1}
    assert clock.seconds() - service.lag == well
    await service.stopService()


@ensureDeferred
async def test_stopping_while_copies_are_made(clock):
    """No further one is begun."""

    class Slow(MemoryStore):
        asked = 0

        async def read(self, id, span=None):
            self.asked += 1
            await Deferred()

    slow, b = Slow("slow"), MemoryStore("b")
    for n in range(SMALL_AT_ONCE + 10):
        await put(slow, b"%d" % n)
    service = serving(clock, slow, b)
    service.startService()
    clock.advance(12)
    await service.stopService()
    assert slow.asked == SMALL_AT_ONCE
    assert b.blobs == {}


@ensureDeferred
async def test_stopping_ends_a_pass_under_way(clock):
    """It does not go on behind the daemon's back."""

    class Hanging(MemoryStore):
        async def digests(self):
            await Deferred()

    service = serving(clock, Hanging())
    service.startService()
    clock.advance(12)
    await service.stopService()
    assert clock.getDelayedCalls() == []


@ensureDeferred
async def test_what_it_is_told_is_forgotten_when_it_was_looked_at(clock):
    """And a server that is away is waited for, though its copies are missing."""
    servers = stores("a", "b", "c")
    id = id_for(servers, "a", "b")
    hints = {("default", id[:3])}
    await put(servers[0], b"x", id)
    down = FailingStore("b")
    service = serving(clock, servers[0], down, servers[2], hints=hints)
    service.startService()
    for _ in range(3):
        clock.advance(12.1)
    assert hints == set()
    assert servers[2].blobs == {}
    for _ in range(60):
        clock.advance(12.1)
    assert list(servers[2].blobs) == [id]
    await service.stopService()
