"""The files of bodies: what stands behind the body, and parts that are verified by it."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import capturedLogs

from sos.errors import Mismatch, NotFound, Quarantined
from sos.interfaces import Member
from sos.scrub import Report, scrub
from sos.stores.block_hashes import BLOCK, BlockHashes
from sos.stores.local import LocalStore
from sos.stores.local.body_file import read_trailer, write_trailer
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content, content_id, manifest_of, put
from tests.support.replicas import replicated
from tests.support.servers import serving

BODY = body_of(3 * BLOCK + 1000)
ID = content_id(BODY)


@pytest.fixture
def path(local_store):
    return local_store._layout.body(ID)


def flip(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def forge(path):
    """Change a body, and make its trailer agree with it."""
    flip(path, BLOCK)
    record, _ = trailer_of(path)
    with open(path, "r+b", buffering=0) as file:
        write_trailer(file, record, hashes_of(file.read(record.size)))


def trailer_of(path):
    with open(path, "rb", buffering=0) as file:
        return read_trailer(file)


def hashes_of(body):
    hashes = BlockHashes()
    hashes.update(body)
    return hashes.value()


async def gather(body, received):
    async for piece in body:
        received.append(piece)


@given(st.lists(st.integers(0, 2 * BLOCK), max_size=6), st.integers(0, 3 * BLOCK))
def test_blocks_do_not_depend_on_how_the_body_came(cuts, size):
    """They are at the same bytes, and the last one can be shorter."""
    body = body_of(size)
    hashes = BlockHashes()
    edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
    for start, stop in pairwise(edges):
        hashes.update(body[start:stop])
    assert hashes.value() == hashes_of(body)
    assert len(hashes.value()) == -(-size // BLOCK) * 16


@ensureDeferred
async def test_a_body_is_followed_by_what_describes_it(local_store, path):
    """All that its record tells, so that an index can be made anew."""
    stored = await put(local_store, BODY, metadata={"X-Name": "n"})
    record, blocks = trailer_of(path)
    assert record.id == ID
    assert evolve(record.info(), stored_at=stored.stored_at) == stored
    assert record.stored_at == pytest.approx(stored.stored_at)
    assert blocks.hashes == hashes_of(BODY)
    assert path.read_bytes().startswith(BODY)


EDGES = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK, len(BODY) - 1, len(BODY))


@ensureDeferred
async def test_any_part_is_the_part(local_store):
    """Wherever it begins and ends, in pieces and as spans of the file."""
    await put(local_store, BODY)
    for start in EDGES:
        for stop in EDGES:
            if start < stop:
                blob = await local_store.read(ID, (start, stop))
                assert await content(blob) == BODY[start:stop]
                blob = await local_store.read(ID, (start, stop))
                spans = [span async for span in blob.body.spans()]
                assert (spans[0][0], spans[-1][1]) == (start, stop)
                await blob.body.aclose()


@pytest.mark.parametrize("damage", [0, BLOCK - 1, BLOCK, 2 * BLOCK + 7, len(BODY) - 1])
@ensureDeferred
async def test_no_damaged_byte_is_sent(local_store, path, damage):
    """Of a part, or of the whole: what comes before it ends in an error, and it is set aside."""
    for span in [None, (0, len(BODY)), (damage - damage % BLOCK, damage + 1), (damage, damage + 1)]:
        await put(local_store, BODY)
        flip(path, damage)
        blob = await local_store.read(ID, span)
        received: list[bytes] = []
        with pytest.raises(Mismatch):
            await gather(blob.body, received)
        start = span[0] if span else 0
        assert b"".join(received) == BODY[start : max(damage - damage % BLOCK, start)]
        await blob.body.aclose()
        with pytest.raises(NotFound):
            await local_store.read(ID)


@ensureDeferred
async def test_a_scrub_compares_bodies_with_their_ids(local_store, reactor, path):
    """The hashes of the blocks alone would not show it."""
    await put(local_store, BODY)
    forge(path)
    report = Report()
    await scrub(local_store.disk_order(), report, reactor, 0, lambda: 1.0)
    assert report.damaged == 1
    with pytest.raises(NotFound):
        await local_store.stat(ID)


@ensureDeferred
async def test_a_scrub_compares_an_object_that_has_replaced_its_manifest(local_store, path):
    """It had looked up the manifest, whose file is longer than the object that is there now."""
    id, manifest, metadata = manifest_of(BODY, 40)
    assert len(manifest) > len(BODY)
    await put(local_store, manifest, id, metadata)
    found = local_store._index.get(ID)
    await put(local_store, BODY)
    forge(path)
    blob = await local_store.disk_order().opened(ID, found)
    assert blob.info.size == len(BODY)
    with pytest.raises(Mismatch):
        await content(blob)
    with pytest.raises(NotFound):
        await local_store.stat(ID)


@ensureDeferred
async def test_a_scrub_reads_again_what_is_replaced_meanwhile(local_store, reactor):
    """The object is no damaged manifest."""
    id, manifest, metadata = manifest_of(BODY, 400)
    await put(local_store, manifest, id, metadata)
    found = [local_store._index.get(ID)]
    await put(local_store, BODY)

    class Meanwhile:
        """The blobs of the store, of which the manifest is replaced as soon as it was found."""

        listing = local_store.disk_order().listing

        async def read(self, id):
            now = local_store._index.get(id)
            return await local_store.disk_order().opened(id, found.pop() if found else now)

    report, told = Report(), []
    await scrub(Meanwhile(), report, reactor, 0, lambda: 1.0, warn=told.append)
    assert (report.ok, report.bytes, told) == (True, len(BODY), [])
    assert await content(await local_store.read(ID)) == BODY


@ensureDeferred
async def test_a_sound_part_of_a_damaged_body_can_be_read(local_store, path):
    """Nobody has looked at the rest."""
    await put(local_store, BODY)
    flip(path, 2 * BLOCK)
    assert await content(await local_store.read(ID, (100, BLOCK + 5))) == BODY[100 : BLOCK + 5]


@ensureDeferred
async def test_a_mistake_in_reading_ahead_for_a_reader_that_has_gone_is_logged(local_store):
    """Nobody waits for the next piece any more: it would be lost."""

    class Mistake(Exception):
        """A bug of ours."""

    await put(local_store, BODY)
    blob = await local_store.read(ID)
    reads: list[Deferred] = []

    def run(function, *arguments):
        reads.append(Deferred() if reads else maybeDeferred(function, *arguments))
        return reads[-1]

    blob.body._jobs._run_in_thread = run
    pieces = aiter(blob.body)
    await anext(pieces)
    await pieces.aclose()
    with capturedLogs() as logged:
        reads[1].errback(Mistake())
    assert [event["log_failure"].type for event in logged] == [Mistake]
    await blob.body.aclose()


def of_before(path):
    """Make the file one from before anything stood behind the body."""
    os.truncate(path, len(BODY))


def torn(path):
    """Make it one of which the end was lost in a crash."""
    os.truncate(path, path.stat().st_size - 20)


def flipped(path):
    flip(path, len(BODY) + 20)


def longer(path):
    with open(path, "ab") as file:
        file.write(b"?" * 100)


def of_another(path):
    """Behind the body stands what describes another one of the size."""
    with open(path, "r+b", buffering=0) as file:
        record, _ = read_trailer(file)
        write_trailer(file, evolve(record, id="0" * 40), b"?" * 64)


without = pytest.mark.parametrize("change", [of_before, torn, flipped, longer, of_another])


@without
@ensureDeferred
async def test_what_is_not_behind_a_body_is_written_when_it_is_read(local_store, path, change):
    """The body is verified first, and is no worse for want of it."""
    for span in (None, (5, 10), (BLOCK, BLOCK + 1)):
        await put(local_store, BODY)
        change(path)
        part = slice(*span) if span else slice(None)
        assert await content(await local_store.read(ID, span)) == BODY[part]
        record, blocks = trailer_of(path)
        assert (record.id, blocks.hashes) == (ID, hashes_of(BODY))


@without
@ensureDeferred
async def test_parts_are_verified_without_it(local_store, path, change):
    """By the whole, where there is nothing else."""
    await put(local_store, BODY)
    change(path)
    flip(path, 2 * BLOCK)
    with pytest.raises(Quarantined):
        await local_store.read(ID, (0, 10))


@without
@ensureDeferred
async def test_a_scrub_writes_it(local_store, reactor, path, change):
    """After one pass over an old store every part is verified by itself."""
    await put(local_store, BODY)
    change(path)
    report = Report()
    await scrub(local_store.disk_order(), report, reactor, 0, lambda: 1.0)
    assert report.ok
    assert trailer_of(path) is not None


@without
@ensureDeferred
async def test_an_upload_writes_it(local_store, path, change):
    """Of what is there already, which is read for that."""
    await put(local_store, BODY)
    change(path)
    await put(local_store, BODY)
    assert trailer_of(path)[1].hashes == hashes_of(BODY)


@ensureDeferred
async def test_a_file_that_cannot_be_written_is_read(local_store, path, monkeypatch):
    """Its parts are verified by the whole, each time."""
    await put(local_store, BODY)
    of_before(path)
    monkeypatch.setattr("sos.stores.local.body_file.write_trailer", _refused)
    for _ in range(2):
        assert await content(await local_store.read(ID, (1, 9))) == BODY[1:9]
        assert await content(await local_store.read(ID)) == BODY
    assert trailer_of(path) is None


def _refused(*arguments):
    raise OSError(30, "Read-only file system")


@ensureDeferred
async def test_parts_of_one_damaged_copy_come_from_the_other(tmp_path, reactor):
    """Whichever is asked first, and wherever the damage is."""
    stores = [LocalStore(tmp_path / name, reactor) for name in ("one", "two")]
    for store in stores:
        store.open()
        await put(store, BODY)
    flip(stores[0]._layout.body(ID), BLOCK)
    async with (
        serving(handler(BlobServer(stores[0]).app), reactor) as first,
        serving(handler(BlobServer(stores[1]).app), reactor) as second,
    ):
        store = replicated(reactor, [Member(first, preferred=True), second])
        for span in [(0, len(BODY)), (BLOCK, BLOCK + 10), (5, BLOCK + 10), (2 * BLOCK, len(BODY))]:
            assert await content(await store.read(ID, span)) == BODY[slice(*span)]
        store.stop()
    for store in stores:
        await store.close()
