"""A mistake of ours is no failure of a server: it is told as what it is, and nobody is shunned."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest
from OpenSSL import SSL
from pytest_twisted import ensureDeferred
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.web.client import RequestGenerationFailed, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss

from sos.aio.tasks import unwanted
from sos.errors import Unavailable
from sos.http.client.agent import Agent
from sos.http.client.connection import BadAnswer
from sos.interfaces import Member
from sos.replication.leases import SECONDS, Leases
from sos.stores.engines.redis import connection as redis_connection
from sos.stores.engines.redis.address import store_address
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from sos.stores.replicated.store import ReplicatedStore
from tests.stores.engines.s3.stores import client_of
from tests.support.blobs import content, content_id, put
from tests.support.doubles import FailingStore
from tests.support.replicas import health_records_of
from tests.support.servers import remote_store

MISTAKES = [
    TypeError("an argument is missing"),
    AssertionError(),
    AttributeError("there is none"),
    KeyError("b"),
    ZeroDivisionError(),
    UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"),
    ResponseNeverReceived([Failure(TypeError("in a protocol"))]),
    RequestGenerationFailed([Failure(ValueError("in a body"))]),
    ResponseFailed([Failure(error.ConnectionLost()), Failure(KeyError("in a parser"))]),
]
FAILURES = [
    error.ConnectionRefusedError(),
    error.ConnectionLost(),
    error.ConnectionDone(),
    error.ConnectionAborted(),
    error.ConnectingCancelledError(None),
    error.DNSLookupError("no such name"),
    error.TimeoutError(),
    error.NoRouteError(),
    error.UnknownHostError(),
    OSError(24, "too many open files"),
    SSL.Error([("", "", "wrong version number")]),
    VerificationError(errors=[]),
    PotentialDataLoss(),
    BadAnswer("no HTTP"),
    ResponseNeverReceived([Failure(error.ConnectionLost())]),
    ResponseFailed([Failure(error.ConnectionLost()), Failure(SSL.Error([]))]),
    ResponseFailed([Failure(ResponseNeverReceived([Failure(error.ConnectionDone())]))]),
]


class Failing(Agent):
    """Fails with *outcome* whatever it is to send."""

    host = b"failing:1"

    def __init__(self, outcome):
        super().__init__(None)
        self.outcome = outcome

    def server(self, origin):
        return self

    def send(self, call):
        return fail(self.outcome)

    def request(self, *arguments, **options):
        return fail(self.outcome)


def failing(outcome, clock):
    return RemoteStore(Exchange("http://failing:1", Failing(outcome), clock), None)


def asking(store):
    id = content_id(b"x")
    return [
        store.stat(id),
        store.read(id),
        store.listing(),
        store.digests(),
        store.blob_digests("abc"),
        store.reconcile(id, {}),
        store.lease(10),
        store.status(),
        put(store, b"x", id),
    ]


@pytest.mark.parametrize("mistake", MISTAKES, ids=repr)
@ensureDeferred
async def test_a_mistake_goes_to_who_asked_as_it_is(mistake):
    """Not as the failure of a server that was not even asked."""
    clock = Clock()
    for work in map(deferred, asking(failing(mistake, clock))):
        clock.advance(0)
        with pytest.raises(type(mistake)):
            await work


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
@ensureDeferred
async def test_what_the_network_does_is_the_servers_failure(failure):
    """Whatever it is that broke."""
    clock = Clock()
    for work in map(deferred, asking(failing(failure, clock))):
        clock.advance(0)
        with pytest.raises(Unavailable, match="cannot be reached"):
            await work


@ensureDeferred
async def test_nobody_is_left_alone_for_a_mistake():
    """The next request is sent as ever."""
    clock = Clock()
    store = ReplicatedStore({"default": (Member(failing(TypeError("ours"), clock)),)}, None, clock)
    reading = deferred(store.read(content_id(b"x")))
    clock.advance(0)
    with pytest.raises(TypeError):
        await reading
    (record,) = health_records_of(store).values()
    assert (record.errors, record.failure, record.last_error) == (0, None, None)
    store.stop()


@ensureDeferred
async def test_a_name_that_can_be_none_of_a_host(reactor):
    """It is like a server that is not there: an operator reads which."""
    with pytest.raises(Unavailable, match=r"cannot be reached: .*invalid hostname: xn--a"):
        await remote_store("http://xn--a:1", reactor).read(content_id(b"x"))


@ensureDeferred
async def test_an_engine_is_not_down_for_a_mistake_either(reactor):
    """Of the two that are spoken to over Twisted's own connections."""

    class Broken(Clock):
        def connectUNIX(self, *arguments, **options):
            raise TypeError("ours")

    with pytest.raises(TypeError):
        await redis_connection.connect(store_address("redis:///none"), Broken())
    with pytest.raises(Unavailable):
        await redis_connection.connect(store_address("redis:///none"), reactor)
    with pytest.raises(Unavailable, match="cannot be reached: invalid hostname"):
        await redis_connection.connect(store_address("redis://blob_server"), reactor)
    client = client_of("s3://bucket/x?endpoint=http://127.0.0.1:1", reactor)
    client.open(await client.identified())
    with pytest.raises(Unavailable):
        await client.ask("GET", "key")
    client._http = HTTPClient(Failing(TypeError("ours")))
    with pytest.raises(TypeError):
        await client.ask("GET", "key")


def test_what_nobody_waits_for_is_told_when_it_is_a_mistake():
    """And not when a server failed, or when it was given up."""
    with capturedLogs() as logged:
        for outcome in (Unavailable("it is down"), None):
            work = Deferred()
            work.addErrback(unwanted)
            work.cancel() if outcome is None else work.errback(outcome)
        assert logged == []
        fail(TypeError("ours")).addErrback(unwanted)
    assert [event["log_failure"].type for event in logged] == [TypeError]


@ensureDeferred
async def test_a_body_that_comes_too_late_and_cannot_be_closed():
    """A mistake in that is told, for nobody else is there to see it."""

    class Unclosable:
        async def aclose(self):
            raise TypeError("ours")

    class Slow(MemoryStore):
        async def read(self, id, span=None):
            blob = await super().read(id, span)
            with suppress(CancelledError):
                await Deferred()
            return type(blob)(blob.info, Unclosable())

    clock = Clock()
    slow, quick = Slow("a"), MemoryStore("b")
    for each in (slow, quick):
        await put(each, b"x")
    store = ReplicatedStore({"one": (Member(slow, preferred=True), Member(quick))}, None, clock)
    with capturedLogs() as logged:
        reading = deferred(store.read(content_id(b"x")))
        clock.advance(1.0)
        assert await content(await reading) == b"x"
        gc.collect()
    assert [event["log_failure"].type for event in logged if "log_failure" in event] == [TypeError]
    store.stop()


@pytest.mark.parametrize("outcome", [Unavailable("it is down"), TypeError("ours")])
@ensureDeferred
async def test_a_lease_that_cannot_be_prolonged(outcome):
    """It is not used any more; when that is a mistake it is in the log."""
    clock = Clock()
    store = MemoryStore("a")
    leases = Leases({"a": store}, clock)
    await leases.tokens()
    store.lease = FailingStore("a", outcome).lease
    with capturedLogs() as logged:
        clock.advance(SECONDS / 2)
        with pytest.raises(type(outcome)):
            await leases.tokens()
    mistakes = [event["log_failure"].type for event in logged if "log_failure" in event]
    assert mistakes == ([TypeError] if isinstance(outcome, TypeError) else [])
    await leases.release()
