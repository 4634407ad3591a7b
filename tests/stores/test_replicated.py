"""The replicated store, over stores in memory and stores that fail."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import Conflict, NoSpace, NotFound, Unavailable
from sos.interfaces import Member
from sos.stores.lane import threads_of
from sos.stores.memory import MemoryStore
from sos.stores.replicated import ReplicatedStore
from tests.contract import StoreContract, body_of, content, put
from tests.doubles import FailingStore


def replicated(reactor, *groups):
    members = {
        f"group{n}": tuple(each if isinstance(each, Member) else Member(each) for each in group)
        for n, group in enumerate(groups)
    }
    return ReplicatedStore(members, threads_of(reactor))


class TestReplicatedStore(StoreContract):
    @pytest.fixture
    def store(self, reactor):
        return replicated(reactor, [MemoryStore("a"), MemoryStore("b")], [MemoryStore("c")])


@ensureDeferred
async def test_the_first_of_each_group_comes_before_the_second_of_any(reactor):
    """A blob goes to the first that takes it: the first of another group, if need be."""
    a, b, c, d = FailingStore("a"), MemoryStore("b"), MemoryStore("c"), MemoryStore("d")
    store = replicated(reactor, [a, b], [c, d])
    info = await put(store, b"here")
    assert list(c.blobs) == [info.id]
    assert not b.blobs
    assert not d.blobs


@pytest.mark.parametrize("size", [10, 300_000])
@ensureDeferred
async def test_a_server_that_fails_is_passed_over(reactor, size):
    """The body is sent again, whole, to the next server."""
    last = MemoryStore("last")
    early, late = FailingStore("early"), FailingStore("late", when="commit")
    store = replicated(reactor, [early, late, last])
    info = await put(store, body_of(size))
    assert await content(await last.read(info.id)) == body_of(size)
    assert await content(await store.read(info.id)) == body_of(size)


@ensureDeferred
async def test_not_found_takes_every_servers_word(reactor):
    """While one server does not answer, what no other has is not known to be missing."""
    store = replicated(reactor, [MemoryStore(), MemoryStore()])
    with pytest.raises(NotFound):
        await store.read("abc")
    store = replicated(reactor, [MemoryStore(), FailingStore("down")])
    with pytest.raises(Unavailable, match="1 of 2"):
        await store.read("abc")
    with pytest.raises(Unavailable):
        await store.stat("abc")


@ensureDeferred
async def test_no_server_takes_the_blob(reactor):
    """All full is one thing, all failing another."""
    full = FailingStore("x", error=NoSpace("full"))
    with pytest.raises(NoSpace):
        await put(replicated(reactor, [full, full]), b"x")
    with pytest.raises(Unavailable):
        await put(replicated(reactor, [full, FailingStore("y")]), b"x")
    with pytest.raises(Unavailable, match="readonly"):
        await put(replicated(reactor, [Member(MemoryStore(), readonly=True)]), b"x")


@ensureDeferred
async def test_a_readonly_member_is_read_and_never_written(reactor):
    """It is passed over on the way in and asked on the way out."""
    old, new = MemoryStore("old"), MemoryStore("new")
    await put(old, b"old")
    store = replicated(reactor, [Member(old, readonly=True), new])
    info = await put(store, b"new")
    assert info.id not in old.blobs
    assert info.id in new.blobs
    for id in (*old.blobs, *new.blobs):
        await store.stat(id)


@ensureDeferred
async def test_a_conflict_is_not_taken_elsewhere(reactor):
    """Another server must not get other bytes under a name that is taken."""
    a, b = MemoryStore("a"), MemoryStore("b")
    await put(a, b"first", "name")
    with pytest.raises(Conflict):
        await put(replicated(reactor, [a, b]), b"second", "name")
    assert not b.blobs
