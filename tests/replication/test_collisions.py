"""Servers that hold different bodies under one content id."""

from __future__ import annotations

from pytest_twisted import ensureDeferred

from sos.replication.pass_state import PassState
from sos.stores.memory import MemoryStore
from tests.replication.groups import RecordedReport, replica_set, run, stores
from tests.support.blobs import colliding, content_id, put

FIRST, SECOND = colliding(1000)
ID = content_id(FIRST)


def about(warnings):
    return [line for line in warnings if ID in line]


class Silent(MemoryStore):
    """Has what it does not list; counts who wants to write."""

    writers = 0

    async def digests(self):
        return {}

    async def blob_digests(self, partition):
        return {}

    def writer(self, *arguments):
        self.writers += 1
        return super().writer(*arguments)


@ensureDeferred
async def test_a_copy_elsewhere_stays_while_a_holder_has_another_body(reactor):
    """It may be the last of its body; that it hashes to its id does not tell."""
    servers = stores("a", "b", "c")
    holders = replica_set(ID, servers, 2)
    (leaving,) = set(servers) - set(holders)
    await put(leaving, FIRST)
    for holder in holders:
        await put(holder, SECOND)
    recorded, state = RecordedReport(), PassState()
    summary = await run(servers, 2, recorded, state=state)
    assert (summary.moved, summary.failed, summary.disputed, summary.ok) == (0, 0, 1, False)
    assert [store.blobs[ID].body for store in holders] == [SECOND, SECOND]
    assert leaving.blobs[ID].body == FIRST
    assert len(about(recorded.warnings)) == 1
    again = RecordedReport()
    summary = await run(servers, 2, again, state=state)
    assert (summary.moved, summary.disputed, summary.ok) == (0, 1, False)
    assert about(again.warnings) == []


@ensureDeferred
async def test_a_copy_elsewhere_of_the_same_body_is_dropped(reactor):
    """When all of the holders give it back, whatever its hash is."""
    servers = stores("a", "b", "c")
    for server in servers:
        await put(server, FIRST)
    summary = await run(servers, 2)
    assert (summary.moved, summary.disputed, summary.ok) == (1, 0, True)
    assert [store for store in servers if ID in store.blobs] == replica_set(ID, servers, 2)


@ensureDeferred
async def test_a_copy_that_is_refused_is_told_once(reactor):
    """It is not tried again at once, nor by the next pass, and what is there stays."""
    one, other = MemoryStore("a"), Silent("b")
    await put(one, FIRST)
    await put(other, SECOND)
    other.writers = 0
    recorded, state = RecordedReport(), PassState()
    summary = await run((one, other), 2, recorded, state=state)
    assert (summary.copied, summary.failed, summary.disputed, summary.ok) == (0, 0, 1, False)
    (line,) = about(recorded.warnings)
    assert line.startswith(f"{ID} has different bodies on different servers: a and b:")
    again = RecordedReport()
    summary = await run((one, other), 2, again, state=state)
    assert (summary.disputed, about(again.warnings), other.writers) == (1, [], 1)
    assert other.blobs[ID].body == SECOND
