"""Objects put together from their chunks: the right bytes, or an error."""

from __future__ import annotations

from contextlib import aclosing
from hashlib import sha256

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from sos.aio.threads import threads_of
from sos.errors import Mismatch, NotFound, Unavailable
from sos.interfaces import SMALL_BODY
from sos.model.manifest import MARK, Chunk, Manifest, encode
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from sos.stores.threaded_digest import ThreadedDigest
from tests.stores.chunked.chunks import SIZE, chunks_of, ids_of, over, replicated
from tests.support.blobs import body_of, content, content_id, put, shown
from tests.support.doubles import PlacingStore

LARGE = body_of(2 * SMALL_BODY, seed=1)
MANY = 10_000  # bytes of each chunk of that


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
    id = now(put(ChunkedStore(placing, chunk_size, maybeDeferred), body)).id
    store = ChunkedStore(placing, chunk_size, maybeDeferred)  # which knows no manifest yet
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


@pytest.fixture
def ids():
    return ids_of(LARGE, MANY)


@pytest.fixture
def large_chunks(placing, reactor):
    return over(placing, reactor, MANY)


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
async def test_what_is_put_together_is_verified_as_a_whole(
    large_chunks, placing, ids, number, reactor
):
    """By a process that has not seen it yet: the last piece comes only when all match the id."""
    id = (await put(large_chunks, LARGE)).id
    held = placing.blobs[ids[number]]
    placing.blobs[ids[number]] = evolve(held, body=held.body[:-1] + b"!")
    other_process = over(placing, reactor, MANY)
    for _ in range(2):
        pieces, error = await pieces_of(other_process, id)
        assert isinstance(error, Mismatch)
        assert 0 < len(LARGE) - len(b"".join(pieces)) <= MANY
        assert placing.open == set()


@ensureDeferred
async def test_an_object_is_hashed_as_a_whole_once(large_chunks, placing, reactor, monkeypatch):
    """When it is stored, or read for the first time; then the hashes of its chunks are enough.

    A manifest that replaces another one is verified anew.
    """
    hashed = []

    class Counted(ThreadedDigest):
        async def verified_id(self):
            hashed.append(True)
            return await super().verified_id()

    monkeypatch.setattr("sos.stores.chunked.store.ThreadedDigest", Counted)
    id = (await put(large_chunks, LARGE)).id
    other_process = over(placing, reactor, MANY)
    for store, expected in [(large_chunks, 0), (other_process, 1)]:
        for _ in range(3):
            pieces, error = await pieces_of(store, id)
            assert (b"".join(pieces), error) == (LARGE, None)
        assert len(hashed) == expected
    manifest = placing.blobs.pop(id)
    await put(over(placing, reactor, MANY + 1), LARGE)
    assert placing.blobs[id] != manifest
    for _ in range(2):
        assert (await pieces_of(other_process, id))[1] is None
    assert len(hashed) == 2


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("has_size", [True, False])
@ensureDeferred
async def test_a_chunk_of_another_length_is_not_used(large_chunks, placing, ids, change, has_size):
    """Whether its size is told, as other than it was, or not."""
    id = (await put(large_chunks, LARGE)).id
    held = placing.blobs[ids[5]]
    info = evolve(held.info, size=MANY + change if has_size else None)
    placing.blobs[ids[5]] = evolve(held, info=info, body=body_of(MANY + change))
    for span in (None, (5 * MANY, 6 * MANY), (0, len(LARGE))):
        pieces, error = await pieces_of(large_chunks, id, span)
        assert isinstance(error, Unavailable)
        assert len(b"".join(pieces)) <= 6 * MANY
    if has_size:
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
async def test_a_manifest_that_lies_is_found_out(placing, chunked):
    """Small or large, the bytes are not passed off as the object."""
    for body in (body_of(5 * SIZE), LARGE):
        id = content_id(body + b"!")
        chunks = tuple(Chunk(content_id(each), len(each)) for each in chunks_of(body))
        for each in chunks_of(body):
            await put(placing, each)
        await put(placing, encode(Manifest(id, len(body), chunks)), id, {MARK: str(len(body))})
        _, error = await pieces_of(chunked, id)
        assert isinstance(error, Mismatch if len(body) > SMALL_BODY else Unavailable)
    assert placing.open == set()


@pytest.mark.parametrize("metadata", [{MARK: "1"}, {MARK: "x"}, {MARK: ""}])
@ensureDeferred
async def test_a_manifest_that_is_none_cannot_be_read(placing, chunked, metadata):
    """It is that copy's failure."""
    info = await put(chunked, body_of(5 * SIZE))
    held = placing.blobs[info.id]
    placing.blobs[info.id] = evolve(held, info=evolve(held.info, metadata=metadata))
    with pytest.raises(Unavailable):
        await chunked.read(info.id)
    with pytest.raises(Unavailable):
        await chunked.read(info.id, (0, 1))
    if metadata[MARK] != "1":
        with pytest.raises(Unavailable):
            await chunked.stat(info.id)
    assert placing.open == set()


@ensureDeferred
async def test_what_breaks_off_is_taken_up_where_it_did(large_chunks, placing, ids):
    """Once for each chunk; the reader does not notice.  Only a whole chunk begins anew."""
    id = (await put(large_chunks, LARGE)).id
    placing.broken.update(ids[:7])
    assert await content(await large_chunks.read(id)) == LARGE
    assert placing.asked.count(("read", ids[3], None)) == 2
    placing.broken.update(ids[2:4])
    placing.asked.clear()
    span = (2 * MANY + 7, 9 * MANY)
    assert await content(await large_chunks.read(id, span)) == LARGE[slice(*span)]
    assert ("read", ids[2], (7 + (MANY - 6) // 2, MANY)) in placing.asked
    assert placing.asked.count(("read", ids[3], None)) == 2
    assert placing.open == set()


@pytest.mark.parametrize("ends", [MANY // 2, MANY - 1])
@ensureDeferred
async def test_a_chunk_that_was_wrong_before_it_broke_off_is_not_completed(
    placing, ids, ends, reactor
):
    """Its pieces had not been verified yet: those that come after do not make them right."""
    wrong_once = set()

    async def read(id, span=None):
        blob = await placing.read(id, span)
        if id not in wrong_once:
            return blob
        wrong_once.remove(id)
        await blob.body.aclose()

        async def wrong():
            yield bytes(ends)
            raise Unavailable("the server broke off")

        return evolve(blob, body=wrong())

    store = ChunkedStore(placing, MANY, threads_of(reactor), read=read)
    id = (await put(store, LARGE)).id
    wrong_once.add(ids[3])
    pieces, error = await pieces_of(store, id)
    assert isinstance(error, Unavailable)
    assert len(b"".join(pieces)) <= 3 * MANY + ends


@ensureDeferred
async def test_one_chunk_is_opened_ahead(large_chunks, placing, ids):
    """More would take memory for each of many slow readers."""
    id = (await put(large_chunks, LARGE)).id
    placing.asked.clear()
    blob = await large_chunks.read(id)
    assert [each[1] for each in placing.asked if each[0] == "read"] == [id, ids[0]]
    await anext(aiter(blob.body))
    opened = [each[1] for each in placing.asked if each[0] == "read"]
    assert opened == [id, *ids[:2]]
    assert len(placing.open) == 2
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
    placing.hung = ids[1]
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
    """It may be lost, and be there as an object that was uploaded in smaller chunks."""
    store = over(placing, reactor, MANY)
    id = (await put(store, LARGE)).id
    for chunk, size in ((LARGE[:MANY], 100), (LARGE[MANY : 2 * MANY], 33)):
        del placing.blobs[content_id(chunk)]
        await put(over(placing, reactor, size), chunk)
    assert MARK in placing.blobs[content_id(LARGE[:MANY])].info.metadata
    assert await content(await store.read(id)) == LARGE
    assert await content(await store.read(id, (5, 2 * MANY - 5))) == LARGE[5 : 2 * MANY - 5]
    assert placing.open == set()


class TwoCopies(PlacingStore):
    """Tells of one copy of *id*, and reads another."""

    def __init__(self, id, described, read):
        super().__init__()
        self.id, self.described = id, described
        self.blobs = read.blobs

    async def stat(self, id):
        return await (self.described if id == self.id else super()).stat(id)


@ensureDeferred
async def test_copies_can_differ_in_whether_they_are_in_chunks(placing, reactor):
    """What counts is the one that is read."""
    body = body_of(5 * SIZE)
    plain, cut = MemoryStore(), PlacingStore()
    id = (await put(plain, body)).id
    await put(over(cut, reactor), body)
    for described, read in ((plain, cut), (cut, plain)):
        both = TwoCopies(id, described, read)
        assert await content(await over(both, reactor).read(id, (1500, 4500))) == body[1500:4500]
        assert both.open == set()


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
async def test_a_manifest_is_read_once_for_many_parts(large_chunks, placing, ids):
    """Whether the object still is what it says takes one small question."""
    id = (await put(large_chunks, LARGE, metadata={"X-A": "1"})).id
    await content(await large_chunks.read(id, (0, 1)))
    placing.asked.clear()
    for start, stop in ((0, MANY), (MANY, 2 * MANY), (len(LARGE) - 1, len(LARGE))):
        blob = await large_chunks.read(id, (start, stop))
        assert (blob.info.size, shown(blob.info.metadata)) == (len(LARGE), {"X-A": "1"})
        assert await content(blob) == LARGE[start:stop]
    assert [each for each in placing.asked if each[1] == id] == [("stat", id)] * 3


@ensureDeferred
async def test_a_manifest_that_was_read_gives_way_to_another(large_chunks, placing, ids, reactor):
    """The chunks of the first can be gone with it."""
    id = (await put(large_chunks, LARGE)).id
    assert await content(await large_chunks.read(id, (0, 10))) == LARGE[:10]
    placing.blobs.clear()
    with pytest.raises(NotFound):
        await large_chunks.read(id, (0, 10))
    await put(over(placing, reactor, MANY + 1), LARGE)
    with pytest.raises(Unavailable):
        await large_chunks.read(id, (0, 10))
    assert await content(await large_chunks.read(id, (0, 10))) == LARGE[:10]


@ensureDeferred
async def test_a_manifest_that_was_read_is_no_answer_to_one_that_is_none(large_chunks, placing):
    """What the copy there says now is what counts."""
    id = (await put(large_chunks, LARGE)).id
    await content(await large_chunks.read(id, (0, 10)))
    held = placing.blobs[id]
    placing.blobs[id] = evolve(held, info=evolve(held.info, metadata={MARK: "7"}))
    with pytest.raises(Unavailable):
        await large_chunks.read(id, (0, 10))
