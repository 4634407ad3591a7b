"""Parts of larger bodies: the store verifies each piece before it returns any of its bytes."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import Mismatch, NotFound
from sos.model.metadata import SET_AT
from sos.stores.engines.redis.record import PIECE
from tests.stores.engines.redis.test_damage import blob, body, flip
from tests.stores.engines.redis.test_faults import LARGE, expected_digests
from tests.support.blobs import body_of, content, manifest_of, put

EDGES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1, LARGE]
SPANS = [(start, stop) for start in EDGES for stop in EDGES if start <= stop]
#: Parts that touch each piece of a body of :data:`LARGE` bytes, by the number of the piece.
TOUCHING = [
    (0, (0, 1)),
    (0, (1000, PIECE)),
    (0, (PIECE - 1, PIECE + 1)),
    (1, (PIECE, PIECE + 1)),
    (1, (PIECE + 1000, 2 * PIECE - 1000)),
    (1, (2 * PIECE - 1, LARGE)),
    (2, (2 * PIECE, 2 * PIECE + 1)),
    (2, (LARGE - 1, LARGE)),
    (2, (0, LARGE)),
]


async def received(store, id, span=None):
    """Read a blob; return the bytes that come, and the error at the end or None."""
    pieces = []
    try:
        async with aclosing((await store.read(id, span)).body) as found:
            async for piece in found:
                pieces.append(piece)
    except Mismatch as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


def unhashed(client, id):
    """Make the body of a blob one that an earlier version has stored."""
    assert client.hdel(blob(client, id), "hashes") == 1


async def stored(store, engine, how):
    """Store a large body; make its hashes what *how* says; return its id."""
    id = (await put(store, body_of(LARGE))).id
    with engine.client() as client:
        if how == "no hashes":
            unhashed(client, id)
        elif how == "damaged hashes":
            flip(client, blob(client, id), "hashes")
        elif how == "short hashes":
            client.hset(blob(client, id), "hashes", b"?")
        elif how == "hashes of another body":
            other = (await put(store, body_of(LARGE, 1))).id
            client.hset(blob(client, id), "hashes", client.hget(blob(client, other), "hashes"))
    return id


@pytest.mark.parametrize(
    "how",
    ["hashes", "no hashes", "damaged hashes", "short hashes", "hashes of another body"],
)
@ensureDeferred
async def test_parts_at_all_alignments_are_slices_of_the_body(engine, store, how):
    """Whatever hashes the store has: only the right ones count."""
    id = await stored(store, engine, how)
    for span in SPANS:
        assert await received(store, id, span) == (body_of(LARGE)[slice(*span)], None)
    assert await content(await store.read(id)) == body_of(LARGE)
    with engine.client() as client:
        assert client.keys("sos:aside:*") == []


@pytest.mark.parametrize(("number", "span"), TOUCHING)
@ensureDeferred
async def test_no_byte_of_a_damaged_piece_is_returned_in_a_part(engine, store, number, span):
    """The blob is quarantined, and then missing, until a sound copy comes."""
    id = (await put(store, body_of(LARGE))).id
    with engine.client() as client:
        flip(client, body(client, id), number)
    found, error = await received(store, id, span)
    assert isinstance(error, Mismatch)
    assert found == body_of(LARGE)[span[0] : max(span[0], number * PIECE)]
    with pytest.raises(NotFound):
        await store.stat(id)
    with engine.client() as client:
        assert len(client.keys(f"sos:aside:{id}:*")) == 2
    assert await store.digests() == await expected_digests(store) == {}
    await put(store, body_of(LARGE))
    assert await received(store, id, span) == (body_of(LARGE)[slice(*span)], None)


@ensureDeferred
async def test_a_part_beside_the_damage_is_returned(engine, store):
    """The store reads only the pieces that the part touches."""
    id = (await put(store, body_of(LARGE))).id
    with engine.client() as client:
        flip(client, body(client, id), 1)
    for span in ((0, PIECE), (2 * PIECE, LARGE)):
        assert await received(store, id, span) == (body_of(LARGE)[slice(*span)], None)


@ensureDeferred
async def test_no_byte_of_a_damaged_piece_is_returned_in_a_whole_body(engine, store):
    """The pieces before it are verified by their hashes already."""
    id = (await put(store, body_of(LARGE))).id
    with engine.client() as client:
        flip(client, body(client, id), 1)
    found, error = await received(store, id)
    assert found == body_of(LARGE)[:PIECE]
    assert isinstance(error, Mismatch)


@ensureDeferred
async def test_other_metadata_leaves_the_hashes(engine, store):
    """They belong to the body."""
    id = (await put(store, body_of(LARGE), metadata={"X-A": "1", SET_AT: "2"})).id
    await store.reconcile(id, {"X-A": "2", SET_AT: "1"})
    assert (await store.stat(id)).metadata["X-A"] == "2"
    with engine.client() as client:
        flip(client, body(client, id), 0)
    assert (await received(store, id, (0, 10)))[0] == b""


@pytest.mark.parametrize(("size", "chunk"), [(LARGE, 40), (LARGE, PIECE), (PIECE, 40)])
@ensureDeferred
async def test_a_body_in_place_of_another_has_its_own_hashes(engine, store, size, chunk):
    """An object replaces its manifest, whichever of them is in pieces."""
    object = body_of(size)
    id, manifest, metadata = manifest_of(object, chunk)
    await put(store, manifest, id, metadata)
    with engine.client() as client:
        assert client.hexists(blob(client, id), "hashes") == (chunk == 40)
        await put(store, object)
        assert client.hexists(blob(client, id), "hashes") == (size == LARGE)
        assert await content(await store.read(id, (5, 15))) == object[5:15]
        if size == LARGE:
            flip(client, body(client, id), 0)
            assert (await received(store, id, (5, 15)))[0] == b""


@ensureDeferred
async def test_a_small_body_with_the_hashes_of_another_is_sound(engine, store):
    """A server of an earlier version leaves them when an object replaces its manifest."""
    large = (await put(store, body_of(LARGE))).id
    small = (await put(store, b"small")).id
    with engine.client() as client:
        client.hset(blob(client, small), "hashes", client.hget(blob(client, large), "hashes"))
    assert await content(await store.read(small)) == b"small"
    assert await content(await store.read(small, (1, 3))) == b"ma"


@ensureDeferred
async def test_a_dropped_blob_leaves_no_hashes(engine, store):
    """Its whole record goes."""
    id = (await put(store, body_of(LARGE))).id
    await store.drop(id, await store.lease(60))
    with engine.client() as client:
        assert client.keys("sos:blob:*") == []


@pytest.mark.parametrize("how", ["no hashes", "damaged hashes", "hashes of another body"])
@ensureDeferred
async def test_a_body_without_hashes_gets_them_when_it_is_read_whole(engine, store, how):
    """From then on its parts are verified, too."""
    id = await stored(store, engine, how)
    digests = await store.digests()
    assert await content(await store.read(id)) == body_of(LARGE)
    assert await store.digests() == digests == await expected_digests(store)
    with engine.client() as client:
        flip(client, body(client, id), 1)
    assert isinstance((await received(store, id, (PIECE, PIECE + 1)))[1], Mismatch)


@ensureDeferred
async def test_a_damaged_body_gets_no_hashes(engine, store):
    """It is quarantined as it is."""
    id = await stored(store, engine, "no hashes")
    with engine.client() as client:
        flip(client, body(client, id), 2)
        assert isinstance((await received(store, id))[1], Mismatch)
        (aside,) = (key for key in client.keys("sos:aside:*") if b":body" not in key)
        assert not client.hexists(aside, "hashes")


@pytest.mark.parametrize("setting", ["maxmemory", "min-replicas-to-write"])
@ensureDeferred
async def test_a_redis_that_refuses_writes_returns_a_body_without_hashes(engine, store, setting):
    """It cannot store them, which is no reason not to read."""
    id = await stored(store, engine, "no hashes")
    with engine.client() as client:
        client.config_set(setting, 1)
        for _ in range(2):
            assert await content(await store.read(id)) == body_of(LARGE)
        assert not client.hexists(blob(client, id), "hashes")


@ensureDeferred
async def test_the_hashes_of_a_body_that_is_dropped_while_it_is_read_are_not_stored(engine, store):
    """Nothing of the blob comes back."""
    id = await stored(store, engine, "no hashes")
    found = await store.read(id)
    await store.drop(id, await store.lease(60))
    assert await content(found) == body_of(LARGE)
    with engine.client() as client:
        assert client.keys("sos:blob:*") == []
