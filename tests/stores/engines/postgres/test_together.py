"""Several processes on one store: here several stores, which share nothing but the tables."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.defer import gatherResults

from sos.errors import Conflict, NotFound
from tests.stores.engines.postgres.stores import check_digests, make
from tests.support.blobs import body_of, content, content_id, manifest_of, put


@async_yield_fixture
async def stores(url, reactor):
    stores = [make(url, reactor) for _ in range(3)]
    for store in stores:
        await store.open()
    yield stores
    for store in stores:
        await store.close()


@ensureDeferred
async def test_nothing_is_lost_or_counted_twice(shared_engine, stores):
    """The same blobs, in every order, stored, settled and dropped by all of them at once."""
    bodies = [body_of(n if n % 10 else 70_000 + n) for n in range(120)]
    token = await stores[0].lease(60)

    async def store_all(store, seed):
        order = random.Random(seed).sample(bodies, len(bodies))
        await gatherResults([deferred(put(store, body, metadata={"X-N": seed})) for body in order])

    async def settle_some(store, seed):
        for body in random.Random(seed).sample(bodies, 40):
            with suppress(NotFound):
                await store.reconcile(content_id(body), {"X-A": seed})

    async def drop_some(store):
        for body in bodies[::3]:
            await store.drop(content_id(body), token)

    works = [store_all(store, str(seed)) for seed, store in enumerate(stores)]
    works += [settle_some(store, str(seed)) for seed, store in enumerate(stores)]
    await gatherResults([deferred(each) for each in works])
    assert len(await stores[0].listing()) == len(bodies)
    await check_digests(stores[1])
    works = [store_all(stores[0], "5"), settle_some(stores[0], "6"), store_all(stores[1], "7")]
    works += [drop_some(stores[1]), drop_some(stores[2])]
    await gatherResults([deferred(each) for each in works])
    await check_digests(stores[2])
    for id in await stores[2].listing():
        await content(await stores[1].read(id))
    assert "deadlock detected" not in shared_engine.log


@ensureDeferred
async def test_one_name_gets_one_body(stores):
    """Whoever comes first; the others are told."""
    uploads = [deferred(put(store, b"%d" % n, "name")) for n, store in enumerate(stores)]
    outcomes = []
    for upload in uploads:
        try:
            await upload
            outcomes.append("stored")
        except Conflict:
            outcomes.append("conflict")
    assert sorted(outcomes) == ["conflict", "conflict", "stored"]
    kept = await content(await stores[0].read("name"))
    assert kept == b"%d" % outcomes.index("stored")


@ensureDeferred
async def test_an_object_comes_out_on_top_of_its_manifest(stores):
    """In whatever order they reach the table."""
    for n in range(8):
        body = body_of(100_000 + n)
        id, text, metadata = manifest_of(body, 1000)
        both = [(text, metadata), (body, {})]
        works = [
            deferred(put(store, *[both[(n + i) % 2][0], id, both[(n + i) % 2][1]]))
            for i, store in enumerate(stores)
        ]
        await gatherResults(works)
        assert await content(await stores[0].read(id)) == body
    await check_digests(stores[0])


@ensureDeferred
async def test_the_lease_is_for_one_of_all(stores):
    """And what it allows can be done through any of them."""
    token = await stores[0].lease(60)
    with pytest.raises(Conflict):
        await stores[1].lease(60)
    await put(stores[2], b"one", "name")
    await stores[1].drop("name", token)
    await stores[2].release(token)
    await stores[1].lease(60)
    with pytest.raises(Conflict):
        await stores[0].drop("name", token)


@ensureDeferred
async def test_a_lease_ends(stores):
    """By the server's clock, which is the same for all."""
    first = await stores[0].lease(0)
    assert await stores[1].lease(60) != first
