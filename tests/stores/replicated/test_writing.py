"""Where copies go, when an upload is acknowledged, and what goes on after that."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import Conflict, NoSpace, Unavailable
from sos.interfaces import Member
from sos.model.ids import partition
from sos.stores.memory import MemoryStore
from sos.stores.replicated.peer import SLOW_SECONDS
from tests.support.blobs import body_of, content, put
from tests.support.doubles import FailingStore
from tests.support.replicas import Gate, body_for, first_for, replicated


class TestWhereCopiesGo:
    @ensureDeferred
    async def test_to_the_holders_of_the_partition(self, reactor):
        """As many as are wanted, at once, and to no other."""
        stores = [MemoryStore(name) for name in "abcd"]
        store = replicated(reactor, stores, wanted=2)
        for seed in range(50):
            info = await put(store, body_of(100, seed))
            having = [each for each in stores if info.id in each.blobs]
            assert {each.name for each in having} == {
                each.name for each in first_for(info.id, *stores)[:2]
            }

    @ensureDeferred
    async def test_to_the_next_member_when_one_fails(self, reactor):
        """So that there are as many copies as were wanted."""
        down, b, c = FailingStore("down"), MemoryStore("b"), MemoryStore("c")
        store = replicated(reactor, [down, b, c], wanted=2, acknowledged=2)
        body, id = body_for(down, b, c)
        assert (await put(store, body)).copies == 2
        assert id in b.blobs
        assert id in c.blobs

    @ensureDeferred
    async def test_to_another_group_when_one_fails_as_a_whole(self, reactor):
        """One copy, which that group's replication adds to."""
        a, b, c, d = (
            FailingStore("a"),
            FailingStore("b", NoSpace("full")),
            MemoryStore("c"),
            MemoryStore("d"),
        )
        store = replicated(reactor, [a, b], [c, d], wanted=2)
        infos = [await put(store, body_of(100, seed)) for seed in range(20)]
        assert all(info.id in {**c.blobs, **d.blobs} for info in infos)

    @ensureDeferred
    async def test_groups_share_by_id(self, reactor):
        """Each has about its part of the ids, and a blob is in one of them."""
        a, b = MemoryStore("a"), MemoryStore("b")
        store = replicated(reactor, [a], [b])
        for seed in range(200):
            await put(store, body_of(100, seed))
        assert len(a.blobs) + len(b.blobs) == 200
        assert 70 < len(a.blobs) < 130

    @ensureDeferred
    async def test_never_to_a_readonly_member(self, reactor):
        """It is asked on the way out all the same."""
        old, new = MemoryStore("old"), MemoryStore("new")
        await put(old, b"old")
        store = replicated(reactor, [Member(old, readonly=True), new], wanted=2)
        info = await put(store, b"new")
        assert info.id not in old.blobs
        assert info.id in new.blobs
        for id in (*old.blobs, *new.blobs):
            await store.stat(id)

    @ensureDeferred
    async def test_a_group_that_is_readonly_as_a_whole(self, reactor):
        """Is read from, and refuses when there is no other."""
        old = MemoryStore("old")
        info = await put(old, b"old")
        store = replicated(reactor, [Member(old, readonly=True)])
        assert await content(await store.read(info.id)) == b"old"
        with pytest.raises(Unavailable, match="no server takes blobs"):
            await put(store, b"x")

    @ensureDeferred
    async def test_the_bytes_of_a_name_are_not_split(self, reactor):
        """Another server must not get other bytes under a name that is taken."""
        stores = [MemoryStore(name) for name in "ab"]
        store = replicated(reactor, stores, wanted=2)
        await put(store, b"first", "name")
        with pytest.raises(Conflict):
            await put(store, b"second", "name")
        assert all(each.blobs["name"].body == b"first" for each in stores if each.blobs)


class TestAcknowledgement:
    @ensureDeferred
    async def test_one_copy_is_enough_and_the_other_comes_later(self, reactor):
        """One slow server does not hold up what another has completed."""
        slow, fast = Gate("slow"), MemoryStore("fast")
        body, id = body_for(slow, fast)
        store = replicated(reactor, [slow, fast], wanted=2)
        info = await put(store, body)
        assert info.copies == 1
        assert id not in slow.blobs
        slow.open()
        assert id in slow.blobs

    @ensureDeferred
    async def test_as_many_as_were_asked_for(self, reactor):
        """It waits for the slow one, when that is needed."""
        slow, fast = Gate("slow"), MemoryStore("fast")
        body, _ = body_for(slow, fast)
        store = replicated(reactor, [slow, fast], acknowledged=2)
        waiting = deferred(put(store, body))
        assert not waiting.called
        slow.open()
        assert (await waiting).copies == 2

    @ensureDeferred
    async def test_another_takes_the_place_of_one_that_is_too_slow(self, reactor):
        """So that one slow server of three does not hold up two copies."""
        clock = Clock()
        slow, b, c = Gate("slow"), MemoryStore("b"), MemoryStore("c")
        body, id = body_for(slow, b, c)
        store = replicated(reactor, [slow, b, c], acknowledged=2, clock=clock)
        waiting = deferred(put(store, body))
        clock.advance(SLOW_SECONDS / 2)
        assert not c.blobs
        clock.advance(SLOW_SECONDS)
        assert (await waiting).copies == 2
        assert id in c.blobs
        slow.open()
        assert id in slow.blobs
        store.stop()
        clock.advance(0.01)
        assert clock.getDelayedCalls() == []

    @ensureDeferred
    async def test_fewer_than_asked_for_are_a_failure(self, reactor):
        """What could not be promised is not acknowledged."""
        store = replicated(reactor, [MemoryStore("a"), FailingStore("b")], acknowledged=2)
        with pytest.raises(Unavailable, match="1 of 2 copies"):
            await put(store, b"x")

    @pytest.mark.parametrize("size", [10, 300_000])
    @ensureDeferred
    async def test_a_server_that_fails_late_is_passed_over(self, reactor, size):
        """The body is sent again, whole, to the next server."""
        last = MemoryStore("last")
        early, late = FailingStore("early"), FailingStore("late", when="commit")
        store = replicated(reactor, [early, late, last], wanted=2)
        info = await put(store, body_of(size))
        assert await content(await last.read(info.id)) == body_of(size)
        assert await content(await store.read(info.id)) == body_of(size)

    @ensureDeferred
    async def test_no_server_takes_the_blob(self, reactor):
        """All full is one thing, all failing another."""
        full, fuller = (FailingStore(name, NoSpace("full")) for name in "xy")
        with pytest.raises(NoSpace):
            await put(replicated(reactor, [full, fuller], wanted=2), b"x")
        with pytest.raises(Unavailable):
            await put(replicated(reactor, [full, FailingStore("z")], wanted=2), b"x")

    @ensureDeferred
    async def test_who_gives_up_leaves_nothing_under_way(self, reactor):
        """A cancelled upload is sent nowhere any more."""
        a, b = Gate("a"), Gate("b")
        store = replicated(reactor, [a, b], wanted=2)
        waiting = deferred(put(store, b"x"))
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        a.open()
        b.open()
        assert not a.blobs
        assert not b.blobs

    @ensureDeferred
    async def test_what_nobody_waits_for_is_bounded(self, reactor, monkeypatch):
        """Past that the other copy is given up; the replication makes it."""
        monkeypatch.setattr("sos.stores.replicated.background._MOST", 3)
        slow, fast = Gate("slow"), MemoryStore("fast")
        store = replicated(reactor, [slow, fast], wanted=2)
        for seed in range(5):
            await put(store, body_of(100, seed))
        assert len(fast.blobs) == 5
        slow.open()
        assert len(slow.blobs) == 3

    @ensureDeferred
    async def test_it_ends_when_the_store_is_stopped(self, reactor):
        """Nothing is begun or finished after that."""
        slow, fast = Gate("slow"), MemoryStore("fast")
        store = replicated(reactor, [slow, fast], wanted=2)
        await put(store, b"x")
        store.stop()
        slow.open()
        assert not slow.blobs


class TestWhatReplicationIsTold:
    @ensureDeferred
    async def test_nothing_while_all_goes_well(self, reactor):
        hints = set()
        store = replicated(reactor, [MemoryStore("a"), MemoryStore("b")], wanted=2, hints=hints)
        await put(store, b"x")
        assert hints == set()

    @ensureDeferred
    async def test_where_a_copy_is_missing_or_not_where_it_belongs(self, reactor):
        """The group and the partition."""
        a, b, down, hints = MemoryStore("a"), MemoryStore("b"), FailingStore("down"), set()
        store = replicated(reactor, [a, b, down], wanted=2, hints=hints)
        body, id = body_for(down, b, a)
        await put(store, body)
        assert hints == {("group0", partition(id))}

    @ensureDeferred
    async def test_where_a_group_has_failed_as_a_whole(self, reactor):
        """The group that has the copy now."""
        down, b, hints = FailingStore("down"), MemoryStore("b"), set()
        store = replicated(reactor, [down], [b], hints=hints)
        ids = [(await put(store, body_of(10, seed))).id for seed in range(20)]
        assert ids
        assert {group for group, _ in hints} == {"group1"}

    @ensureDeferred
    async def test_what_was_found_missing_and_could_not_be_mended(self, reactor):
        a, full, hints = MemoryStore("a"), FullStore("full"), set()
        store = replicated(reactor, [a, full], wanted=2, hints=hints)
        body, id = body_for(full, a)
        await put(a, body)
        assert await content(await store.read(id)) == body
        assert hints == {("group0", partition(id))}

    @ensureDeferred
    async def test_what_was_found_missing_where_nothing_can_be_copied_to(self, reactor):
        """A server that is known to be full is not even tried."""
        a, full, hints = MemoryStore("a"), FullStore("full"), set()
        store = replicated(reactor, [a, full], wanted=2, hints=hints)
        await put(store, b"this shows that it is full")
        hints.clear()
        body, id = body_for(full, a)
        await put(a, body)
        assert await content(await store.read(id)) == body
        assert hints == {("group0", partition(id))}
        store.stop()


class FullStore(MemoryStore):
    def writer(self, id=None, metadata=None, size=None):
        raise NoSpace("full")
