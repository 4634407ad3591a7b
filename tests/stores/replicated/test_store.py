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
from sos.replication import Policy, Report, replicate
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
async def test_a_host_that_is_renamed_keeps_what_belongs_to_it(reactor):
    """By its name; and it is spoken to at its new address."""
    hosts = [MemoryStore(f"http://{n}:1") for n in range(4)]
    members = [Member(host, name=f"b{n}") for n, host in enumerate(hosts)]
    store = replicated(reactor, members)
    ids = [(await put(store, body_of(100, n))).id for n in range(50)]
    before = [sorted(host.blobs) for host in hosts]
    assert all(before)
    moved = MemoryStore("http://new:1")
    moved.blobs, hosts[0].blobs = hosts[0].blobs, {}
    store.configure(grouped([Member(moved, name="b0"), *members[1:]]))
    groups = {"group0": (Member(moved, name="b0"), *members[1:])}
    summary = await replicate(groups, Policy(1), reactor, Report())
    assert (summary.idle, summary.blobs) == (True, 50)
    assert [sorted(host.blobs) for host in (moved, *hosts[1:])] == before
    for id in ids:
        assert await store.stat(id)
    for n in range(50, 80):
        await put(store, body_of(100, n))
    assert hosts[0].blobs == {}
    assert (await replicate(groups, Policy(1), reactor, Report())).idle
    (health_by_group,) = (await store.survey()).values()
    assert [(each.name, each.url) for each in health_by_group][:2] == [
        ("b0", "http://new:1"),
        ("b1", "http://1:1"),
    ]


@ensureDeferred
async def test_what_a_host_failed_with_goes_with_its_address(reactor):
    """Another host under its name begins anew, and nobody asks the old one any more."""
    clock = Clock()
    bad, new = Recovering("http://bad:1"), MemoryStore("http://new:1")
    store = replicated(reactor, [Member(bad, name="b")], clock=clock)
    with pytest.raises(Unavailable):
        await store.read("abc")
    store.configure(grouped([Member(new, name="b")]))
    assert clock.getDelayedCalls() == []
    assert len((await put(store, b"x")).id) == 40
    assert len(new.blobs) == 1


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
