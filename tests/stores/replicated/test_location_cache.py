"""What is remembered of blobs that are not where they belong, alone and shared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.aio.threads import threads_of
from sos.errors import NotFound, Unavailable
from sos.interfaces import Member
from sos.stores.memory import MemoryStore
from sos.stores.replicated.location_cache import LocationCache
from sos.stores.replicated.store import ReplicatedStore
from tests.support.blobs import content, content_id, put
from tests.support.doubles import FailingStore
from tests.support.replicas import Gate, a_with, body_for, grouped


class SharedDict:
    """A cache that is always well, and tells what it was asked.

    :ivar lie: what it says instead of what it was told, when not None.
    :ivar held: what an answer waits for, when not None.
    """

    def __init__(self):
        self.values = {}
        self.asked = []
        self.lie = None
        self.held = None

    async def get(self, key):
        self.asked.append(key)
        if self.held is not None:
            await self.held
        return self.values.get(key) if self.lie is None else self.lie

    def set(self, key, value):
        self.values[key] = value


def counting(name):
    """Return a store that counts who asks, and does not hold them."""
    store = Gate(name)
    store.open()
    return store


def sharing(reactor, cache, *groups):
    """Return a replicated store of readonly servers, which mends nothing."""
    members = [[Member(each, readonly=True) for each in group] for group in groups]
    threads = threads_of(reactor)
    return ReplicatedStore(grouped(*members), threads, Clock(), locations=LocationCache(cache))


def key_of(id):
    return b"sos:where:" + id.encode()


def test_what_was_not_used_for_longest_is_forgotten(monkeypatch):
    """So that there is a bound to it."""
    monkeypatch.setattr("sos.stores.replicated.location_cache._MOST", 2)
    locations = LocationCache()
    for id in ("a", "b", "a", "c"):
        locations.remember(id, f"server of {id}")
    assert locations.known("a") == "server of a"
    assert locations.known("b") is None
    locations.forget("a")
    locations.forget("never known")
    assert locations.known("a") is None


@ensureDeferred
async def test_a_blob_where_it_belongs_costs_no_question(reactor):
    """The cache is neither asked nor told, reading or writing."""
    cache = SharedDict()
    a, b = MemoryStore("a"), MemoryStore("b")
    body, id = body_for(a, b)
    store = ReplicatedStore(
        grouped([a, b]), threads_of(reactor), Clock(), locations=LocationCache(cache)
    )
    await put(store, body)
    await store.read(id)
    await store.stat(id)
    assert (cache.asked, cache.values) == ([], {})


@ensureDeferred
async def test_what_one_found_another_finds_sooner(reactor):
    """It asks the first, as ever, and after that whom the cache tells."""
    cache = SharedDict()
    a, b, c, d = (counting(name) for name in "abcd")
    body, id = body_for(a, b, c, d)
    a_with(d, body)
    assert await content(await sharing(reactor, cache, [a, b, c, d]).read(id)) == body
    assert cache.values == {key_of(id): b"d"}
    assert [each.asked for each in (a, b, c, d)] == [1, 1, 1, 1]
    assert await content(await sharing(reactor, cache, [a, b, c, d]).read(id)) == body
    assert (a.asked, c.asked, d.asked) == (2, 1, 2)


@ensureDeferred
async def test_what_went_to_another_place_is_told(reactor):
    """By the API server that has put it there."""
    cache = SharedDict()
    down, b = FailingStore("down"), MemoryStore("b")
    locations = LocationCache(cache)
    store = ReplicatedStore(grouped([down], [b]), threads_of(reactor), Clock(), locations=locations)
    for seed in range(20):
        id = (await put(store, b"%d" % seed)).id
        assert id in b.blobs
    assert set(cache.values.values()) == {b"b"}
    store.stop()


@ensureDeferred
async def test_nothing_waits_for_the_cache(reactor):
    """Neither a blob that another has nor the word that nobody has it."""
    cache = SharedDict()
    cache.held = Deferred()
    a, b, c = (counting(name) for name in "abc")
    body, id = body_for(a, b, c)
    a_with(b, body)
    assert await content(await sharing(reactor, cache, [a, b, c]).read(id)) == body
    assert (len(cache.asked), c.asked) == (1, 0)
    cache.lie = b"c"
    held, cache.held = cache.held, Deferred()
    held.callback(None)  # too late, and nobody is asked any more
    assert c.asked == 0
    with pytest.raises(NotFound):
        await sharing(reactor, cache, [a, b, c]).read("abc")


@ensureDeferred
async def test_whom_the_cache_tells_is_asked_though_another_does_not_answer(reactor):
    """At once, beside the next in turn."""
    cache = SharedDict()
    a, silent, c = counting("a"), Gate("silent"), counting("c")
    body, id = body_for(a, silent, c)
    a_with(c, body)
    cache.values[key_of(id)] = b"c"
    assert await content(await sharing(reactor, cache, [a, silent, c]).read(id)) == body
    assert (a.asked, c.asked) == (1, 1)


@ensureDeferred
async def test_a_lie_costs_one_request(reactor):
    """A server that has no such blob is asked before its turn, and not again."""
    cache = SharedDict()
    servers = [counting(name) for name in "abcd"]
    body, id = body_for(*servers)
    a_with(servers[1], body)
    store = sharing(reactor, cache, servers)
    cache.lie = b"d"
    assert await content(await store.read(id)) == body
    assert [each.asked for each in servers] == [1, 1, 0, 1]
    with pytest.raises(NotFound):
        await store.read("abc")
    assert sum(each.asked for each in servers) == 3 + 2 * 4  # what is missing is looked for twice


@ensureDeferred
async def test_after_a_lie_the_others_keep_their_turns(reactor):
    """Whoever comes next waits for the one before, as if nothing had been said."""
    cache = SharedDict()
    a, slow, c, d = counting("a"), Gate("slow"), counting("c"), counting("d")
    body, id = body_for(a, slow, c, d)
    a_with(slow, body)
    cache.lie = b"d"
    reading = deferred(sharing(reactor, cache, [a, slow, c, d]).read(id))
    assert [each.asked for each in (a, slow, c, d)] == [1, 1, 0, 1]
    slow.open()
    assert await content(await reading) == body
    assert c.asked == 0


@ensureDeferred
async def test_missing_is_still_the_word_of_every_server(reactor):
    """A cache that names one server does not speak for another."""
    cache = SharedDict()
    cache.lie = b"b"
    store = sharing(reactor, cache, [MemoryStore("a"), MemoryStore("b"), FailingStore("down")])
    with pytest.raises(Unavailable, match="1 of 3"):
        await store.read("abc")
    store.stop()


@ensureDeferred
async def test_what_no_server_has_any_more_is_forgotten(reactor):
    """The next search begins with the first again."""
    cache = SharedDict()
    servers = a, b = counting("a"), counting("b")
    body, id = body_for(a, b)
    a_with(b, body)
    locations = LocationCache(cache)
    members = grouped([Member(each, readonly=True) for each in servers])
    store = ReplicatedStore(members, threads_of(reactor), Clock(), locations=locations)
    await store.read(id)
    assert locations.known(id) == "b"
    b.blobs.clear()
    with pytest.raises(NotFound):
        await store.read(id)
    assert locations.known(id) is None


names = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"http://other.example:1"])


@given(lie=st.none() | names | st.binary(max_size=300), holder=st.sampled_from([None, *"abcde"]))
def test_whatever_the_cache_says_the_answer_is_right(reactor, lie, holder):
    """The bytes of the blob, or that there is none; each server is asked once to find it."""
    cache = SharedDict()
    cache.lie = lie
    servers = {name: counting(name) for name in "abcde"}
    groups = [servers["a"], servers["b"]], [servers["c"], servers["d"], servers["e"]]
    body = b"the body"
    if holder is not None:
        a_with(servers[holder], body)
    results = []
    store = sharing(reactor, cache, *groups)
    reading = deferred(store.read(content_id(body)))
    reading.addBoth(results.append)
    (result,) = results
    if holder is None:
        assert result.check(NotFound)
        assert all(each.asked == 2 for each in servers.values())
    else:
        assert result.body == body
        assert all(each.asked <= 1 for each in servers.values())
