"""What somebody changes in a Redis behind the store's back."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import Mismatch, NotFound, Quarantined, Unavailable
from sos.scrub import Report, scrub
from sos.stores.engines.redis.record import PIECE
from tests.stores.engines.redis.test_faults import LARGE, expected_digests
from tests.support.blobs import body_of, content, content_id, put

SIZES = [10, 100_000, LARGE]


def flip(client, key, field):
    """Change one bit of a field."""
    data = bytearray(client.hget(key, field))
    data[len(data) // 2] ^= 4
    client.hset(key, field, bytes(data))


def blob(client, id):
    return b"sos:blob:" + id.encode()


def body(client, id):
    return b"sos:body:" + client.hget(blob(client, id), "key")


#: What can happen to a blob, and the sizes of those to which it can.
DAMAGES = {
    "body": (lambda client, id: flip(client, blob(client, id), "body"), SIZES[:2]),
    "no body": (lambda client, id: client.hdel(blob(client, id), "body"), SIZES[:2]),
    "head": (lambda client, id: flip(client, blob(client, id), "head"), SIZES),
    "weight": (
        lambda client, id: client.hset(
            blob(client, id), "head", b"\1" * 24 + client.hget(blob(client, id), "head")[24:]
        ),
        SIZES,
    ),
    "short head": (lambda client, id: client.hset(blob(client, id), "head", b"?"), SIZES),
    "no head": (lambda client, id: client.hdel(blob(client, id), "head"), SIZES),
    "no record": (lambda client, id: client.delete(blob(client, id)), SIZES),
    "no key": (lambda client, id: client.hdel(blob(client, id), "key"), SIZES[2:]),
    "key": (lambda client, id: flip(client, blob(client, id), "key"), SIZES[2:]),
    "first piece": (lambda client, id: flip(client, body(client, id), 0), SIZES[2:]),
    "last piece": (lambda client, id: flip(client, body(client, id), 2), SIZES[2:]),
    "no piece": (lambda client, id: client.hdel(body(client, id), 1), SIZES[2:]),
    "other piece": (
        lambda client, id: client.hset(body(client, id), mapping={"1": "x"}),
        SIZES[2:],
    ),
    "no pieces": (lambda client, id: client.delete(body(client, id)), SIZES[2:]),
}
CASES = [(name, size) for name, (_, sizes) in DAMAGES.items() for size in sizes]


async def damaged(engine, store, name, size):
    """Store two blobs, and damage one of them; return the id of that."""
    kept = body_of(size)
    await put(store, b"a neighbour", "neighbour")
    id = (await put(store, kept, metadata={"X-A": "1"})).id
    with engine.client() as client:
        DAMAGES[name][0](client, id)
    return id


@pytest.mark.parametrize(("name", "size"), CASES)
@ensureDeferred
async def test_a_damaged_blob_is_set_aside_by_who_reads_it(engine, store, name, size):
    """It is missing from then on, kept under another key, and can be stored again."""
    id = await damaged(engine, store, name, size)
    received = []

    async def read():
        found = await store.read(id)
        if isinstance(found.body, bytes):
            return
        async for piece in found.body:
            received.append(piece)

    with pytest.raises((Mismatch, Quarantined)):
        await read()
    assert len(b"".join(received)) < size
    for ask in (store.stat(id), store.read(id)):
        with pytest.raises(NotFound):
            await ask
    assert await store.listing() == ["neighbour"]
    assert await store.digests() == await expected_digests(store)
    with engine.client() as client:
        aside = client.keys(f"sos:aside:{id}:*")
        assert aside or name == "no record"
        assert [key for key in aside if b":body" not in key] == aside[:1] or len(aside) == 2
        assert client.keys("sos:body:*") == [] or name in ("key", "no key", "no record", "no head")
    await put(store, body_of(size), metadata={"X-A": "2"})
    assert await content(await store.read(id)) == body_of(size)
    assert await store.digests() == await expected_digests(store)


@pytest.mark.parametrize(("name", "size"), CASES)
@ensureDeferred
async def test_a_damaged_blob_gives_way_to_a_sound_one(engine, store, name, size):
    """An upload is acknowledged only when what is stored is sound."""
    id = await damaged(engine, store, name, size)
    assert (await put(store, body_of(size))).id == id
    assert await content(await store.read(id)) == body_of(size)
    assert await store.digests() == await expected_digests(store)


@pytest.mark.parametrize(("name", "size"), CASES)
@ensureDeferred
async def test_a_damaged_blob_can_be_dropped(engine, store, name, size):
    """And the digests are right after it."""
    id = await damaged(engine, store, name, size)
    await store.drop(id, await store.lease(60))
    assert await store.listing() == ["neighbour"]
    assert await store.digests() == await expected_digests(store)


@ensureDeferred
async def test_a_scrub_finds_all_that_is_damaged(engine, store, reactor):
    """And nothing else."""
    ids = [(await put(store, body_of(size, n))).id for n, size in enumerate(SIZES * 3)]
    with engine.client() as client:
        for id, size in zip(ids, SIZES, strict=False):
            DAMAGES["last piece" if size == LARGE else "body"][0](client, id)
    report = Report()
    await scrub(store, report, reactor, 0, lambda: 0.0)
    assert (report.checked, report.damaged, report.unreadable) == (9, 3, 0)
    report = Report()
    await scrub(store, report, reactor, 0, lambda: 0.0)
    assert (report.checked, report.damaged, report.unreadable) == (6, 0, 0)


@ensureDeferred
async def test_a_large_body_that_is_read_can_be_dropped(engine, store):
    """Who has begun to read it has a minute to do so."""
    kept = body_of(LARGE)
    id = (await put(store, kept)).id
    found = await store.read(id)
    await store.drop(id, await store.lease(60))
    with engine.client() as client:
        (key,) = client.keys("sos:body:*")
        assert 0 < client.ttl(key) <= 60
        assert await content(found) == kept


@ensureDeferred
async def test_a_body_that_was_dropped_long_ago_is_not_called_damaged(engine, store):
    """It cannot be read to its end, and that is all."""
    id = (await put(store, body_of(LARGE))).id
    found = await store.read(id)
    await store.drop(id, await store.lease(60))
    with engine.client() as client:
        client.delete(*client.keys("sos:body:*"))
    with pytest.raises(Unavailable, match="dropped"):
        await content(found)
    assert engine.client().keys("sos:aside:*") == []


@ensureDeferred
async def test_no_more_than_two_pieces_are_in_memory(store):
    """Whatever is read of a large body comes in pieces."""
    kept = body_of(4 * PIECE + 1)
    id = (await put(store, kept)).id
    assert id == content_id(kept)
    found = await store.read(id)
    assert [len(piece) async for piece in found.body] == [PIECE] * 4 + [1]
    found = await store.read(id, (PIECE - 1, PIECE + 1))
    assert [len(piece) async for piece in found.body] == [1, 1]
