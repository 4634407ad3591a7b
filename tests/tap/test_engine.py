"""Stores that an engine keeps, in daemons."""

from __future__ import annotations

import json

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from sos.errors import StoreUnusable, Unavailable
from sos.interfaces import IStoreFactory
from sos.stores.factories import StoreFactory, factory, scheme_of
from sos.stores.memory import MemoryStore
from sos.tap import blob
from sos.tap.engine import EngineService
from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


class Engine(MemoryStore):
    """Opens with what it is told to: an error, None, or a Deferred."""

    def __init__(self, *outcomes):
        super().__init__("engine")
        self.outcomes = list(outcomes)
        self.closed = False

    async def open(self, require=False):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            await outcome

    async def close(self):
        self.closed = True


def test_an_engine_that_is_away_is_tried_again_later_and_later():
    """The daemon runs meanwhile."""
    store = Engine(*[Unavailable("away")] * 8, None)
    reactor, reasons = Clock(), []
    EngineService(store, reasons.append, reactor).startService()
    tried = []
    while store.outcomes:
        before = len(store.outcomes)
        reactor.advance(1)
        if len(store.outcomes) < before:
            tried.append(reactor.seconds())
    assert tried == [1, 3, 7, 15, 31, 61, 91, 121]
    assert reasons == []


@pytest.mark.parametrize("error", [StoreUnusable("a wrong password"), ZeroDivisionError()])
def test_an_engine_that_is_of_no_use_is_not_tried_again(error):
    """The reason is told, to who ends the daemon."""
    reactor, reasons = Clock(), []
    EngineService(Engine(Unavailable("away"), error), reasons.append, reactor).startService()
    assert reasons == []
    reactor.advance(1)
    assert reasons == [error]
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize("outcome", [Unavailable("away"), Deferred(), None])
def test_a_service_that_is_stopped_opens_nothing_any_more(outcome):
    """Whether it waits to try again, is in the midst of opening, or has opened."""
    store = Engine(outcome, ZeroDivisionError())
    reactor = Clock()
    service = EngineService(store, pytest.fail, reactor)
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
    with pytest.raises(ValueError, match=r"acme: is not a kind of store; use .*memory:"):
        factory("acme")


_PLUGIN = """
import os
from attrs import frozen
from twisted.internet.task import deferLater
from twisted.plugin import IPlugin
from zope.interface import implementer
from sos.errors import StoreUnusable
from sos.interfaces import IStoreFactory
from sos.stores.memory import MemoryStore

class Box(MemoryStore):
    async def open(self, require=False):
        if os.path.exists("no lid"):
            raise StoreUnusable("the box has no lid")
        from twisted.internet import reactor
        await deferLater(reactor, 0)
        if os.path.exists("no key"):
            raise StoreUnusable("the key does not fit")

@implementer(IPlugin, IStoreFactory)
@frozen
class Acme:
    scheme = "acme"

    def make(self, url, algorithm, reactor):
        if url != "acme:box":
            raise ValueError("ACME has no such box")
        return Box("the ACME box", algorithm)

acme = Acme()
"""


@pytest.fixture
def acme(place):
    """Where daemons know a kind of store that others have added."""
    place.forked = False  # for Twisted looks for plugins when it is imported
    plugins = place.directory / "extra" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "acme.py").write_text(_PLUGIN)
    place.environment["PYTHONPATH"] += f":{place.directory / 'extra'}"
    return place


def test_third_parties_can_add_a_kind(acme):
    """By a module that Twisted finds as it finds other plugins."""
    (port,) = free_ports(1)
    daemon = acme.twistd(f"sos-blob --port {port} --store acme:box", port)
    body = body_of(100_000)
    url = f"http://127.0.0.1:{port}/blob/{content_id(body)}"
    fetch(url, body)
    assert fetch(url) == body
    assert wait_until(lambda: "opened the store: store=the ACME box" in daemon.log)
    refused = acme.run_twistd("-n sos-blob --store acme:crate")
    assert (refused.returncode, refused.stderr.strip().decode()) == (
        2,
        "sos-blob: --store: ACME has no such box",
    )


@pytest.mark.parametrize(
    ("fault", "reason"), [("no lid", "the box has no lid"), ("no key", "the key does not fit")]
)
def test_an_engine_that_is_of_no_use_ends_the_daemon(acme, fault, reason):
    """At once, with the reason and a status."""
    (acme.directory / fault).touch()
    ended = acme.run_twistd("-n sos-blob --port 0 --store acme:box")
    log = ended.stdout.decode()
    assert ended.returncode == 1, log
    (line,) = [line for line in log.splitlines() if reason in line]
    assert line.endswith(f"cannot start: {reason}")
    for noise in ("Traceback", "Unhandled"):
        assert noise not in log


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
    assert ask(f"http://127.0.0.1:{down}/fetch/{content_id(b'no')}").status == 404
    document = json.loads(fetch(f"http://127.0.0.1:{admin}/status"))
    assert document["settings"]["store"] == "memory:"
    assert document["store"]["blobs"] > 2


@pytest.mark.parametrize("required", [True, False])
def test_a_store_can_be_required_of_an_engine(required):
    """It is the engine that knows whether it is there."""
    options = blob.Options()
    options.parseOptions(["--store", "memory:", *["--require-store"] * required])
    asked = []

    class Asked(Engine):
        async def open(self, require=False):
            asked.append(require)

    reactor = Clock()
    service = EngineService(Asked(), pytest.fail, reactor, bool(options["require-store"]))
    service.startService()
    assert asked == [required]


def test_the_memory_of_a_process_is_always_a_new_store(place):
    """It cannot be required to be there; the daemon ends, and says why."""
    ended = place.run_twistd("-n sos-blob --port 0 --store memory: --require-store")
    assert ended.returncode == 1
    assert b"cannot start: memory: is always a new store" in ended.stdout
