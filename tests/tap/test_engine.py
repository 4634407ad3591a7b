"""Stores that an engine keeps, in daemons."""

from __future__ import annotations

import json
import os

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from sos.errors import StoreUnusable, Unavailable
from sos.interfaces import IStoreFactory
from sos.stores.factories import StoreFactory, factory, scheme_of
from sos.stores.memory import MemoryStore
from sos.tap.engine import EngineService
from tests.contract import body_of, content_id
from tests.daemons import fetch, free_ports, status_of, wait_until


class Engine(MemoryStore):
    """Opens with what it is told to: an error, None, or a Deferred."""

    def __init__(self, *outcomes):
        super().__init__("engine")
        self.outcomes = list(outcomes)
        self.closed = False

    async def open(self):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            await outcome

    async def close(self):
        self.closed = True


class Reactor(Clock):
    """A clock that notes how it is stopped."""

    stopped = 0

    def __init__(self):
        super().__init__()
        self.triggers = []

    def stop(self):
        self.stopped += 1

    def addSystemEventTrigger(self, phase, event, function):
        self.triggers.append((phase, event, function))


def test_an_engine_that_is_away_is_tried_again_later_and_later():
    """The daemon runs meanwhile."""
    store = Engine(*[Unavailable("away")] * 8, None)
    reactor = Reactor()
    EngineService(store, reactor).startService()
    tried = []
    while store.outcomes:
        before = len(store.outcomes)
        reactor.advance(1)
        if len(store.outcomes) < before:
            tried.append(reactor.seconds())
    assert tried == [1, 3, 7, 15, 31, 61, 91, 121]
    assert reactor.stopped == 0


@pytest.mark.parametrize("error", [StoreUnusable("a wrong password"), ZeroDivisionError()])
def test_an_engine_that_is_of_no_use_ends_the_daemon(error):
    """With an exit status, once all has been stopped."""
    reactor = Reactor()
    EngineService(Engine(Unavailable("away"), error), reactor).startService()
    assert reactor.stopped == 0
    reactor.advance(1)
    assert reactor.stopped == 1
    ((phase, event, function),) = reactor.triggers
    assert (phase, event, function.func, function.args) == ("after", "shutdown", os._exit, (1,))


@pytest.mark.parametrize("outcome", [Unavailable("away"), Deferred(), None])
def test_a_service_that_is_stopped_opens_nothing_any_more(outcome):
    """Whether it waits to try again, is in the midst of opening, or has opened."""
    store = Engine(outcome, ZeroDivisionError())
    reactor = Reactor()
    service = EngineService(store, reactor)
    service.startService()
    assert service.stopService().called
    reactor.advance(100)
    assert (store.closed, len(store.outcomes), reactor.getDelayedCalls()) == (True, 1, [])


def test_what_is_a_directory_and_what_is_not():
    """A URL has a scheme of two letters or more; a path can say that it is one."""
    for place in ("data", "/var/lib/sos", "./redis:", "file:data", "C:", "a b:c", "Redis:"):
        assert scheme_of(place) is None
    assert scheme_of("redis://localhost") == "redis"
    assert scheme_of("memory:") == "memory"


def test_factories_are_found_by_their_scheme():
    """One that nobody provides is told with those that there are."""
    assert verifyObject(IStoreFactory, factory("memory"))
    assert factory("memory") == StoreFactory("memory", "sos.stores.memory")
    with pytest.raises(ValueError, match=r"acme: is no kind of store; known are .*memory:"):
        factory("acme")


_PLUGIN = """
from attrs import frozen
from twisted.plugin import IPlugin
from zope.interface import implementer
from sos.interfaces import IStoreFactory
from sos.stores.memory import MemoryStore

@implementer(IPlugin, IStoreFactory)
@frozen
class Acme:
    scheme = "acme"

    def make(self, url, algorithm, reactor):
        if url != "acme:box":
            raise ValueError("ACME has no such box")
        return MemoryStore("the ACME box", algorithm)

acme = Acme()
"""


def test_third_parties_can_add_a_kind(place):
    """By a module that Twisted finds as it finds other plugins."""
    plugins = place.directory / "extra" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "acme.py").write_text(_PLUGIN)
    place.environment["PYTHONPATH"] += f":{place.directory / 'extra'}"
    (port,) = free_ports(1)
    daemon = place.twistd(f"sos-blob --port {port} --store acme:box", port)
    body = body_of(100_000)
    url = f"http://127.0.0.1:{port}/blob/{content_id(body)}"
    fetch(url, body)
    assert fetch(url) == body
    assert wait_until(lambda: "the ACME box is open" in daemon.log)
    refused = place.run_twistd("-n sos-blob --store acme:crate")
    assert (refused.returncode, refused.stderr.strip().decode()) == (
        2,
        "sos-blob: --store: ACME has no such box",
    )


def test_an_api_server_keeps_large_objects_in_chunks_on_an_engine(place):
    """And needs no blob server for that."""
    up, down, admin = free_ports(3)
    place.twistd(
        f"sos-api --store memory: --chunk-size 64K --api-host 127.0.0.1 --upload-port {up} "
        f"--download-port {down} --admin-port {admin}",
        up,
        down,
        admin,
    )
    body = body_of(300_000)
    id = json.loads(fetch(f"http://127.0.0.1:{up}/upload", body))["id"]
    assert id == content_id(body)
    assert fetch(f"http://127.0.0.1:{down}/fetch/{id}") == body
    part = {"Range": "bytes=100000-200000"}
    assert fetch(f"http://127.0.0.1:{down}/fetch/{id}", headers=part) == body[100_000:200_001]
    assert status_of(f"http://127.0.0.1:{down}/fetch/{content_id(b'no')}") == 404
    told = json.loads(fetch(f"http://127.0.0.1:{admin}/status"))
    assert told["settings"]["store"] == "memory:"
    assert told["store"]["blobs"] > 2
