"""Servers that are one store, under several addresses: it counts once."""

from __future__ import annotations

from uuid import uuid4

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.logger import capturedLogs

from sos.errors import Unavailable
from sos.monitoring.server_health import UP
from sos.replication import Policy, Report, replicate
from sos.stores.memory import MemoryStore
from tests.replication.groups import run
from tests.support.blobs import body_of, put
from tests.support.replicas import grouped, replicated


def a_store(name):
    return MemoryStore(name, identity=str(uuid4()))


def address_of(store, name):
    """Return another server that is the same *store*."""
    twin = MemoryStore(name, identity=store.identity)
    twin.blobs = store.blobs
    return twin


@ensureDeferred
async def test_an_upload_to_one_store_is_one_copy(reactor):
    """From the first upload on, whatever the servers were asked before."""
    a = a_store("http://localhost:1")
    store = replicated(reactor, [a, address_of(a, "http://127.0.0.1:1")], acknowledged=2, wanted=2)
    with pytest.raises(Unavailable, match="1 of 2 copies"):
        await put(store, b"x")


@ensureDeferred
async def test_another_server_takes_the_second_copy(reactor):
    """If there is one, in whatever order they come."""
    for n in range(20):
        a, b = a_store("a"), a_store("b")
        servers = [a, address_of(a, "also-a"), b]
        store = replicated(reactor, servers, acknowledged=2, wanted=2)
        info = await put(store, body_of(100, n))
        assert info.copies == 2
        assert [len(each.blobs) for each in (a, b)] == [1, 1]


@ensureDeferred
async def test_servers_that_tell_no_id_count_as_before(reactor):
    """They are of the release before, or of the original system."""
    store = replicated(reactor, [MemoryStore("a"), MemoryStore("b")], acknowledged=2, wanted=2)
    assert (await put(store, b"x")).copies == 2
    assert await store.look() == []
    assert (await store.status()).writable


@ensureDeferred
async def test_that_servers_are_one_store_is_told(reactor):
    """Of any group; and such a cluster does not take what needs two stores."""
    a = a_store("a")
    groups = [a, a_store("b")], [address_of(a, "c")]
    store = replicated(reactor, *groups)
    (error,) = await store.look()
    assert error.startswith("a and c are the same store")
    (first, second), (third,) = (await store.survey()).values()
    assert first.id == third.id != second.id
    assert {each.state for each in (first, second, third)} == {UP}
    store = replicated(reactor, [a, address_of(a, "c")], acknowledged=2)
    status = await store.status()
    assert not status.writable
    assert "1 of 2 servers" in status.reason
    store.configure(grouped([a, a_store("b")]))
    assert await store.look() == []
    assert (await store.status()).writable


@ensureDeferred
async def test_another_store_at_an_address_is_told(reactor):
    """Until whoever has put it there has the configuration read again."""
    a = a_store("a")
    first = a.identity
    store = replicated(reactor, [a])
    assert await store.look() == []
    a.identity = str(uuid4())
    await put(store, b"x")  # which tells it as well
    for _ in range(2):
        (error,) = store.errors()
        assert error.startswith(
            f"a has another store id than before, {a.identity} instead of {first}"
        )
        assert await store.look() == [error]
    store.configure(grouped([a]))
    assert await store.look() == []


@ensureDeferred
async def test_replication_takes_one_store_for_one_copy():
    """It makes a second one elsewhere, and drops nothing."""
    a, b = a_store("a"), a_store("b")
    c = address_of(a, "c")
    for n in range(40):
        await put(a, b"%d" % n)
    summary = await run((a, c, b), 2)
    assert (len(a.blobs), len(b.blobs), summary.moved, summary.short) == (40, 40, 0, 0)
    assert not summary.ok
    assert "a and c are the same store" in str(summary)
    summary = await run((a, c), 2)
    assert (summary.short, summary.ok, len(a.blobs)) == (40, False, 40)
    assert (await run((a, b), 2)).ok


@ensureDeferred
async def test_nothing_is_dropped_from_a_store_that_is_in_two_groups():
    """To one group it is the place of what the other would drop."""
    a, b, c = a_store("a"), a_store("b"), a_store("c")
    for n in range(40):
        await put(a, b"%d" % n)
    groups = grouped([a, b, c], [address_of(a, "d")])
    summary = await replicate(groups, Policy(1), reactor, Report())
    assert (summary.moved, len(a.blobs)) == (0, 40)


@ensureDeferred
async def test_an_id_that_is_none_is_the_server_s_failure():
    """What is told is checked."""
    status = await a_store("a").status()
    for id in ("", "x", 7, "é" * 36, status.id.upper(), status.id + "\n"):
        with pytest.raises(TypeError):
            evolve(status, id=id)


@ensureDeferred
async def test_the_log_says_it_once(reactor):
    from sos.tap.watch import HealthCheck

    a = a_store("a")
    store = replicated(reactor, [a, address_of(a, "c")])
    watch = HealthCheck(store, reactor)
    with capturedLogs() as events:
        await watch.work()
        await watch.work()
    (event,) = [each for each in events if "the same store" in each.get("error", "")]
    assert event["log_level"].name == "error"
    store.configure(grouped([a]))
    with capturedLogs() as events:
        await watch.work()
        await watch.work()
    assert ["are resolved" in each["log_format"] for each in events] == [True]


@ensureDeferred
async def test_a_store_that_is_meant_to_be_another_is_reloaded_once(reactor):
    """Also before anybody has looked at the new one."""
    a, b = a_store("a"), a_store("a")
    store = replicated(reactor, [a])
    await store.survey()
    store.configure(grouped([b]))
    await store.survey()
    assert store.errors() == []
    c = a_store("a")
    store._members.peers["a"].store = c
    store._members._groups = grouped([c])
    await store.survey()
    assert len(store.errors()) == 1
    store.stop()
