"""The chunks of an upload on their way into a store, and what is left when that fails."""

from __future__ import annotations

import os

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import deferLater

from sos.errors import NoSpace, Unavailable
from sos.interfaces import SMALL_BODY
from sos.stores.chunked.store import MOST_PLACING
from sos.stores.received import MEMORY
from tests.stores.chunked.chunks import SIZE, ids_of, over
from tests.support.blobs import body_of, content, content_id


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
async def test_a_few_chunks_are_on_their_way_at_once(chunked, placing):
    """A writer is held up until one of them has arrived."""
    placing.held = []
    body = body_of(10 * SIZE)
    uploading = deferred(writing(chunked, body))
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
    assert await content(await chunked.read(info.id)) == body


@pytest.mark.parametrize("number", [0, 4, 9])
@ensureDeferred
async def test_a_chunk_that_cannot_be_placed_fails_the_upload(chunked, placing, number):
    """At the next write or at the commit; the manifest is never placed."""
    body = body_of(10 * SIZE)
    placing.refused[ids_of(body)[number]] = NoSpace("full")
    with pytest.raises(NoSpace, match="full"):
        await writing(chunked, body)
    assert content_id(body) not in placing.placed
    assert len(placing.placed) <= number + 2
    placing.refused.clear()
    info = await writing(chunked, body)
    assert await content(await chunked.read(info.id)) == body


@ensureDeferred
async def test_the_next_write_tells_what_went_wrong(chunked, placing):
    """And the other chunks are given up."""
    body = body_of(10 * SIZE)
    placing.held = []
    writer = chunked.writer()
    await writer.write(body[: 3 * SIZE + 1])
    assert len(placing.held) == 3
    placing.held[1].errback(NoSpace("full"))
    assert placing.held == []
    with pytest.raises(NoSpace):
        await writer.write(b"x")
    with pytest.raises(NoSpace):
        await writer.commit()


@ensureDeferred
async def test_a_manifest_that_cannot_be_placed_fails_the_upload(chunked, placing):
    """All the chunks were stored in vain."""
    body = body_of(10 * SIZE)
    placing.refused[content_id(body)] = NoSpace("full")
    with pytest.raises(NoSpace):
        await writing(chunked, body)
    assert content_id(body) not in placing.blobs


@pytest.fixture(params=["memory", "files", "memory, then files"])
def memory(request, monkeypatch):
    """Memory for chunks: enough for all of them, for none, for two."""
    left = {"memory": 36 << 20, "files": 0, "memory, then files": 2 << 20}[request.param]
    monkeypatch.setattr(MEMORY, "left", left)
    return left


def spools():
    """Return how many unnamed files this process has open."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).endswith("(deleted)") for link in links if os.path.islink(link))


async def until(reactor, condition):
    while not condition():
        await deferLater(reactor, 0)


@pytest.mark.parametrize("end", ["abort", "cancel", "cancel commit"])
@ensureDeferred
async def test_nothing_is_left_of_an_upload_that_ends(placing, reactor, end, memory):
    """No file, no memory, and no chunk on its way."""
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
    if memory == 0:
        await until(reactor, lambda: spools() == before + expected)
    assert (spools(), MEMORY.left) != (before, memory)
    if end == "abort":
        writer.abort()
    uploading.cancel()
    with pytest.raises(CancelledError):
        await uploading
    writer.abort()
    assert placing.held == []
    await until(reactor, lambda: (spools(), MEMORY.left) == (before, memory))
    assert placing.blobs == {}


@pytest.mark.parametrize("pieces", [1, 40])
@ensureDeferred
async def test_no_file_is_left_of_one_that_succeeds(placing, reactor, pieces, memory):
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
    assert (spools(), MEMORY.left) == (before, memory)


@pytest.mark.parametrize("gone", [[0], [4], [1, 2, 3], range(5)])
@ensureDeferred
async def test_an_upload_mends_what_another_chunk_size_has_left(placing, reactor, gone):
    """The manifest that was there stays; what it lacks is made of the new chunks."""
    body = body_of(5 * SIZE - 10)
    await writing(over(placing, reactor), body)
    kept = placing.blobs[content_id(body)]
    for number in gone:
        del placing.blobs[ids_of(body)[number]]
    other = over(placing, reactor, SIZE - 300)
    await writing(other, body)
    assert placing.blobs[content_id(body)].body == kept.body
    assert await content(await other.read(content_id(body))) == body


@ensureDeferred
async def test_an_upload_is_not_stored_while_a_chunk_may_be_gone(placing, reactor):
    """Whether it is cannot be known while a server does not answer."""
    body = body_of(5 * SIZE)
    await writing(over(placing, reactor), body)
    placing.unreachable = ids_of(body)[2]
    with pytest.raises(Unavailable):
        await writing(over(placing, reactor, SIZE - 300), body)
