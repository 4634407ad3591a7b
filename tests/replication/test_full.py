"""Servers that take no blobs: what they have counts, and what they lack goes elsewhere."""

from __future__ import annotations

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from sos.errors import NoSpace, Unavailable
from sos.interfaces import Member
from sos.replication.pass_state import PassState
from sos.stores.memory import MemoryStore
from tests.replication.groups import RecordedReport, id_for, replica_set, run, stores
from tests.support.blobs import put
from tests.support.doubles import FailingStore


class Full(MemoryStore):
    """Takes nothing while it is full, and says so unless it is *silent*."""

    full = False
    silent = False
    asked = 0

    async def status(self):
        status = await super().status()
        return evolve(status, writable=not self.full or self.silent)

    def writer(self, *args, **kwargs):
        if self.full:
            self.asked += 1
            raise NoSpace(f"{self.name} is full")
        return super().writer(*args, **kwargs)

    async def reconcile(self, id, metadata):
        if self.full:
            self.asked += 1
            raise NoSpace(f"{self.name} is full")
        await super().reconcile(id, metadata)


def holding(id, *servers):
    return [store.name for store in servers if id in store.blobs]


async def a_cluster(blobs=200):
    """Return four servers that hold *blobs* in two copies each, and their ids."""
    servers = [Full(name) for name in "abcd"]
    ids = [(await put(servers[n % 4], b"%d" % n)).id for n in range(blobs)]
    assert (await run(servers, 2)).ok
    return servers, ids


@pytest.mark.parametrize("silent", [False, True])
@ensureDeferred
async def test_one_is_full_and_another_is_lost(silent):
    """Every blob has its copies on those that are left; that one is lost is all that is wrong.

    Also where the full one says that it takes blobs, as those of the original system do.
    """
    servers, ids = await a_cluster()
    full, lost, *left = servers
    full.full, full.silent = True, silent
    kept = dict(full.blobs)
    clock, state = Clock(), PassState(away_seconds=600)
    there = [full, FailingStore(lost.name), *left]
    for seconds in (0, 601, 60):
        clock.advance(seconds)
        summary = await run(there, 2, clock=clock, state=state)
    assert all(len(holding(id, full, *left)) >= 2 for id in ids)
    assert (summary.failed, summary.short, summary.unlisted) == (0, 0, [lost.name])
    assert full.blobs == kept
    if not silent:
        assert full.asked == 0


@ensureDeferred
async def test_what_a_full_server_has_counts():
    """It is its holder, of whom nothing is asked: no other copy, and no other metadata."""
    servers = [Full(name) for name in "abc"]
    id = id_for(servers, "a", "b")
    await put(servers[0], b"x", id, {"X-A": "1"})
    await put(servers[1], b"x", id, {"X-A": "2"})
    for store in servers[:2]:
        store.full = True
    summary = await run(servers, 2)
    assert summary.idle
    assert holding(id, *servers) == ["a", "b"]
    assert [store.asked for store in servers] == [0, 0, 0]


@ensureDeferred
async def test_what_a_full_server_lacks_comes_home_when_it_has_room():
    """And is dropped where it was kept meanwhile, then and not before."""
    servers = [Full(name) for name in "abc"]
    a, b, c = servers
    id = id_for(servers, "a", "b")
    await put(b, b"x", id)
    a.full = True
    state = PassState()
    for copied in (1, 0, 0):
        summary = await run(servers, 2, state=state)
        assert (summary.copied, summary.moved, summary.ok) == (copied, 0, True)
        assert holding(id, a, b, c) == ["b", "c"]
    a.full = False
    summary = await run(servers, 2, state=state)
    assert (summary.copied, summary.moved, summary.ok) == (1, 1, True)
    assert holding(id, a, b, c) == ["a", "b"]


@ensureDeferred
async def test_a_server_that_fills_up_during_a_pass_is_replaced_in_it():
    servers = [Full(name) for name in "abcd"]
    full = servers[0]
    ids = [(await put(servers[1 + n % 3], b"%d" % n)).id for n in range(100)]
    full.full = full.silent = True
    summary = await run(servers, 2)
    assert (summary.ok, summary.failed) == (True, 0)
    assert all(len(holding(id, *servers)) >= 2 for id in ids)
    before = [holding(id, *servers) for id in ids]
    summary = await run(servers, 2)  # which cannot move them to where they belong
    assert (summary.ok, summary.copied, summary.planned) == (True, 0, 0)
    assert [holding(id, *servers) for id in ids] == before


@ensureDeferred
async def test_when_no_server_has_room_that_is_told():
    """Once for each blob that has too few copies, pass after pass."""
    servers = [Full(name) for name in "abc"]
    for n in range(30):
        await put(servers[0], b"%d" % n)
    for store in servers[1:]:
        store.full = True
    state = PassState()
    for _ in range(3):
        summary = await run(servers, 2, state=state)
        assert (summary.short, summary.failed, summary.ok) == (30, 0, False)


@ensureDeferred
async def test_a_server_is_not_drained_while_others_have_no_room():
    """Its last copies stay, and they do not count as those that are wanted."""
    old, new, full = Full("old"), Full("new"), Full("full")
    for n in range(20):
        await put(old, b"%d" % n)
    full.full = True
    members = (Member(old, readonly=True), new, full)
    for _ in range(2):
        summary = await run(members, 2, drained=frozenset(["old"]))
        assert (summary.moved, summary.short, summary.ok) == (0, 20, False)
        assert [len(store.blobs) for store in (old, new, full)] == [20, 20, 0]
    full.full = False
    summary = await run(members, 2, drained=frozenset(["old"]))
    assert (summary.moved, summary.ok) == (20, True)


@ensureDeferred
async def test_a_server_is_not_drained_of_what_all_should_have_and_one_has_no_room_for():
    old, new, full = Full("old"), Full("new"), Full("full")
    await put(old, b"x")
    full.full = True
    members = (Member(old, readonly=True), new, full)
    summary = await run(members, 1 << 30, drained=frozenset(["old"]))
    assert (summary.copied, summary.moved) == (1, 0)


@ensureDeferred
async def test_a_copy_on_a_readonly_server_counts_where_there_is_no_other_place():
    """Two copies were wanted, and there are two."""
    archive, new = stores("archive", "new")
    await put(archive, b"x")
    await put(new, b"y")
    members = (Member(archive, readonly=True), new)
    summary = await run(members, 2)
    assert (summary.copied, summary.short, summary.ok) == (1, 1, False)  # of y there is one
    del new.blobs[next(id for id in new.blobs if id not in archive.blobs)]
    summary = await run(members, 2)
    assert (summary.short, summary.ok) == (0, True)


@ensureDeferred
async def test_a_server_that_does_not_say_how_it_is_doing_is_left_out():
    """It is not known to take anything."""

    class Mute(MemoryStore):
        async def status(self):
            raise Unavailable(f"{self.name} sent a status without 'writable'")

    a, mute, c = MemoryStore("a"), Mute("b"), MemoryStore("c")
    await put(a, b"x")
    recorded = RecordedReport()
    summary = await run((a, mute, c), 2, recorded)
    assert summary.unlisted == ["b"]
    assert "without 'writable'" in recorded.warnings[0]
    assert (len(mute.blobs), len(c.blobs)) == (0, 1)


@ensureDeferred
async def test_moving_waits_for_a_server_that_cannot_drop():
    """A copy too many is no failure."""

    class Frozen(MemoryStore):
        async def drop(self, id, token, known=None):
            raise NoSpace("the disk is full")

    servers = [Frozen("a"), MemoryStore("b"), MemoryStore("c")]
    id = id_for(servers, "b", "c")
    for store in servers:
        await put(store, b"x", id)
    summary = await run(servers, 2)
    assert (summary.staying, summary.failed, summary.ok) == (1, 0, True)
    assert replica_set(id, servers, 2) == servers[1:]


@ensureDeferred
async def test_a_blob_that_has_its_copies_lacks_none_though_one_is_not_where_it_belongs():
    """A server has no room for blobs of their size, and says that it takes others."""
    servers, ids = await a_cluster(40)
    servers[0].full = servers[0].silent = True
    servers[0].blobs.clear()
    assert (await run(servers, 2)).ok
    dry = await run(servers, 2, dry_run=True)
    assert dry.planned > 0
    assert (dry.wanting, dry.complete) == (0, True)
    servers[1].blobs.clear()
    dry = await run(servers, 2, dry_run=True)
    assert dry.wanting == sum(len(holding(id, *servers)) < 2 for id in ids) > 0
    assert not dry.complete
