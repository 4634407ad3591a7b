"""Small blobs from a cache: what is asked of it, and what is believed."""

from __future__ import annotations

import time

import pytest
from pytest_twisted import ensureDeferred

from sos.aio.threads import threads_of
from sos.auth.request_signing import Key, Keys
from sos.errors import NotFound, Unavailable
from sos.interfaces import SMALL_BODY
from sos.model.merge import tombstone
from sos.model.metadata import EXPIRES_AT, SET_AT, STORED_AT, ticks
from sos.stores.cache.reads import CachedReads
from sos.stores.cache.sealed_blob import unseal
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from tests.contract import StoreContract
from tests.support.blobs import body_of, content, content_id, manifest_of, put
from tests.support.replicas import replicated

KEYS = Keys((Key(b"1" * 32), Key(b"2" * 32)))


class SharedDict(dict):
    """A cache that does what it is told, and counts."""

    asked = 0

    async def get(self, key):
        self.asked += 1
        return super().get(key)

    def set(self, key, value):
        self[key] = value

    def add(self, key, value):
        self.setdefault(key, value)

    async def replace(self, key, value):
        self[key] = value
        return True


class Lying(SharedDict):
    """A cache that keeps everything and answers with something else."""

    async def get(self, key):
        values = [value for other, value in self.items() if other != key] or [b"junk" * 20]
        return values[0]


def cached(reactor, cache, *stores, keys=KEYS):
    return CachedReads(replicated(reactor, list(stores)).read, cache, lambda: keys)


class TestCachedReads(StoreContract):
    @pytest.fixture(params=[SharedDict, Lying])
    def store(self, reactor, request):
        store = replicated(reactor, [MemoryStore("a")])
        read = CachedReads(store.read, request.param(), lambda: KEYS).read
        return ChunkedStore(store, 0, threads_of(reactor), read=read)


@ensureDeferred
async def test_a_small_blob_is_read_once(reactor):
    """Then it comes from the cache, with its metadata, whoever has put it there."""
    cache, a = SharedDict(), MemoryStore("a")
    id = (await put(a, b"small", metadata={"X-A": "1"})).id
    first, second = (cached(reactor, cache, a) for _ in range(2))
    assert await content(await first.read(id)) == b"small"
    a.blobs.clear()
    blob = await second.read(id)
    assert (blob.info.size, blob.info.metadata, blob.body) == (5, {"X-A": "1"}, b"small")


@ensureDeferred
async def test_what_can_change_or_is_large_is_not_cached(reactor):
    """Nor is it asked for: opaque names, larger bodies, manifests, parts."""
    cache, a = SharedDict(), MemoryStore("a")
    store = cached(reactor, cache, a)
    await put(a, b"named", "name")
    large = (await put(a, body_of(SMALL_BODY + 1))).id
    id, text, metadata = manifest_of(body_of(5000), 1000)
    await put(a, text, id, metadata)
    small = (await put(a, body_of(1000))).id
    for each, span in (("name", None), (large, None), (id, None), (small, (0, 10))):
        await content(await store.read(each, span))
    assert cache == {}


@ensureDeferred
async def test_a_key_can_be_changed(reactor):
    """What the one before has sealed is opened while that holds."""
    cache, a = SharedDict(), MemoryStore("a")
    id = (await put(a, b"small")).id
    await cached(reactor, cache, a, keys=Keys(KEYS.all[1:])).read(id)
    (entry,) = cache.values()
    assert unseal(KEYS.all[1], id, entry) is not None
    a.blobs.clear()
    assert (await cached(reactor, cache, a).read(id)).body == b"small"
    with pytest.raises(NotFound):
        await cached(reactor, cache, a, keys=Keys(KEYS.all[:1])).read(id)


@ensureDeferred
async def test_what_is_made_up_is_not_believed(reactor):
    """The servers are asked, until it expires."""
    cache, a = SharedDict(), MemoryStore("a")
    id = (await put(a, b"true", metadata={"X-A": "true"})).id
    cache[b"sos:blob:" + id.encode()] = b"made up"
    blob = await cached(reactor, cache, a).read(id)
    assert (blob.body, blob.info.metadata) == (b"true", {"X-A": "true"})
    assert content_id(b"true") == id


@ensureDeferred
async def test_an_entry_that_has_expired_does_not_count(reactor):
    """The object may live longer by now: the servers know."""
    cache, a, now = SharedDict(), MemoryStore("a"), time.time()
    ends = [{STORED_AT: str(ticks(now + n)), EXPIRES_AT: str(ticks(now + 60 * n))} for n in (1, 2)]
    id = (await put(a, b"small", metadata={SET_AT: str(ticks(now)), **ends[0]})).id
    await cached(reactor, cache, a).read(id)
    await a.reconcile(id, ends[1])
    for later, end in ((59, ends[0]), (61, ends[1])):
        reads = CachedReads(
            replicated(reactor, [a]).read, cache, lambda: KEYS, lambda later=later: now + later
        )
        assert (await reads.read(id)).info.metadata[EXPIRES_AT] == end[EXPIRES_AT]


@ensureDeferred
async def test_a_blob_that_was_deleted_is_kept_out(reactor):
    """Also by a read that had begun before."""
    cache, a = SharedDict(), MemoryStore("a")
    id = (await put(a, b"small", metadata={SET_AT: str(ticks(1.79e9))})).id
    reads = cached(reactor, cache, a)
    await reads.read(id)
    blob = await reads._uncached(id, None)
    await a.reconcile(id, tombstone(ticks(1.8e9)))
    await reads.forget(id)
    reads._keep(blob.info, blob.body)
    with pytest.raises(NotFound):
        await reads.read(id)


@ensureDeferred
async def test_a_cache_that_does_not_confirm_it(reactor):
    """It may serve the blob."""

    class Silent(SharedDict):
        async def replace(self, key, value):
            return False

    with pytest.raises(Unavailable, match="may still have"):
        await cached(reactor, Silent(), MemoryStore("a")).forget(content_id(b"x"))
