"""The chunked store: the contract, and what becomes of a body in chunks."""

from __future__ import annotations

import os
from contextlib import aclosing
from hashlib import sha256

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from sos.errors import Incomplete, Mismatch, NoSpace, NotFound, TooLarge, Unavailable
from sos.interfaces import SMALL_BODY, Member
from sos.manifest import MARK, MAX_CHUNKS, Chunk, Manifest, encode, parse
from sos.stores.assembled import MOST_AHEAD
from sos.stores.chunked import MOST_PLACING, ChunkedStore
from sos.stores.lane import threads_of
from sos.stores.memory import MemoryStore
from sos.stores.replicated import Copying, ReplicatedStore
from sos.stores.spool import IPlacingStore
from sos.web.blob import BlobServer
from sos.web.routes import handler
from tests.contract import StoreContract, body_of, content, content_id, manifest_of, put
from tests.doubles import PlacingStore
from tests.servers import serving

SIZE = 1000


def over(placing, reactor, chunk_size=SIZE):
    return ChunkedStore(placing, chunk_size, threads_of(reactor))


def replicated(reactor, *stores):
    copying = Copying(wanted=1)
    groups = {"g": tuple(map(Member, stores))}
    return ReplicatedStore(groups, threads_of(reactor), reactor, copying=copying)


class TestChunkedStore(StoreContract):
    """With all that fits in a chunk."""

    @pytest.fixture
    def store(self, reactor):
        placing = replicated(reactor, MemoryStore("a"), MemoryStore("b"))
        return over(placing, reactor, 8 * 1024 * 1024)


class InChunks(StoreContract):
    """The contract, but that chunks are listed as well, and stay after an abort."""

    @pytest.mark.parametrize("size", [10, 100_000])
    @ensureDeferred
    async def test_an_aborted_blob_leaves_nothing(self, store, size):
        """But chunks; the same can be stored afresh."""
        body = body_of(size)
        writer = store.writer(content_id(body), size=size)
        await writer.write(body)
        writer.abort()
        writer.abort()
        with pytest.raises(NotFound):
            await store.stat(content_id(body))
        info = await put(store, body)
        assert await content(await store.read(info.id)) == body

    @pytest.mark.parametrize("size", [10, 200_000])
    @ensureDeferred
    async def test_the_same_blob_can_be_stored_by_several_at_once(self, store, size):
        """All of them succeed, and there is one blob."""
        body = body_of(size)
        writing = [deferred(put(store, body)) for _ in range(8)]
        stored = [await each for each in writing]
        assert {info.id for info in stored} == {content_id(body)}
        assert (await store.listing()).count(content_id(body)) == 1
        assert await content(await store.read(content_id(body))) == body


class TestTinyChunks(InChunks):
    @pytest.fixture
    def store(self, reactor):
        return over(replicated(reactor, MemoryStore("a"), MemoryStore("b")), reactor)


class TestChunksInFiles(InChunks):
    """Chunks that are spooled and stored in files, on a server over HTTP."""

    @async_yield_fixture
    async def store(self, local_store, reactor):
        async with serving(handler(BlobServer(local_store).app), reactor) as remote:
            yield over(replicated(reactor, remote), reactor, 2 * SMALL_BODY)


@pytest.fixture
def placing():
    return PlacingStore()


@pytest.fixture
def store(placing, reactor):
    return over(placing, reactor)


def chunks_of(body, size=SIZE):
    return [body[start : start + size] for start in range(0, len(body), size)]


def ids_of(body, size=SIZE):
    return list(map(content_id, chunks_of(body, size)))


def test_the_double_is_a_placing_store(placing, reactor):
    """As is the replicated store."""
    assert verifyObject(IPlacingStore, placing)
    assert verifyObject(IPlacingStore, replicated(reactor, placing))


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE])
@ensureDeferred
async def test_what_fits_in_a_chunk_is_a_plain_blob(store, placing, size):
    """Under its id, with its metadata, and nothing else."""
    body = body_of(size)
    info = await put(store, body, metadata={"X-A": "1"})
    assert placing.placed == [info.id]
    assert placing.blobs[info.id].body == body
    assert placing.blobs[info.id].info.metadata == {"X-A": "1"}


@pytest.mark.parametrize("pieces", [1, 333, SIZE, 1_000_000])
@pytest.mark.parametrize("size", [SIZE + 1, 2 * SIZE - 1, 2 * SIZE, 2 * SIZE + 1, 5 * SIZE])
@ensureDeferred
async def test_a_longer_body_is_chunks_and_a_manifest(store, placing, size, pieces):
    """The manifest comes last and has the metadata; the chunks have none."""
    body = body_of(size)
    writer = store.writer(None, {"X-A": "1"}, size)
    for start in range(0, size, pieces):
        await writer.write(body[start : start + pieces])
    info = await writer.commit()
    assert (info.id, info.size, info.metadata) == (content_id(body), size, {"X-A": "1"})
    assert placing.placed == [*ids_of(body), info.id]
    held = placing.blobs.pop(info.id)
    assert held.info.metadata == {"X-A": "1", MARK: str(size)}
    found = parse(held.body, info.id, str(size))
    assert found.chunks == tuple((content_id(each), len(each)) for each in chunks_of(body))
    assert [placing.blobs[id].body for id in ids_of(body)] == chunks_of(body)
    assert all(each.info.metadata == {} for each in placing.blobs.values())


@ensureDeferred
async def test_chunks_that_are_equal_are_stored_once(store, placing):
    """Within one object, and between several."""
    first = await put(store, bytes(10 * SIZE))
    assert set(placing.blobs) == {content_id(bytes(SIZE)), first.id}
    second = await put(store, bytes(11 * SIZE))
    assert set(placing.blobs) == {content_id(bytes(SIZE)), first.id, second.id}
    assert await content(await store.read(first.id)) == bytes(10 * SIZE)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@ensureDeferred
async def test_chunks_are_named_by_the_hash_of_the_whole(placing, reactor, algorithm):
    """Whether it is the store's choice or that of who uploads."""
    body = body_of(5 * SIZE)
    for chosen, id in ((algorithm, None), ("sha1", content_id(body)), ("sha1", sha256(body))):
        store = ChunkedStore(placing, SIZE, threads_of(reactor), chosen)
        info = await put(store, body, id if id is None or isinstance(id, str) else id.hexdigest())
        text = placing.blobs[info.id].body
        assert {len(chunk.id) for chunk in parse(text, info.id, "5000").chunks} == {len(info.id)}


@ensureDeferred
async def test_what_an_object_is_takes_one_question(store, placing):
    """Its size is that of the whole, and nothing shows that it is in chunks."""
    info = await put(store, body_of(5 * SIZE), metadata={"X-A": "1"})
    placing.asked.clear()
    found = await store.stat(info.id)
    assert (found.size, found.metadata) == (5 * SIZE, {"X-A": "1"})
    assert placing.asked == [("stat", info.id)]
    blob = await store.read(info.id)
    assert (blob.info.size, blob.info.metadata) == (5 * SIZE, {"X-A": "1"})
    assert blob.info.stored_at == found.stored_at


@ensureDeferred
async def test_an_opaque_name_is_stored_in_one_piece(store, placing):
    """What its bytes are, no manifest could tell."""
    await put(store, body_of(5 * SIZE), "name")
    assert placing.blobs["name"].body == body_of(5 * SIZE)
    assert list(placing.blobs) == ["name"]


@pytest.mark.parametrize("size", [SIZE, SIZE + 1, 5 * SIZE])
@ensureDeferred
async def test_a_body_that_is_not_what_was_announced_has_no_manifest(store, placing, size):
    """Neither of another size nor of another id."""
    body = body_of(size)
    with pytest.raises(Mismatch):
        await put(store, body[:-1] + b"!", content_id(body))
    writer = store.writer(None, size=size + 1)
    await writer.write(body)
    with pytest.raises(Incomplete):
        await writer.commit()
    assert not any(MARK in each.info.metadata for each in placing.blobs.values())
    assert content_id(body) not in placing.blobs


@ensureDeferred
async def test_an_object_of_too_many_chunks_is_refused(store, placing):
    """At once when its size is known, and otherwise when it is that long."""
    with pytest.raises(TooLarge):
        store.writer(size=SIZE * MAX_CHUNKS + 1)
    store.writer(size=SIZE * MAX_CHUNKS).abort()
    writer = ChunkedStore(placing, 1, maybeDeferred).writer()
    with pytest.raises(TooLarge):
        await writer.write(bytes(MAX_CHUNKS + 2))
    writer.abort()


def now(work):
    """Return the result of a coroutine that need not wait for anything."""
    outcome = []
    deferred(work).addBoth(outcome.append)
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]


@given(st.integers(1, 40), st.integers(0, 400), st.data())
def test_any_part_is_that_of_the_whole(chunk_size, size, data):
    """And only the chunks that it lies in are asked for."""
    body = sha256(b"%d" % size).digest() * 13
    body = body[:size]
    placing = PlacingStore()
    store = ChunkedStore(placing, chunk_size, maybeDeferred)
    id = now(put(store, body)).id
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    placing.asked.clear()
    blob = now(store.read(id, (start, stop)))
    assert (blob.info.size, now(content(blob))) == (size, body[start:stop])
    if size > chunk_size:
        touched = ids_of(body, chunk_size)[start // chunk_size : -(-stop // chunk_size)]
        read = [each[1] for each in placing.asked if each[0] == "read"]
        assert read == [id, *(touched if stop > start else [])]
    assert now(content(now(store.read(id)))) == body
    assert placing.open == set()


LARGE = body_of(2 * SMALL_BODY, seed=1)
MANY = 10_000  # bytes of each chunk of that


@pytest.fixture
def large_chunks(placing, reactor):
    return over(placing, reactor, MANY)


@pytest.fixture
def ids():
    return ids_of(LARGE, MANY)


async def pieces_of(store, id, span=None):
    """Return the pieces that come, and what ends them."""
    pieces = []
    try:
        blob = await store.read(id, span)
        async with aclosing(blob.body):
            async for piece in blob.body:
                assert piece
                pieces.append(piece)
    except Exception as error:
        return pieces, error
    return pieces, None


@pytest.mark.parametrize("number", [0, 5, 13])
@ensureDeferred
async def test_a_chunk_that_is_missing_is_not_the_end(large_chunks, placing, ids, number):
    """Nor is the object missing: it is not available, and not all of it is sent."""
    id = (await put(large_chunks, LARGE)).id
    del placing.blobs[ids[number]]
    pieces, error = await pieces_of(large_chunks, id)
    assert isinstance(error, Unavailable)
    assert b"".join(pieces) == LARGE[: len(b"".join(pieces))]
    assert len(b"".join(pieces)) <= number * MANY
    assert placing.open == set()
    span = (number * MANY, number * MANY + 1)
    assert isinstance((await pieces_of(large_chunks, id, span))[1], Unavailable)
    assert placing.open == set()


@pytest.mark.parametrize("number", [0, 5, 13])
@ensureDeferred
async def test_what_is_put_together_is_verified_as_a_whole(large_chunks, placing, ids, number):
    """The last piece comes only when all match the id."""
    id = (await put(large_chunks, LARGE)).id
    held = placing.blobs[ids[number]]
    placing.blobs[ids[number]] = evolve(held, body=held.body[:-1] + b"!")
    pieces, error = await pieces_of(large_chunks, id)
    assert isinstance(error, Mismatch)
    assert 0 < len(LARGE) - len(b"".join(pieces)) <= MANY
    assert placing.open == set()


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("told", [True, False])
@ensureDeferred
async def test_a_chunk_of_another_length_is_not_used(large_chunks, placing, ids, change, told):
    """Whether its size is told, as other than it was, or not."""
    id = (await put(large_chunks, LARGE)).id
    held = placing.blobs[ids[5]]
    info = evolve(held.info, size=MANY + change if told else None)
    placing.blobs[ids[5]] = evolve(held, info=info, body=body_of(MANY + change))
    for span in (None, (5 * MANY, 6 * MANY), (0, len(LARGE))):
        pieces, error = await pieces_of(large_chunks, id, span)
        assert isinstance(error, Unavailable)
        assert len(b"".join(pieces)) <= 6 * MANY
    if told:
        _, error = await pieces_of(large_chunks, id, (5 * MANY + 3, 5 * MANY + 9))
        assert isinstance(error, Unavailable)
    assert placing.open == set()


@ensureDeferred
async def test_a_part_that_comes_empty_is_no_piece(reactor, ids):
    """Nothing follows what there is of the chunk, and that is told."""
    kept = MemoryStore()
    store = over(replicated(reactor, kept), reactor, MANY)
    id = (await put(store, LARGE)).id
    held = kept.blobs[ids[5]]
    short = evolve(held, info=evolve(held.info, size=None), body=held.body[:-1])
    kept.blobs[ids[5]] = short
    _, error = await pieces_of(store, id, (0, len(LARGE)))
    assert isinstance(error, Unavailable)


@ensureDeferred
async def test_a_manifest_that_lies_is_found_out(placing, store):
    """Small or large, the bytes are not passed off as the object."""
    for body in (body_of(5 * SIZE), LARGE):
        id = content_id(body + b"!")
        chunks = tuple(Chunk(content_id(each), len(each)) for each in chunks_of(body))
        for each in chunks_of(body):
            await put(placing, each)
        await put(placing, encode(Manifest(id, len(body), chunks)), id, {MARK: str(len(body))})
        _, error = await pieces_of(store, id)
        assert isinstance(error, Mismatch if len(body) > SMALL_BODY else Unavailable)
    assert placing.open == set()


@pytest.mark.parametrize("metadata", [{MARK: "1"}, {MARK: "x"}, {MARK: ""}])
@ensureDeferred
async def test_a_manifest_that_is_none_cannot_be_read(placing, store, metadata):
    """It is that copy's failure."""
    info = await put(store, body_of(5 * SIZE))
    held = placing.blobs[info.id]
    placing.blobs[info.id] = evolve(held, info=evolve(held.info, metadata=metadata))
    with pytest.raises(Unavailable):
        await store.read(info.id)
    with pytest.raises(Unavailable):
        await store.read(info.id, (0, 1))
    if metadata[MARK] != "1":
        with pytest.raises(Unavailable):
            await store.stat(info.id)
    assert placing.open == set()


@ensureDeferred
async def test_what_breaks_off_is_taken_up_where_it_did(large_chunks, placing, ids):
    """Once for each chunk; the reader does not notice."""
    id = (await put(large_chunks, LARGE)).id
    placing.broken.update(ids[:7])
    assert await content(await large_chunks.read(id)) == LARGE
    assert ("read", ids[3], (MANY // 2, MANY)) in placing.asked
    placing.broken.update(ids[2:4])
    span = (2 * MANY + 7, 9 * MANY)
    assert await content(await large_chunks.read(id, span)) == LARGE[slice(*span)]
    assert placing.open == set()


@ensureDeferred
async def test_few_chunks_are_opened_ahead(large_chunks, placing, ids):
    """So many as make no difference to memory, whatever the reader does."""
    id = (await put(large_chunks, LARGE)).id
    placing.asked.clear()
    blob = await large_chunks.read(id)
    assert [each[1] for each in placing.asked] == [id, ids[0]]
    await anext(aiter(blob.body))
    assert [each[1] for each in placing.asked] == [id, *ids[: 1 + MOST_AHEAD]]
    assert len(placing.open) == 1 + MOST_AHEAD
    await blob.body.aclose()
    assert placing.open == set()


@ensureDeferred
async def test_a_body_that_is_never_read_can_be_closed(large_chunks, placing):
    """The chunk that was opened for it is closed as well."""
    id = (await put(large_chunks, LARGE)).id
    blob = await large_chunks.read(id)
    assert len(placing.open) == 1
    await blob.body.aclose()
    assert placing.open == set()


class HangingStore(PlacingStore):
    """Never opens *hung*, and tells whether someone waits for it."""

    hung = None
    waiting = 0

    async def read(self, id, span=None):
        if id == self.hung:
            self.waiting += 1
            try:
                await Deferred()
            finally:
                self.waiting -= 1
        return await super().read(id, span)


@ensureDeferred
async def test_what_is_being_opened_is_given_up_with_the_body(reactor, ids):
    """Its reader waits for nothing then."""
    placing = HangingStore()
    store = over(placing, reactor, MANY)
    id = (await put(store, LARGE)).id
    placing.hung = ids[2]
    blob = await store.read(id)
    await anext(aiter(blob.body))
    assert placing.waiting == 1
    await blob.body.aclose()
    assert placing.waiting == 0
    assert placing.open == set()


@pytest.mark.parametrize("number", [0, 1, 2, 7])
@ensureDeferred
async def test_a_reader_that_is_cancelled_leaves_nothing_open(reactor, ids, number):
    """Neither what it reads nor what was to come."""
    placing = HangingStore()
    store = over(placing, reactor, MANY)
    id = (await put(store, LARGE)).id
    placing.hung = ids[number]
    reading = deferred(pieces_of(store, id))
    while not placing.waiting:
        await deferLater(reactor, 0)
    for _ in range(3):
        await deferLater(reactor, 0)
    assert not reading.called
    reading.cancel()
    _, error = await reading
    assert isinstance(error, CancelledError)
    assert placing.waiting == 0
    assert placing.open == set()


@ensureDeferred
async def test_a_chunk_can_be_in_chunks_itself(placing, reactor):
    """Who uploaded it as an object may have had smaller chunks."""
    await put(over(placing, reactor, 100), LARGE[:MANY])
    await put(over(placing, reactor, 33), LARGE[MANY : 2 * MANY])
    store = over(placing, reactor, MANY)
    id = (await put(store, LARGE)).id
    assert MARK in placing.blobs[content_id(LARGE[:MANY])].info.metadata
    assert await content(await store.read(id)) == LARGE
    assert await content(await store.read(id, (5, 2 * MANY - 5))) == LARGE[5 : 2 * MANY - 5]
    assert placing.open == set()


class TwoCopies(PlacingStore):
    """Tells of one copy of *id*, and reads another."""

    def __init__(self, id, told, read):
        super().__init__()
        self.id, self.told = id, told
        self.blobs = read.blobs

    async def stat(self, id):
        return await (self.told if id == self.id else super()).stat(id)


@ensureDeferred
async def test_copies_can_differ_in_whether_they_are_in_chunks(placing, reactor):
    """What counts is the one that is read."""
    body = body_of(5 * SIZE)
    plain, cut = MemoryStore(), PlacingStore()
    id = (await put(plain, body)).id
    await put(over(cut, reactor), body)
    for told, read in ((plain, cut), (cut, plain)):
        both = TwoCopies(id, told, read)
        assert await content(await over(both, reactor).read(id, (1500, 4500))) == body[1500:4500]
        assert both.open == set()


async def writing(store, body, pieces=SIZE):
    writer = store.writer()
    try:
        for start in range(0, len(body), pieces):
            await writer.write(body[start : start + pieces])
        return await writer.commit()
    except BaseException:
        writer.abort()
        raise


@ensureDeferred
async def test_a_few_chunks_are_on_their_way_at_once(store, placing):
    """A writer is held up until one of them has arrived."""
    placing.held = []
    body = body_of(10 * SIZE)
    uploading = deferred(writing(store, body))
    assert placing.placed == ids_of(body)[:MOST_PLACING]
    placing.held[0].callback(None)
    assert placing.placed == ids_of(body)[: MOST_PLACING + 1]
    while placing.held:
        assert len(placing.held) <= MOST_PLACING
        assert content_id(body) not in placing.placed
        placing.held[-1].callback(None)
    placing.held = None
    info = await uploading
    assert info.size == len(body)
    assert await content(await store.read(info.id)) == body


@pytest.mark.parametrize("number", [0, 4, 9])
@ensureDeferred
async def test_a_chunk_that_cannot_be_placed_fails_the_upload(store, placing, number):
    """At the next write or at the commit; the manifest is never placed."""
    body = body_of(10 * SIZE)
    placing.refused[ids_of(body)[number]] = NoSpace("full")
    with pytest.raises(NoSpace, match="full"):
        await writing(store, body)
    assert content_id(body) not in placing.placed
    assert len(placing.placed) <= number + 2
    placing.refused.clear()
    info = await writing(store, body)
    assert await content(await store.read(info.id)) == body


@ensureDeferred
async def test_the_next_write_tells_what_went_wrong(store, placing):
    """And the other chunks are given up."""
    body = body_of(10 * SIZE)
    placing.held = []
    writer = store.writer()
    await writer.write(body[: 3 * SIZE + 1])
    assert len(placing.held) == 3
    placing.held[1].errback(NoSpace("full"))
    assert placing.held == []
    with pytest.raises(NoSpace):
        await writer.write(b"x")
    with pytest.raises(NoSpace):
        await writer.commit()


@ensureDeferred
async def test_a_manifest_that_cannot_be_placed_fails_the_upload(store, placing):
    """All the chunks were stored in vain."""
    body = body_of(10 * SIZE)
    placing.refused[content_id(body)] = NoSpace("full")
    with pytest.raises(NoSpace):
        await writing(store, body)
    assert content_id(body) not in placing.blobs


def spools():
    """Return how many unnamed files this process has open."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).endswith("(deleted)") for link in links if os.path.islink(link))


async def until(reactor, condition):
    while not condition():
        await deferLater(reactor, 0)


@pytest.mark.parametrize("end", ["abort", "cancel", "cancel commit"])
@ensureDeferred
async def test_nothing_is_left_of_an_upload_that_ends(placing, reactor, end):
    """No file, and no chunk on its way."""
    chunk_size = 2 * SMALL_BODY
    store = over(placing, reactor, chunk_size)
    before = spools()
    body = body_of(3 * chunk_size if end == "cancel commit" else 20 * chunk_size)
    placing.held = []
    writer = store.writer()

    async def upload():
        for start in range(0, len(body), SMALL_BODY + 1):
            await writer.write(body[start : start + SMALL_BODY + 1])
        await writer.commit()

    uploading = deferred(upload())
    await until(reactor, lambda: len(placing.held) == MOST_PLACING)
    expected = MOST_PLACING + (end != "cancel commit")
    await until(reactor, lambda: spools() == before + expected)
    if end == "abort":
        writer.abort()
    uploading.cancel()
    with pytest.raises(CancelledError):
        await uploading
    writer.abort()
    assert placing.held == []
    await until(reactor, lambda: spools() == before)
    assert placing.blobs == {}


@pytest.mark.parametrize("pieces", [1, 40])
@ensureDeferred
async def test_no_file_is_left_of_one_that_succeeds(placing, reactor, pieces):
    """Neither after an upload nor while it goes on: what is placed is forgotten."""
    before = spools()
    store = over(placing, reactor, 2 * SMALL_BODY)
    most = 0
    writer = store.writer()
    for _ in range(pieces):
        await writer.write(body_of(SMALL_BODY + 1))
        most = max(most, spools() - before)
    await writer.commit()
    assert most <= MOST_PLACING + 1
    assert spools() == before


@ensureDeferred
async def test_a_chunk_that_is_damaged_on_the_disk(local_store, tmp_path, reactor):
    """The object is not sent to its end; the chunk is set aside, and can be stored anew."""
    chunk_size = 2 * SMALL_BODY
    store = over(replicated(reactor, local_store), reactor, chunk_size)
    body = body_of(5 * chunk_size)
    id = (await put(store, body)).id
    bad = ids_of(body, chunk_size)[2]
    path = tmp_path / "store/bodies" / bad[:2] / bad[2:4] / bad
    path.write_bytes(b"!" + path.read_bytes()[1:])
    for expected in (Mismatch, Unavailable):
        pieces, error = await pieces_of(store, id)
        assert isinstance(error, expected)
        assert len(b"".join(pieces)) < 3 * chunk_size
    await put(store, body)
    assert await content(await store.read(id)) == body


@ensureDeferred
async def test_a_manifest_is_replicated_like_any_blob(placing, store):
    """Copied with its metadata, it is what it was."""
    info = await put(store, body_of(5 * SIZE), metadata={"X-A": "1"})
    copy = MemoryStore()
    for id in await placing.listing():
        blob = await placing.read(id)
        await put(copy, await content(blob), id, blob.info.metadata)
    assert await copy.digests() == await placing.digests()
    assert manifest_of(body_of(5 * SIZE), SIZE)[:2] == (info.id, copy.blobs[info.id].body)
