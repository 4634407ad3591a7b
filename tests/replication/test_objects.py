"""Objects in chunks of which chunks are gone: what a pass tells of them."""

from __future__ import annotations

from random import Random

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import NotFound, Unavailable
from sos.interfaces import Member
from sos.replication import Policy, ReplicationService, objects
from sos.replication.pass_state import PassState
from sos.stores.memory import MemoryStore
from tests.replication.groups import OriginalStore, RecordedReport, group, run, stores
from tests.stores.chunked.chunks import ids_of, over, replicated
from tests.support.blobs import body_of, content_id, manifest_of, put
from tests.support.doubles import FailingStore

SIZE = 100
COUNT = 7
BODY = body_of(COUNT * SIZE)
ID = content_id(BODY)
CHUNKS = ids_of(BODY, SIZE)


async def filled(servers, body=BODY, size=SIZE):
    """Put an object in chunks on all of *servers*; return its id."""
    id, manifest, metadata = manifest_of(body, size)
    for server in servers:
        for start in range(0, len(body), size):
            await put(server, body[start : start + size])
        await put(server, manifest, id, metadata)
    return id


def lose(servers, *gone):
    for server in servers:
        for id in gone:
            server.blobs.pop(id, None)


class Counting(MemoryStore):
    """Counts what it is asked: see ``asked``."""

    def __init__(self, name):
        super().__init__(name)
        self.asked = []

    async def stat(self, id):
        self.asked.append(("stat", id))
        return await super().stat(id)

    async def read(self, id, span=None):
        self.asked.append(("read", id))
        return await super().read(id, span)

    async def blob_digests(self, partition):
        self.asked.append(("list", partition))
        return await super().blob_digests(partition)


@pytest.mark.parametrize("number", range(COUNT))
@ensureDeferred
async def test_a_chunk_that_no_server_has(number):
    """All servers hold the same, and yet not all is well."""
    servers = stores("a", "b", "c")
    await filled(servers)
    summary = await run(servers, 3)
    assert (summary.ok, summary.idle, summary.broken) == (True, True, 0)
    lose(servers, CHUNKS[number])
    recorded = RecordedReport()
    summary = await run(servers, 3, recorded)
    assert (summary.ok, summary.idle, summary.broken) == (False, False, 1)
    assert "1 objects are lost" in str(summary)
    assert recorded.warnings == [
        f"{ID} is broken: no server has 1 of its 7 chunks, the first is {CHUNKS[number]}; "
        "upload it again"
    ]
    await put(servers[1], BODY[number * SIZE : (number + 1) * SIZE])
    assert (await run(servers, 3)).ok


@ensureDeferred
async def test_several_objects():
    """Each is told of once, and those that are whole are not."""
    servers = stores("a", "b")
    bodies = [Random(seed).randbytes(1000) for seed in range(20)]
    whole = [await filled(servers, body, 90) for body in bodies]
    for body in bodies[:5]:
        lose(servers, *ids_of(body, 90)[3:8])
    recorded = RecordedReport()
    summary = await run(servers, 2, recorded)
    assert (summary.broken, len(recorded.warnings)) == (5, 5)
    assert {line.split()[0] for line in recorded.warnings} == set(whole[:5])
    assert all("no server has 5" in line for line in recorded.warnings)


@ensureDeferred
async def test_a_dry_run_tells_of_it_as_well():
    servers = stores("a", "b")
    await filled(servers)
    lose(servers, CHUNKS[0])
    assert (await run(servers, 2, dry_run=True)).broken == 1


@ensureDeferred
async def test_a_chunk_in_another_group():
    """Where a blob is depends on its own id, and on what had room."""
    a, b, c, d = stores("a", "b", "c", "d")
    await filled((a, b))
    lose((a, b), *CHUNKS[2:5])
    for n in (2, 3, 4):
        await put(d, BODY[n * SIZE : (n + 1) * SIZE])
    groups = {"first": group(a, b), "second": group(c, d)}
    assert (await run(groups, 2)).ok
    lose((c, d), CHUNKS[3])
    summary = await run(groups, 2)
    assert (summary.ok, summary.broken) == (False, 1)


@ensureDeferred
async def test_a_chunk_on_one_that_is_only_read_from():
    """Wherever it is, it is there."""
    a, b = stores("a", "b")
    await filled((a,))
    await put(b, BODY[:SIZE])
    lose((a,), CHUNKS[0])
    assert (await run((a, Member(b, readonly=True)), 1)).ok


@pytest.mark.parametrize("asked", ["digests", "blob_digests", "stat"])
@ensureDeferred
async def test_a_server_that_does_not_tell(asked):
    """Then it cannot be told whether a chunk is gone: neither is said."""

    class Silent(MemoryStore):
        pass

    async def fails(*arguments):
        raise Unavailable("it does not say")

    servers = Silent("a"), *stores("b", "c")
    await filled(servers)
    lose(servers, CHUNKS[3])
    setattr(servers[0], asked, fails)
    recorded = RecordedReport()
    summary = await run(servers, 3, recorded)
    assert (summary.ok, summary.broken, summary.unlisted) == (False, 0, ["a"])
    assert len(recorded.warnings) == 1


@ensureDeferred
async def test_a_server_that_stands_still_ends_no_pass():
    """It is waited for once."""

    class Still(MemoryStore):
        async def stat(self, id):
            await Deferred()

    clock = Clock()
    servers = stores("a", "b")
    await filled(servers)
    lose(servers, *CHUNKS[1:4])
    still = Still("c")
    still.blobs = dict(servers[0].blobs)
    done = deferred(run((*servers, still), 3, clock=clock))
    clock.pump([1.0] * 20)
    summary = await done
    assert (summary.broken, summary.unlisted) == (0, ["c"])


@ensureDeferred
async def test_a_manifest_that_cannot_be_read():
    """Nobody knows what it would tell."""

    class Unreadable(MemoryStore):
        async def read(self, id, span=None):
            if id == ID:
                raise NotFound("no")
            return await super().read(id, span)

    a, b = Unreadable("a"), Unreadable("b")
    await filled((a, b))
    recorded = RecordedReport()
    summary = await run((a, b), 2, recorded)
    assert (summary.ok, summary.failed, summary.broken) == (False, 1, 0)
    assert "the manifest of" in recorded.warnings[0]
    assert (await run((a, MemoryStore("b")), 2)).failed  # and from one that has it
    c = MemoryStore("c")
    await filled((c,))
    assert (await run((a, b, c), 3)).ok


@ensureDeferred
async def test_a_chunk_that_is_moved_meanwhile():
    """From one that is asked late to one that was asked early."""

    class Moving(MemoryStore):
        to = None

        async def blob_digests(self, partition):
            for server in self.to or ():
                await put(server, BODY[:SIZE])
            if self.to:
                self.blobs.pop(CHUNKS[0], None)
            return await super().blob_digests(partition)

        async def stat(self, id):
            await self.blob_digests(id[:3])
            return await super().stat(id)

    servers = Moving("a"), Moving("b")
    await filled(servers)
    lose(servers, CHUNKS[0])
    for late, early in (servers, servers[::-1]):
        late.to = (early,)
        await put(late, BODY[:SIZE])
        summary = await run(servers, 1, moves=False)
        assert summary.broken == 0
        late.to = None


@ensureDeferred
async def test_the_object_itself_beside_its_manifest():
    """What its chunks were does not matter any more."""
    servers = stores("a", "b")
    await filled(servers)
    lose(servers, CHUNKS[0])
    await put(servers[1], BODY)
    assert (await run(servers, 2)).ok
    assert (await run(servers, 2)).ok


@ensureDeferred
async def test_a_chunk_that_is_an_object_itself():
    """It is there when its manifest is; and that is looked at by itself."""
    servers = stores("a", "b")
    await filled(servers)
    lose(servers, CHUNKS[0])
    await filled(servers, BODY[:SIZE], 30)
    assert (await run(servers, 2)).ok
    lose(servers, ids_of(BODY[:SIZE], 30)[1])
    assert (await run(servers, 2)).broken == 1


@pytest.mark.parametrize("mixed", [True, False])
@ensureDeferred
async def test_servers_of_the_original_system(mixed):
    """They do not tell what a blob is, but when it is asked for."""
    servers = OriginalStore("a"), MemoryStore("b") if mixed else OriginalStore("b")
    await filled(servers[:1])
    summary = await run(servers, 2)
    assert (summary.ok, summary.copied) == (True, COUNT + 1)
    lose(servers, CHUNKS[5])
    summary = await run(servers, 2)
    assert (summary.ok, summary.broken) == (False, 1)


# What it costs.


@ensureDeferred
async def test_many_chunks_of_a_partition_are_listed_and_few_are_asked_for():
    """By what takes less."""
    a = Counting("a")
    partition = CHUNKS[0][:3]
    await filled((a,))
    for n in range(500):
        a.blobs[f"{partition}{n:037x}"] = a.blobs[CHUNKS[0]]
    a.asked.clear()
    assert (await run((a,), 1)).ok
    assert ("stat", CHUNKS[0]) in a.asked  # for 500 are more than one is worth
    assert [id for what, id in a.asked if what == "stat"] == [CHUNKS[0]]
    assert [id for what, id in a.asked if what == "read"] == [ID]


@ensureDeferred
async def test_what_has_not_changed_is_not_looked_at_again():
    """Nor forgotten; until something changes, or an hour has passed."""
    servers, clock, state, recorded = (
        (Counting("a"), Counting("b")),
        Clock(),
        PassState(),
        RecordedReport(),
    )
    clock.advance(10_000)
    await filled(servers)
    lose(servers, CHUNKS[0])

    async def made():
        for server in servers:
            server.asked.clear()
        summary = await run(servers, 2, recorded, clock, state)
        return summary.broken, any(server.asked for server in servers)

    assert await made() == (1, True)
    for _ in range(3):
        assert await made() == (1, False)
    clock.advance(3601)
    assert await made() == (1, True)
    assert len(recorded.warnings) == 1
    await put(servers[0], BODY[:SIZE])
    assert await made() == (0, True)
    await made()  # for the copy that was made is a change
    assert await made() == (0, False)
    lose(servers, CHUNKS[1])
    assert await made() == (1, True)
    assert len(recorded.warnings) == 2


@ensureDeferred
async def test_a_service_looks_at_some_in_turn(monkeypatch):
    """Each pass at as many as it may, and all come to be looked at; what is broken, each time."""
    monkeypatch.setattr(objects, "TURN_PARTITIONS", 10)
    clock, (a, b) = Clock(), (Counting("a"), Counting("b"))
    bodies = [Random(seed).randbytes(300) for seed in range(20)]
    for body in bodies:
        await filled((a, b), body)
    for body in bodies[:3]:
        lose((a, b), ids_of(body, SIZE)[1])
    partitions = len(await a.digests())
    service = ReplicationService({"g": group(a, b)}, Policy(2), 10.0, clock, set())
    service.startService()
    found, looked = [], set()
    for _ in range(partitions // 10 + 1):
        a.asked.clear()
        clock.advance(12.1)
        found.append(service.last.summary.broken)
        looked |= {id[:3] for what, id in a.asked if what == "read"}
        assert len([each for each in a.asked if each[0] == "read"]) <= 10 + 3
    assert found == sorted(found)
    assert (found[-1], service.passes["ok"]) == (3, found.count(0))
    assert looked == {content_id(body)[:3] for body in bodies}
    a.asked.clear()
    clock.advance(12.1)
    assert (a.asked, service.last.summary.broken) == ([], 3)
    await put(a, bodies[0][SIZE : 2 * SIZE])
    clock.advance(12.1)
    assert service.last.summary.broken == 2
    await service.stopService()


@ensureDeferred
async def test_a_server_that_is_away_makes_nothing_whole(monkeypatch):
    """What was known to be broken stays so until it has been seen to be whole."""
    clock, state, (a, b) = Clock(), PassState(), stores("a", "b")
    await filled((a, b))
    lose((a, b), CHUNKS[0])
    assert (await run((a, b), 2, clock=clock, state=state)).broken == 1
    summary = await run((a, FailingStore("b")), 2, clock=clock, state=state)
    assert summary.broken == 1
    both_away = (FailingStore("a"), FailingStore("b"))
    assert (await run(both_away, 2, clock=clock, state=state)).broken == 1
    await put(b, BODY[:SIZE])
    assert (await run((a, b), 2, clock=clock, state=state)).ok


@ensureDeferred
async def test_what_is_uploaded_again_is_whole(reactor):
    """As an API server stores it."""
    servers = stores("a", "b")
    store = over(replicated(reactor, *servers), reactor, SIZE)
    await put(store, BODY)
    await run(servers, 2)
    lose(servers, *CHUNKS[2:4])
    assert (await run(servers, 2)).broken == 1
    await put(store, BODY)
    assert (await run(servers, 2)).ok
