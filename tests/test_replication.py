"""A replication pass, and the service that makes one now and then."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sos.errors import Unavailable
from sos.interfaces import Member
from sos.replication import ReplicationService, replicate
from sos.stores.memory import MemoryStore
from tests.contract import body_of, content, put
from tests.doubles import BrokenBodyStore, FailingStore


def group(*stores):
    return tuple(each if isinstance(each, Member) else Member(each) for each in stores)


def stores(*names):
    return tuple(MemoryStore(name) for name in names)


@ensureDeferred
async def test_every_blob_gets_its_copies():
    """With its bytes and its metadata."""
    a, b, c = stores("a", "b", "c")
    for size in (0, 10, 300_000):
        await put(a, body_of(size), metadata={"X-Size": str(size)})
    await put(b, b"named", "name")
    summary = await replicate({"default": group(a, b, c)}, 3)
    assert summary.ok
    assert (summary.blobs, summary.planned, summary.copied, summary.failed) == (4, 8, 8, 0)
    for store in (a, b, c):
        assert len(store.blobs) == 4
        for id, stored in store.blobs.items():
            blob = await store.read(id)
            assert await content(blob) == stored.body
            if id != "name":
                assert blob.info.metadata == {"X-Size": str(len(stored.body))}
    assert (await replicate({"default": group(a, b, c)}, 3)).planned == 0


@ensureDeferred
async def test_two_copies_are_two():
    """A third server stays as it is."""
    a, b, c = stores("a", "b", "c")
    await put(a, b"x")
    await replicate({"default": group(a, b, c)}, 2)
    assert sorted([len(b.blobs), len(c.blobs)]) == [0, 1]


@ensureDeferred
async def test_more_copies_than_servers():
    """What can be made is made, and the rest is told."""
    a, b = stores("a", "b")
    await put(a, b"x")
    await put(a, b"y")
    summary = await replicate({"default": group(a, b)}, 3)
    assert (summary.copied, summary.short, summary.ok) == (2, 2, False)
    assert "2 blobs want more servers" in str(summary)
    summary = await replicate({"default": group(a, Member(MemoryStore("c"), readonly=True))}, 2)
    assert (summary.planned, summary.short) == (0, 2)


@ensureDeferred
async def test_groups_never_mix():
    """What one group holds is no business of another."""
    a, b, c, d = stores("a", "b", "c", "d")
    one = await put(a, b"one")
    two = await put(c, b"two")
    await replicate({"first": group(a, b), "second": group(c, d)}, 2)
    assert list(a.blobs) == list(b.blobs) == [one.id]
    assert list(c.blobs) == list(d.blobs) == [two.id]


@ensureDeferred
async def test_a_server_that_is_down_is_left_out():
    """The others go on; that it did not answer is said, and is not success."""
    a, b = stores("a", "b")
    await put(a, b"x")
    warnings = []
    down = FailingStore("down")
    summary = await replicate({"default": group(down, a, b)}, 2, warn=warnings.append)
    assert len(b.blobs) == 1
    assert not summary.ok
    assert summary.unlisted == ["down"]
    assert "down" in warnings[0]
    assert "down" in str(summary)


@ensureDeferred
async def test_a_copy_that_cannot_be_made_is_counted():
    """It stops nothing else."""

    class Full(MemoryStore):
        def writer(self, id=None, metadata=None, size=None):
            return FailingStore("full", when="commit").writer()

    a, full, c = MemoryStore("a"), Full("full"), MemoryStore("c")
    for n in range(10):
        await put(a, b"%d" % n)
    summary = await replicate({"default": group(a, full, c)}, 3)
    assert (summary.copied, summary.failed) == (10, 10)
    assert not summary.ok
    assert len(c.blobs) == 10


@ensureDeferred
async def test_a_broken_copy_is_fetched_from_the_next_server():
    """And nothing of the broken one is kept."""
    broken, sound, empty = BrokenBodyStore("a"), MemoryStore("b"), MemoryStore("c")
    for store in (broken, sound):
        info = await put(store, body_of(300_000))
    summary = await replicate({"default": group(broken, sound, empty)}, 3)
    assert summary.ok
    assert await content(await empty.read(info.id)) == body_of(300_000)


@ensureDeferred
async def test_a_readonly_server_gives_and_takes_nothing():
    """It counts as a copy."""
    old, new, more = stores("old", "new", "more")
    await put(old, b"x")
    await put(new, b"y")
    await replicate({"default": group(Member(old, readonly=True), new, more)}, 2)
    assert len(old.blobs) == 1
    assert len(new.blobs) + len(more.blobs) == 3


class TestService:
    @pytest.fixture
    def clock(self):
        return Clock()

    @ensureDeferred
    async def test_a_pass_is_made_now_and_then(self, clock):
        """The first after one interval, give or take a fifth."""
        a, b = stores("a", "b")
        service = ReplicationService({"default": group(a, b)}, 2, 10.0, clock)
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
    async def test_a_pass_that_fails_does_not_end_it(self, clock):
        """Not even if it fails in a way that no one thought of."""

        class Buggy(MemoryStore):
            async def listing(self, after=None, limit=None, partition=None):
                raise ZeroDivisionError

        service = ReplicationService({"default": group(Buggy())}, 2, 10.0, clock)
        service.startService()
        for _ in range(3):
            clock.advance(12)
            assert len(clock.getDelayedCalls()) == 1
        service.stopService()

    @ensureDeferred
    async def test_what_the_last_pass_came_to_is_kept(self, clock):
        """When it was, how long it took, what it did or why it failed; and one under way."""

        class Waiting(MemoryStore):
            async def listing(self, after=None, limit=None, partition=None):
                self.listed = Deferred()
                return await self.listed

        a = Waiting("a")
        service = ReplicationService({"default": group(a)}, 2, 10.0, clock, lambda: 5000.0)
        service.startService()
        assert (service.last, service.running_since) == (None, None)
        clock.advance(12)
        assert (service.last, service.running_since) == (None, 5000.0)
        clock.advance(3)
        a.listed.callback([])
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
    async def test_one_group_that_breaks_the_pass_does_not_take_the_others_with_it(self):
        """It is told as not listed."""

        class Buggy(MemoryStore):
            async def listing(self, after=None, limit=None, partition=None):
                raise ZeroDivisionError

        a, b = stores("a", "b")
        await put(a, b"x")
        summary = await replicate({"bad": group(Buggy(), a), "good": group(a, b)}, 2)
        assert len(b.blobs) == 1
        assert summary.unlisted == ["group bad"]

    @ensureDeferred
    async def test_stopping_while_copies_are_made(self, clock):
        """No further one is begun."""

        class Slow(MemoryStore):
            asked = 0

            async def read(self, id, span=None):
                self.asked += 1
                await Deferred()

        slow, b = Slow("slow"), MemoryStore("b")
        for n in range(100):
            await put(slow, b"%d" % n)
        service = ReplicationService({"default": group(slow, b)}, 2, 10.0, clock)
        service.startService()
        clock.advance(12)
        await service.stopService()
        assert slow.asked == 16
        assert b.blobs == {}

    @ensureDeferred
    async def test_stopping_ends_a_pass_under_way(self, clock):
        """It does not go on behind the daemon's back."""

        class Hanging(MemoryStore):
            async def listing(self, after=None, limit=None, partition=None):
                await Deferred()

        service = ReplicationService({"default": group(Hanging())}, 2, 10.0, clock)
        service.startService()
        clock.advance(12)
        await service.stopService()
        assert clock.getDelayedCalls() == []


@ensureDeferred
async def test_no_server_can_be_listed():
    """There is nothing to do, and it is not well."""
    summary = await replicate({"default": group(FailingStore("a", Unavailable("gone")))}, 2)
    assert not summary.ok
