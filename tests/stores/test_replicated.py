"""The replicated store, over stores in memory: its contract, and its configuration."""

from __future__ import annotations

import gc

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from sos.errors import NotFound, Unavailable
from sos.interfaces import Member
from sos.stores.memory import MemoryStore
from tests.contract import StoreContract
from tests.support.blobs import body_of, content, content_id, put
from tests.support.replicas import Gate, Recovering, a_with, body_for, grouped, replicated


class TestReplicatedStore(StoreContract):
    @pytest.fixture
    def store(self, reactor):
        return replicated(reactor, [MemoryStore("a"), MemoryStore("b")], [MemoryStore("c")])


@ensureDeferred
async def test_other_servers_can_be_configured_while_it_runs(reactor):
    """What is known of those that stay is kept."""
    clock = Clock()
    bad, good, new = Recovering("bad"), MemoryStore("good"), MemoryStore("new")
    store = replicated(reactor, [bad, good], clock=clock)
    with pytest.raises(Unavailable):
        await store.read("abc")
    store.configure(grouped([bad, Member(good, readonly=True), new]))
    info = await put(store, b"x")
    assert list(new.blobs) == [info.id]
    assert bad.asked == 1
    store.configure(grouped([new]))
    assert clock.getDelayedCalls() == []
    with pytest.raises(NotFound):
        await store.read("abc")


@ensureDeferred
async def test_a_search_goes_on_among_those_it_began_with(reactor):
    """Though they are configured away meanwhile: somebody waits for it."""
    first, last = Gate("first"), MemoryStore("last")
    body = body_of(100)
    a_with(last, body)
    store = replicated(reactor, [first], [Member(last, readonly=True)])
    reading = deferred(store.read(content_id(body)))
    missing = deferred(store.read("0" * 40))
    store.configure(grouped([MemoryStore("new")]))
    first.open()
    assert await content(await reading) == body
    with pytest.raises(NotFound):
        await missing


@ensureDeferred
async def test_a_blob_that_is_moved_while_it_is_looked_for_is_found(reactor):
    """From a server that is asked late to one that has been asked before."""
    late = Gate("c")
    a, b = MemoryStore("a"), MemoryStore("b")
    body, id = body_for(a, b, late)
    a_with(late, body)
    reading = deferred(replicated(reactor, [a, b, late]).read(id))
    assert late.asked == 1
    a_with(a, body)
    late.blobs.clear()
    late.open()
    assert await content(await reading) == body


@ensureDeferred
async def test_no_server_is_left_that_can_be_written_to(reactor):
    """An upload is refused, and one that has been stored meanwhile is not lost for it."""
    store = replicated(reactor, [Member(MemoryStore("a"), readonly=True)])
    with capturedLogs() as logged:
        with pytest.raises(Unavailable):
            await put(store, b"x")
        gc.collect()  # or an error that nobody has taken is not told
        gate = Gate("a")
        store = replicated(reactor, [gate])
        upload = deferred(put(store, b"x"))
        store.configure(grouped([Member(gate, readonly=True)]))
        gate.open()
        assert (await upload).id in gate.blobs
        gc.collect()
    assert [event for event in logged if "log_failure" in event] == []
