"""The chunked store: the contract, and what a body becomes in it."""

from __future__ import annotations

from hashlib import sha256

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import maybeDeferred
from zope.interface.verify import verifyObject

from sos.aio.threads import threads_of
from sos.errors import Incomplete, Mismatch, TooLarge
from sos.interfaces import SMALL_BODY
from sos.model.manifest import MARK, MAX_CHUNKS, parse
from sos.model.metadata import PART_AT
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from sos.stores.spool import IPlacingStore
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.contract import OneStepContract, StoreContract
from tests.stores.chunked.chunks import SIZE, chunks_of, ids_of, over, replicated
from tests.support.blobs import body_of, content, content_id, manifest_of, put, shown
from tests.support.servers import serving


class TestChunkedStore(StoreContract, OneStepContract):
    """With all that fits in a chunk."""

    @pytest.fixture
    def store(self, reactor):
        placing = replicated(reactor, MemoryStore("a"), MemoryStore("b"))
        return over(placing, reactor, 8 * 1024 * 1024)


class TestTinyChunks(StoreContract, OneStepContract):
    @pytest.fixture
    def store(self, reactor):
        return over(replicated(reactor, MemoryStore("a"), MemoryStore("b")), reactor)


class TestChunksInFiles(StoreContract):
    """Chunks that are spooled and stored in files, on a server over HTTP."""

    @async_yield_fixture
    async def store(self, local_store, reactor):
        async with serving(handler(BlobServer(local_store).app), reactor) as remote:
            yield over(replicated(reactor, remote), reactor, 2 * SMALL_BODY)


def test_the_double_is_a_placing_store(placing, reactor):
    """As is the replicated store."""
    assert verifyObject(IPlacingStore, placing)
    assert verifyObject(IPlacingStore, replicated(reactor, placing))


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE])
@ensureDeferred
async def test_what_fits_in_a_chunk_is_a_plain_blob(chunked, placing, size):
    """Under its id, with its metadata, and nothing else."""
    body = body_of(size)
    info = await put(chunked, body, metadata={"X-A": "1"})
    assert placing.placed == [info.id]
    assert placing.blobs[info.id].body == body
    assert shown(placing.blobs[info.id].info.metadata) == {"X-A": "1"}


@pytest.mark.parametrize("pieces", [1, 333, SIZE, 1_000_000])
@pytest.mark.parametrize("size", [SIZE + 1, 2 * SIZE - 1, 2 * SIZE, 2 * SIZE + 1, 5 * SIZE])
@ensureDeferred
async def test_a_longer_body_is_chunks_and_a_manifest(chunked, placing, size, pieces):
    """The manifest comes last and has the metadata; the chunks have none."""
    body = body_of(size)
    writer = chunked.writer(None, {"X-A": "1"}, size)
    for start in range(0, size, pieces):
        await writer.write(body[start : start + pieces])
    info = await writer.commit()
    assert (info.id, info.size, shown(info.metadata)) == (content_id(body), size, {"X-A": "1"})
    assert placing.placed == [*ids_of(body), info.id]
    held = placing.blobs.pop(info.id)
    assert shown(held.info.metadata) == {"X-A": "1", MARK: str(size)}
    found = parse(held.body, info.id, str(size))
    assert found.chunks == tuple((content_id(each), len(each)) for each in chunks_of(body))
    assert [placing.blobs[id].body for id in ids_of(body)] == chunks_of(body)
    assert all(list(each.info.metadata) == [PART_AT] for each in placing.blobs.values())


@ensureDeferred
async def test_chunks_that_are_equal_are_stored_once(chunked, placing):
    """Within one object, and between several."""
    first = await put(chunked, bytes(10 * SIZE))
    assert set(placing.blobs) == {content_id(bytes(SIZE)), first.id}
    second = await put(chunked, bytes(11 * SIZE))
    assert set(placing.blobs) == {content_id(bytes(SIZE)), first.id, second.id}
    assert await content(await chunked.read(first.id)) == bytes(10 * SIZE)


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
async def test_what_an_object_is_takes_one_question(chunked, placing):
    """Its size is that of the whole, and nothing shows that it is in chunks.

    Whether it is there as well takes its manifest, and a question for each chunk.
    """
    info = await put(chunked, body_of(5 * SIZE), metadata={"X-A": "1"})
    placing.asked.clear()
    found = await chunked.outline(info.id)
    assert (found.size, shown(found.metadata)) == (5 * SIZE, {"X-A": "1"})
    assert placing.asked == [("stat", info.id)]
    placing.asked.clear()
    assert await chunked.stat(info.id) == found
    chunks = [("stat", id) for id in ids_of(body_of(5 * SIZE))]
    assert placing.asked == [("stat", info.id), ("read", info.id, None), *chunks]
    blob = await chunked.read(info.id)
    assert (blob.info.size, shown(blob.info.metadata)) == (5 * SIZE, {"X-A": "1"})
    assert blob.info.stored_at == found.stored_at


@ensureDeferred
async def test_an_opaque_name_is_stored_in_one_piece(chunked, placing):
    """What its bytes are, no manifest could tell."""
    await put(chunked, body_of(5 * SIZE), "name")
    assert placing.blobs["name"].body == body_of(5 * SIZE)
    assert list(placing.blobs) == ["name"]


@pytest.mark.parametrize("size", [SIZE, SIZE + 1, 5 * SIZE])
@ensureDeferred
async def test_a_body_that_is_not_what_was_announced_has_no_manifest(chunked, placing, size):
    """Neither of another size nor of another id."""
    body = body_of(size)
    with pytest.raises(Mismatch):
        await put(chunked, body[:-1] + b"!", content_id(body))
    writer = chunked.writer(None, size=size + 1)
    await writer.write(body)
    with pytest.raises(Incomplete):
        await writer.commit()
    assert not any(MARK in each.info.metadata for each in placing.blobs.values())
    assert content_id(body) not in placing.blobs


@ensureDeferred
async def test_an_object_of_too_many_chunks_is_refused(chunked, placing):
    """At once when its size is known, and otherwise when it is that long."""
    with pytest.raises(TooLarge):
        chunked.writer(size=SIZE * MAX_CHUNKS + 1)
    chunked.writer(size=SIZE * MAX_CHUNKS).abort()
    writer = ChunkedStore(placing, 1, maybeDeferred).writer()
    with pytest.raises(TooLarge):
        await writer.write(bytes(MAX_CHUNKS + 2))
    writer.abort()


@ensureDeferred
async def test_a_manifest_is_replicated_like_any_blob(placing, chunked):
    """Copied with its metadata, it is what it was."""
    info = await put(chunked, body_of(5 * SIZE), metadata={"X-A": "1"})
    copy = MemoryStore()
    for id in await placing.listing():
        blob = await placing.read(id)
        await put(copy, await content(blob), id, blob.info.metadata)
    assert await copy.digests() == await placing.digests()
    assert manifest_of(body_of(5 * SIZE), SIZE)[:2] == (info.id, copy.blobs[info.id].body)
