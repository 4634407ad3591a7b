"""Passes over blob servers, which copy small blobs many at a time."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from sos import batch
from sos.batch import SMALL
from sos.errors import NoSpace, Unavailable
from sos.interfaces import IBatchStore
from sos.model.ids import partition
from sos.replication.batching import Batches
from sos.stores.memory import MemoryStore
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.replication.groups import RecordedReport, run
from tests.support.blobs import body_of, content_id, put
from tests.support.servers import serving

# Ids of 16 partitions, so that hundreds of steps are under way at once.
FEW_PARTITIONS = [f"n{n}" for n in range(200_000) if partition(f"n{n}").startswith("ab")][:600]


class Counted:
    """A blob server over *store*.

    :ivar asked: method and first segment of the path of each request.
    :ivar largest: body of a request, in bytes.
    :ivar refuses: whether it knows no batches.
    """

    def __init__(self, store):
        self._answer = handler(BlobServer(store).app)
        self.asked = []
        self.largest = 0
        self.refuses = False

    def __call__(self, request):
        self.asked.append(f"{request.method.decode()} {request.path.decode().split('/')[1]}")
        self.largest = max(self.largest, request.body.length)
        if request.path == b"/batch" and self.refuses:
            request.setResponseCode(404)
            request.finish(b"")
        else:
            self._answer(request)


class Full(MemoryStore):
    def writer(self, id=None, metadata=None, size=None):
        raise NoSpace("it is full")


class Group:
    """Blob servers over stores in memory."""

    def __init__(self, reactor):
        self._reactor = reactor
        self._stack = AsyncExitStack()
        self.members = []

    async def add(self, kept):
        """Serve *kept*; returns what counts its requests."""
        server = Counted(kept)
        self.members.append(await self._stack.enter_async_context(serving(server, self._reactor)))
        return server

    async def close(self):
        await self._stack.aclose()


@async_yield_fixture
async def group(reactor):
    group = Group(reactor)
    yield group
    await group.close()


@ensureDeferred
async def test_small_blobs_go_together(group):
    """With their metadata; larger ones each by itself, and none twice."""
    a, b = MemoryStore(), MemoryStore()
    source, target = await group.add(a), await group.add(b)
    for n in range(300):
        await put(a, b"%d" % n, f"{n:04}", {"X-A": str(n)})  # of a few partitions
    large = await put(a, body_of(SMALL + 1), "large")
    summary = await run(group.members, 2)
    assert (summary.ok, summary.copied) == (True, 301)
    assert summary.bytes == sum(stored.info.size for stored in a.blobs.values())
    assert {id: each.info.metadata for id, each in b.blobs.items()} == {
        id: each.info.metadata for id, each in a.blobs.items()
    }
    assert (source.asked.count("GET blob"), target.asked.count("POST blob")) == (1, 1)
    assert large.id in b.blobs
    assert 5 <= source.asked.count("GET batch") == target.asked.count("POST batch") < 150


@ensureDeferred
async def test_a_batch_is_small(group, reactor):
    """A server answers nobody else while it goes through one."""
    a, b = MemoryStore(), MemoryStore()
    source, target = await group.add(a), await group.add(b)
    stores = {member.name: member for member in group.members}
    batches = Batches(stores, reactor, print)
    infos = [await put(a, body_of(SMALL - n)) for n in range(200)]
    work = [batches.copy(each.id, each.size, *stores) for each in infos]
    assert all(await gatherResults([deferred(each) for each in work]))
    assert len(b.blobs) == 200
    assert 10 * SMALL < target.largest < 400_000
    assert len(source.asked) == len(target.asked) < 20


@ensureDeferred
async def test_what_a_batch_lacks_is_copied_by_itself(group):
    """From whom has it, with a word on who has not; the others of the batch are not held up."""

    class Damaged(MemoryStore):
        async def read(self, id, span=None):
            if id == bad:
                raise Unavailable("it is damaged")
            return await super().read(id, span)

    a, b, c = Damaged(), MemoryStore(), MemoryStore()
    bad = content_id(b"0")
    for kept in (a, b, c):
        await group.add(kept)
    for n in range(50):
        await put(a, b"%d" % n)
        await put(b, b"%d" % n)
    recorded = RecordedReport()
    summary = await run(group.members, 3, recorded)
    assert (summary.ok, summary.copied, len(c.blobs)) == (True, 50, 50)
    assert all(bad in warning and "damaged" in warning for warning in recorded.warnings)


@ensureDeferred
async def test_a_target_that_is_full(group):
    """It is asked for no more than what was under way."""

    a = MemoryStore()
    await group.add(a)
    target = await group.add(Full())
    for n in range(1000):
        await put(a, b"%d" % n)
    recorded = RecordedReport()
    summary = await run(group.members, 2, recorded)
    assert (summary.ok, summary.copied, summary.failed) == (False, 0, 1000)
    assert "it is full" in recorded.warnings[0]
    assert len(target.asked) - target.asked.count("GET digests") < 50


@ensureDeferred
async def test_hundreds_that_fail_at_once(group):
    """As with larger blobs, that wait until it is seen that the target is full: the pass ends."""

    a = MemoryStore()
    await group.add(a)
    await group.add(Full())
    for id in FEW_PARTITIONS:
        await put(a, body_of(SMALL + 1), id)
    summary = await run(group.members, 2)
    assert (summary.copied, summary.failed) == (0, len(FEW_PARTITIONS))


@ensureDeferred
async def test_hundreds_that_stay_because_another_pass_has_the_lease(group):
    """As that of another API server: the pass ends."""
    kept = [MemoryStore() for _ in range(3)]
    for each in kept:
        await group.add(each)
        for id in FEW_PARTITIONS:
            await put(each, b"x", id)
    await kept[0].lease(300)
    summary = await run(group.members, 2)
    assert (summary.moved, summary.staying) == (0, len(FEW_PARTITIONS))


@ensureDeferred
async def test_a_source_that_fails(group):
    """Another that has the same is asked for batches as well."""

    class Failing(MemoryStore):
        async def read(self, id, span=None):
            raise Unavailable("its disk is gone")

    _, b, _ = [await group.add(kept) for kept in (Failing(), MemoryStore(), MemoryStore())]
    for id in FEW_PARTITIONS:
        for member in group.members[:2]:
            await put(member, b"x", id)
    summary = await run(group.members, 3)
    assert (summary.copied, summary.failed) == (len(FEW_PARTITIONS), 0)
    assert b.asked.count("GET blob") < len(FEW_PARTITIONS) / 4


@ensureDeferred
async def test_a_server_that_hangs_is_asked_for_no_more_batches(reactor):
    """The others do not wait long for that."""

    @implementer(IBatchStore)
    class Batching(MemoryStore):
        async def read_batch(self, wanted):
            return [await self.read(id) for id in wanted]

        async def store_batch(self, blobs):
            if self.name == "hangs":
                asked.append(len(blobs))
                await Deferred()
            return frozenset(await batch.store_in(self, blobs))

        def writer(self, id=None, metadata=None, size=None):
            if self.name == "hangs":
                raise Unavailable("it does not answer")
            return super().writer(id, metadata or {}, size)

    asked = []
    a, b, c = (Batching(name) for name in ("a", "hangs", "c"))
    for id in FEW_PARTITIONS:
        await put(a, b"x", id)
    clock = Clock()
    work = deferred(run((a, b, c), 3, clock=clock))
    clock.advance(20)
    clock.pump([1] * 10)
    assert (await work).copied == len(c.blobs) == len(FEW_PARTITIONS)
    assert len(asked) == 3


@pytest.mark.parametrize("which", [0, 1])
@ensureDeferred
async def test_a_server_that_knows_no_batches(group, which):
    """It is asked for one a few times, and then for each blob."""
    a, b = MemoryStore(), MemoryStore()
    servers = await group.add(a), await group.add(b)
    servers[which].refuses = True
    for n in range(500):
        await put(a, b"%d" % n)
    recorded = RecordedReport()
    summary = await run(group.members, 2, recorded)
    assert (summary.ok, len(b.blobs)) == (True, 500)
    (note,) = [note for note in recorded.notes if "one by one" in note]
    assert "answered 404" in note
    assert servers[which].asked.count(("GET", "POST")[which] + " batch") < 10


@ensureDeferred
async def test_a_mistake_of_ours_in_a_batch_ends_the_pass():
    """Nobody waits for ever, and it does not look like a success."""

    @implementer(IBatchStore)
    class Mistaken(MemoryStore):
        async def read_batch(self, wanted):
            raise ZeroDivisionError

        async def store_batch(self, blobs):
            raise AssertionError("nothing was read")

    a, b = Mistaken("a"), Mistaken("b")
    for id in FEW_PARTITIONS:
        await put(a, b"x", id)
    summary = await run((a, b), 2)
    assert (summary.ok, summary.unlisted) == (False, ["group default"])


@ensureDeferred
async def test_a_pass_that_is_stopped_stops_its_batches(group, reactor):
    """None is begun in place of those that end."""

    class Slow(MemoryStore):
        asked = 0

        async def read(self, id, span=None):
            self.asked += 1
            began.called or began.callback(None)
            await Deferred()

    began = Deferred()
    a, b = Slow(), MemoryStore()
    source = await group.add(a)
    await group.add(b)
    for n in range(1000):
        await put(a, b"%d" % n)
    work = deferred(run(group.members, 2))
    await began
    await deferLater(reactor, 0.5)  # so that others wait
    work.cancel()
    work.addErrback(lambda failure: None)
    await deferLater(reactor, 0.1)
    assert source.asked.count("GET batch") <= 3
    assert b.blobs == {}
