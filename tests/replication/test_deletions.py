"""Objects that are deleted while servers are away, and uploaded again."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred

from sos.errors import Deleted
from sos.interfaces import BlobInfo, Member
from sos.model.merge import tombstone
from sos.model.metadata import PART_AT, SET_AT
from sos.stores.memory import MemoryStore
from tests.replication.groups import RecordedReport, group, replica_set, run, stores
from tests.support.blobs import body_of, content, content_id, put

# In ticks: in 2026.
BASE = 179 * 10**12
BODIES = [body_of(100, seed) for seed in range(3)]
IDS = [content_id(body) for body in BODIES]

some = st.frozensets(st.integers(0, 3), min_size=1)
operations = st.lists(
    st.tuples(
        st.sampled_from(["upload", "upload", "chunk", "delete", "pass"]),
        st.integers(0, len(IDS) - 1),
        some,
    ),
    max_size=12,
)


def now(work):
    """Return the result of *work*, which waits for nothing."""
    found = []
    done: Deferred = deferred(work)
    done.addBoth(found.append)
    assert found
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]


@given(operations, st.integers(1, 4), st.integers(0, 4))
def test_the_last_word_is_what_all_servers_come_to(done, copies, late):
    """Whoever was away while something was uploaded or deleted, and whatever was copied between.

    :param late: an upload is dated so much before it arrives.
    """
    members = [MemoryStore(str(n)) for n in range(4)]
    times = count(BASE + 10, 2)
    stored, deleted, parts = {}, {}, set()
    for kind, number, names in done:
        id, time = IDS[number], next(times)
        there = [members[name] for name in names]
        if kind == "pass":
            now(run(there, copies))
        for store in there:
            if kind == "delete":
                now(store.reconcile(id, tombstone(time)))
                deleted[id] = time
            elif kind in ("upload", "chunk"):
                time_of_it = time - late if kind == "upload" else time
                name = SET_AT if kind == "upload" else PART_AT
                try:
                    now(put(store, BODIES[number], id, {name: str(time_of_it)}))
                except Deleted:
                    continue
                if kind == "upload":
                    stored[id] = max(stored.get(id, 0), time_of_it)
                else:
                    parts.add(id)
    for _ in range(6):
        now(run(members, copies, moves=True))
    assert now(run(members, copies, moves=True)).idle
    for id, body in zip(IDS, BODIES, strict=True):
        listed = [store for store in members if id in now(store.listing())]
        if id in parts or (id in stored and stored[id] >= deleted.get(id, 0)):
            assert len(listed) == copies
            for store in listed:
                assert now(content(now(store.read(id)))) == body
        else:
            assert listed == []
            assert all(blobs.body == b"" for each in members if (blobs := each.blobs.get(id)))


@ensureDeferred
async def test_a_copy_that_was_away_is_removed_when_it_is_back():
    """It is not copied to the others."""
    a, b, c = stores("a", "b", "c")
    for store in (a, b, c):
        await put(store, BODIES[0], metadata={SET_AT: str(BASE)})
    for store in (a, b):
        await store.reconcile(IDS[0], tombstone(BASE + 1))
    summary = await run([a, b, c], 3)
    assert (summary.ok, summary.settled, summary.copied) == (True, 1, 0)
    assert [await each.listing() for each in (a, b, c)] == [[], [], []]
    assert (await run([a, b, c], 3)).idle


@ensureDeferred
async def test_an_upload_after_the_deletion_comes_back_to_all():
    """Also to the server whose copy is from before."""
    a, b, c = stores("a", "b", "c")
    await put(a, BODIES[0], metadata={SET_AT: str(BASE), "X-Name": "old"})
    await b.reconcile(IDS[0], tombstone(BASE + 1))
    await put(c, BODIES[0], metadata={SET_AT: str(BASE + 2), "X-Name": "new"})
    assert (await run([a, b, c], 3)).ok
    for store in (a, b, c):
        blob = await store.read(IDS[0])
        assert blob.info.metadata["X-Name"] == "new"
        assert blob.body == BODIES[0]
    assert (await run([a, b, c], 3)).idle


@ensureDeferred
async def test_a_deletion_reaches_the_copies_of_other_groups():
    """Another group stood in for the first when the object was uploaded."""
    a, b = stores("a", "b")
    for store in (a, b):
        await put(store, BODIES[0], metadata={SET_AT: str(BASE)})
    await a.reconcile(IDS[0], tombstone(BASE + 1))
    groups = {"one": group(a), "two": group(b)}
    assert (await run(groups, 1)).ok
    assert await b.listing() == []
    assert (await run(groups, 1)).idle


@ensureDeferred
async def test_a_server_that_is_only_read_from_keeps_its_copy():
    """The others do not get it back from there."""
    a, b = stores("a", "b")
    for store in (a, b):
        await put(store, BODIES[0], metadata={SET_AT: str(BASE)})
    await a.reconcile(IDS[0], tombstone(BASE + 1))
    for _ in range(2):
        assert (await run([a, Member(b, readonly=True)], 2)).ok
    assert (await a.listing(), await b.listing()) == ([], [IDS[0]])


@ensureDeferred
async def test_a_surplus_tombstone_stays_while_a_holder_does_not_know_of_the_deletion():
    """It has stored the object again, or has lost the tombstone, since it was listed."""
    members = stores("a", "b", "c")
    for store in members:
        await store.reconcile(IDS[0], tombstone(BASE + 1))
    holders = replica_set(IDS[0], members, 2)
    (surplus,) = (store for store in members if store not in holders)

    class Forgetful(MemoryStore):
        async def stat(self, id):
            return BlobInfo(id, 1, {})

    forgetful = Forgetful(holders[0].name)
    forgetful.blobs = holders[0].blobs
    seen = [forgetful if store is holders[0] else store for store in members]
    recorded = RecordedReport()
    assert (await run(seen, 2, recorded, moves=True)).failed == 1
    assert "does not know that" in recorded.warnings[0]
    assert IDS[0] in surplus.blobs
    assert (await run(members, 2, moves=True)).moved == 1
    assert IDS[0] not in surplus.blobs
