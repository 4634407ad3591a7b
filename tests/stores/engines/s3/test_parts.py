"""Parts of bodies in a bucket are verified, on a real Swift."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import Mismatch, NotFound, Unavailable
from sos.interfaces import SMALL_BODY
from sos.model.metadata import SET_AT, STORED_AT
from sos.stores.block_hashes import BLOCK, BlockHashes
from sos.stores.engines.s3.reading import CheckedPart
from sos.stores.engines.s3.records import body_key, hashes_to_fields
from sos.transfer import pieces_of
from tests.stores.engines.s3.imitation import Imitation
from tests.stores.engines.s3.stores import store_in
from tests.support.blobs import body_of, content, manifest_of, put, shown

MEGABYTE = 1024 * 1024
SIZE = 3 * BLOCK + 5
# So many bytes that the hashes of a few MiB do not fit into the fields beside them.
LONG = {"X-Name": "n" * 1200}


def hashes_of(body):
    hashes = BlockHashes()
    hashes.update(body)
    return hashes.value()


async def replace(store, id, body, fields=None):
    """Put other bytes in the place of a body; its fields stay unless *fields* are given."""
    if fields is None:
        fields = (await store._bucket.entry(body_key(id))).fields
    await store._bucket.put(body_key(id), body, fields)


def damaged_at(body, position):
    return body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]


async def read_into(got, pieces):
    async for piece in pieces:
        got.append(piece)


async def fields_of(store, id):
    return (await store._bucket.entry(body_key(id))).fields


async def sidecars(store):
    return await store._bucket.keys("metadata/")


@pytest.mark.parametrize("id", [None, "name"])
@pytest.mark.parametrize("size", [10, BLOCK, BLOCK + 1, SIZE])
@ensureDeferred
async def test_a_small_part_of_a_damaged_block_is_not_served(store, id, size):
    """Whichever block of the body it is, and wherever in it; the blob is quarantined."""
    body = body_of(size)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        for position in {start, stop - 1}:
            info = await put(store, body, id)
            await replace(store, info.id, damaged_at(body, position))
            with pytest.raises(NotFound, match="damaged"):
                await store.read(info.id, (start, start + 1))
            with pytest.raises(NotFound):
                await store.stat(info.id)
            assert await store.listing() == []


@ensureDeferred
async def test_a_large_part_ends_before_a_damaged_block(store):
    """With Mismatch, and what came before is right."""
    body = body_of(SIZE)
    for start in range(0, SIZE, BLOCK):
        id = (await put(store, body)).id
        await replace(store, id, damaged_at(body, start))
        got = []
        with pytest.raises(Mismatch, match=id):
            await read_into(got, (await store.read(id, (1, SIZE))).body)
        assert b"".join(got) == body[1:start]
        with pytest.raises(NotFound):
            await store.stat(id)


@ensureDeferred
async def test_a_sound_block_of_a_damaged_body_is_served(store):
    """A part is verified without the rest."""
    body = body_of(SIZE)
    id = (await put(store, body)).id
    await replace(store, id, damaged_at(body, 0))
    span = BLOCK, SIZE
    assert await content(await store.read(id, span)) == body[slice(*span)]


@pytest.mark.parametrize("without", [False, True])
@ensureDeferred
async def test_parts_are_slices_however_they_lie(store, without):
    """Before, at and behind the bounds of blocks; also of a body without block hashes."""
    body = body_of(SIZE)
    id = (await put(store, body)).id
    if without:
        await replace(store, id, body, {})
    bounds = sorted(
        {0, 1, SIZE}
        | {n * BLOCK + d for n in range(1, 4) for d in (-1, 0, 1)}
        | {BLOCK + SMALL_BODY, BLOCK + SMALL_BODY + 1}
    )
    for start in bounds:
        for stop in bounds:
            if start <= stop:
                blob = await store.read(id, (start, stop))
                assert blob.info.size == SIZE
                assert isinstance(blob.body, bytes) == (stop - start <= SMALL_BODY)
                assert await content(blob) == body[start:stop]


@pytest.mark.parametrize("fields", [{}, {"sos-hashes-0": "AAAA"}, {"sos-hashes-0": "!"}])
@ensureDeferred
async def test_a_large_body_without_valid_hashes_is_read_in_parts(store, fields):
    """As an earlier version stored it; only a part of a body of one block is verified then."""
    body = body_of(SIZE)
    id = (await put(store, body)).id
    await replace(store, id, body, fields)
    assert await content(await store.read(id, (5, SIZE - 5))) == body[5:-5]
    await store.reconcile(id, {"X-Name": "n"})
    assert (await store.stat(id)).metadata == {"X-Name": "n"}
    assert "sos-hashes-0" not in await fields_of(store, id)
    assert await content(await store.read(id, (5, 10))) == body[5:10]


@pytest.mark.parametrize("span", [(5, 10), (5, SIZE)])
@ensureDeferred
async def test_the_hashes_of_another_body_are_corrected(store, span):
    """The body is right by its id, so it stays, and the next reader has it."""
    body = body_of(SIZE)
    id = (await put(store, body, metadata={"X-Name": "n"})).id
    others = {"sos-0": (await fields_of(store, id))["sos-0"]}
    wrong = hashes_to_fields(hashes_of(body_of(SIZE, 1)), {})
    await replace(store, id, body, others | wrong)
    with pytest.raises(Unavailable, match="in transit"):
        await content(await store.read(id, span))
    blob = await store.read(id, span)
    assert await content(blob) == body[slice(*span)]
    assert blob.info.metadata == {"X-Name": "n"}
    assert await fields_of(store, id) == others | hashes_to_fields(hashes_of(body), {})
    assert await store.listing() == [id]


@ensureDeferred
async def test_hashes_stay_when_metadata_are_reconciled(store):
    """The object is copied onto itself with other fields; and when it is quarantined."""
    body = body_of(SIZE)
    id = (await put(store, body, "name", {SET_AT: "20"})).id
    await store.reconcile(id, {SET_AT: "10"})
    assert (await store.stat(id)).metadata[SET_AT] == "10"
    hashes = hashes_to_fields(hashes_of(body), {})
    assert (await fields_of(store, id)).items() > hashes.items()
    await replace(store, id, damaged_at(body, 0))
    with pytest.raises(NotFound, match="damaged"):
        await store.read(id, (0, 1))
    (kept,) = await store._bucket.keys("quarantine/")
    assert (await store._bucket.entry(kept)).fields.items() > hashes.items()


@ensureDeferred
async def test_hashes_that_do_not_fit_into_fields_are_in_a_sidecar(store):
    """It is written and read as the metadata come and go, and removed with the blob."""
    body = body_of(4 * MEGABYTE)
    # What was set earlier replaces what was set later.
    third, second, first = LONG | {SET_AT: "30"}, {SET_AT: "20"}, LONG | {SET_AT: "10"}
    id = (await put(store, body, metadata=third)).id
    (sidecar,) = await sidecars(store)
    assert "sos-hashes-0" not in await fields_of(store, id)
    assert await content(await store.read(id, (BLOCK, BLOCK + 9))) == body[BLOCK : BLOCK + 9]
    await store.reconcile(id, second)
    assert shown((await store.stat(id)).metadata) == shown(second)
    assert (await fields_of(store, id)).items() > hashes_to_fields(hashes_of(body), {}).items()
    await store._bucket.delete(sidecar)
    await store.reconcile(id, first)
    assert shown((await store.stat(id)).metadata) == shown(first)
    assert await sidecars(store) == [sidecar]
    await replace(store, id, damaged_at(body, 0))
    with pytest.raises(NotFound, match="damaged"):
        await store.read(id, (0, 1))
    await put(store, body, metadata=first)
    await store.drop(id, await store.lease(60))
    assert await sidecars(store) == []


@pytest.mark.parametrize("found", [None, b"damaged"])
@ensureDeferred
async def test_a_body_whose_sidecar_of_hashes_is_lost_is_read_in_parts(store, found):
    """As one that has none; the sidecar is not the body."""
    body = body_of(4 * MEGABYTE)
    id = (await put(store, body, metadata=LONG | {SET_AT: "20"})).id
    (sidecar,) = await sidecars(store)
    if found is None:
        await store._bucket.delete(sidecar)
    else:
        await store._bucket.put(sidecar, found)
    assert await content(await store.read(id, (BLOCK, BLOCK + 9))) == body[BLOCK : BLOCK + 9]
    await store.reconcile(id, {SET_AT: "10"})
    assert (await store.stat(id)).metadata[SET_AT] == "10"
    assert await content(await store.read(id, (BLOCK, BLOCK + 9))) == body[BLOCK : BLOCK + 9]


@ensureDeferred
async def test_a_body_that_was_sent_in_parts_has_hashes(server, prefix, reactor):
    """Of the blocks of all of it, in a sidecar if it is large; they stay with it."""
    store = store_in(server, prefix, reactor, part_size=5 * MEGABYTE)
    await store.open()
    for size in (6 * MEGABYTE + 1, 26 * MEGABYTE + 1):
        body = body_of(size)
        id = (await put(store, body)).id
        await store.reconcile(id, {"X-Name": "n"})
        assert (await store.stat(id)).metadata == {"X-Name": "n"}
        held = await store._blobs.held(id)
        assert (await store._blobs.blocks(held)).hashes == hashes_of(body)
        assert await content(await store.read(id, (size - 9, size))) == body[-9:]
        await replace(store, id, damaged_at(body, size - 1))
        with pytest.raises(NotFound, match="damaged"):
            await store.read(id, (size - 9, size))
    await store.close()


@ensureDeferred
async def test_a_body_that_replaces_a_damaged_one_or_a_manifest_has_hashes(store):
    """Its own, whatever was there before."""
    body = body_of(SIZE)
    id, manifest, metadata = manifest_of(body, 100_000)
    await put(store, manifest, id, metadata)
    assert await content(await store.read(id, (0, 3))) == manifest[:3]
    await put(store, body, id)
    assert (await fields_of(store, id)).items() > hashes_to_fields(hashes_of(body), {}).items()
    await replace(store, id, damaged_at(body, 0), {})
    await put(store, body, id)
    assert await fields_of(store, id) == hashes_to_fields(hashes_of(body), {})


@ensureDeferred
async def test_a_server_may_ignore_the_range_of_a_whole_body(reactor):
    """RFC 9110, 14.2: then it sends the body with 200 and without Content-Range."""
    imitation = Imitation(reactor)
    store = imitation.store()
    await store.open()
    body = body_of(1000)
    id = (await put(store, body)).id
    assert await content(await store.read(id, (10, 20))) == body[10:20]
    large = (await put(store, body_of(BLOCK + 1))).id
    with pytest.raises(Unavailable, match="another range"):
        await store.read(large, (10, 20))
    await imitation.stop()


@ensureDeferred
async def test_a_part_that_ends_early_is_unavailable():
    """Each block may be right, but the last are missing."""
    body = body_of(BLOCK)

    async def failure(error):
        return error

    part = CheckedPart(pieces_of(body), (10, BLOCK + 7), lambda start, block: None, failure)
    got = []
    with pytest.raises(Unavailable, match="7 bytes early"):
        await read_into(got, part)
    assert b"".join(got) == body[10:]


@ensureDeferred
async def test_a_large_body_that_is_uploaded_again_is_sent_again(store, monkeypatch):
    """S3 does not copy one of over 5 GiB, to change its metadata."""
    monkeypatch.setattr("sos.stores.engines.s3.blobs.MOST_COPIED", MEGABYTE)
    body = body_of(2 * MEGABYTE)
    id = (await put(store, body, metadata={SET_AT: "10"})).id

    async def refused(*arguments):
        raise AssertionError("it is too large")

    with monkeypatch.context() as patched:
        patched.setattr(store._bucket, "copy", refused)
        await put(store, body, id, {SET_AT: "20"})
    assert (await store.stat(id)).metadata == {SET_AT: "10", STORED_AT: "2000"}
    assert await content(await store.read(id)) == body


@ensureDeferred
async def test_a_manifest_leaves_a_large_object_where_it_is(store, monkeypatch):
    """Though S3 does not copy the object to change its metadata."""
    monkeypatch.setattr("sos.stores.engines.s3.blobs.MOST_COPIED", MEGABYTE)
    body = body_of(2 * MEGABYTE)
    id, manifest, metadata = manifest_of(body, 100_000)
    await put(store, body, id, {SET_AT: "10"})
    await put(store, manifest, id, {**metadata, SET_AT: "20"})
    blob = await store.read(id)
    assert await content(blob) == body
    assert blob.info.metadata == {SET_AT: "10"}
