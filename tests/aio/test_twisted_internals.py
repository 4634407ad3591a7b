"""What is expected of private names of Twisted and Klein, by what can be seen from outside."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

import pytest
from klein import Klein
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from sos.aio import twisted_internals


class Connected(Protocol):
    """The server's side of a connection, which a test gets hold of."""

    def connectionMade(self):
        self.factory.made.callback(self)


@async_yield_fixture
async def connection(reactor):
    """Both ends of a connection: a transport of Twisted's, and a socket."""
    factory = Factory.forProtocol(Connected)
    factory.made = Deferred()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    client = socket.create_connection(("127.0.0.1", port.getHost().port))
    server = await factory.made
    yield server.transport, client
    client.close()
    server.transport.abortConnection()
    await port.stopListening()


@ensureDeferred
async def test_a_transport_buffers_what_the_socket_does_not_take(connection):
    """From the write on until the socket has taken all of it; before, it buffers nothing."""
    transport, client = connection
    assert not twisted_internals.is_buffering(transport)
    size = 10_000_000
    drained = Drained(transport)
    transport.write(bytes(size))
    assert twisted_internals.is_buffering(transport)

    def receive():
        with client.makefile("rb") as received:
            return len(received.read(size))

    assert await deferToThread(receive) == size
    await drained.resumed
    assert not twisted_internals.is_buffering(transport)


@ensureDeferred
async def test_a_transport_is_closed_whatever_the_other_side_does(connection):
    """Before that reads: what the system had taken it can read then, and no more."""
    transport, client = connection
    lost = Deferred()
    transport.protocol.connectionLost = lambda reason: lost.callback(None)
    size = 10_000_000
    transport.write(bytes(size))
    twisted_internals.close_now(transport)
    await lost

    def receive():
        with client.makefile("rb") as received:
            return len(received.read())

    assert 0 < await deferToThread(receive) < size


@ensureDeferred
async def test_names_are_looked_up_on_the_threads_that_are_given(reactor):
    """By what is given to do it, which is called as getaddrinfo() is."""
    pool = ThreadPool(0, 1, "names")
    pool.start()
    found = Deferred()

    @implementer(IResolutionReceiver)
    class Receiver:
        def resolutionBegan(self, resolution):
            self.hosts = [resolution.name]

        def addressResolved(self, address):
            self.hosts.append(address.host)

        def resolutionComplete(self):
            found.callback(self.hosts)

    def look_up(host, port, family, kind):
        thread.append(threading.current_thread())
        return socket.getaddrinfo("127.0.0.1", port, family, kind)

    thread = []
    twisted_internals.name_resolver(reactor, pool, look_up).resolveHostName(Receiver(), "name", 80)
    assert await found == ["name", "127.0.0.1"]
    assert thread == pool.threads
    pool.stop()


class Drained:
    """A producer that waits until more is wanted of it."""

    def __init__(self, transport):
        self.resumed = Deferred()
        transport.registerProducer(self, True)

    def pauseProducing(self):
        pass

    def resumeProducing(self):
        if not self.resumed.called:
            self.resumed.callback(None)

    def stopProducing(self):
        pass


@ensureDeferred
async def test_a_producer_is_called_when_the_socket_is_writable(connection):
    """Though nothing was written."""
    transport, _ = connection
    drained = Drained(transport)
    twisted_internals.call_when_writable(transport)
    await drained.resumed


def test_the_descriptor_in_reserve_is_opened_at_once():
    """And it is of /dev/null: what Twisted opens later needs that no more."""
    twisted_internals.reserve_descriptor()
    opened = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # of the listing itself
            opened.add(os.readlink(f"/proc/self/fd/{name}"))
    assert os.devnull in opened


@pytest.mark.parametrize("nodaemon", [True, False])
def test_twistd_logs_by_an_observer_that_formats_as_it_is_told(tmp_path, nodaemon, monkeypatch):
    """To the file that twistd was told to log to, which a signal may rotate."""
    path = tmp_path / "log"
    monkeypatch.setattr("signal.signal", lambda *arguments: None)
    observer = twisted_internals.log_observer({"logfile": str(path), "nodaemon": nodaemon})
    observer.formatEvent = lambda event: f"told: {event['log_format']}\n"
    observer({"log_format": "hello", "log_level": LogLevel.info})
    assert path.read_text() == "told: hello\n"


def test_the_functions_of_routes_are_called_as_they_were_written():
    """With the object that they are of, and what they return comes back as it is."""

    class Resource:
        app = Klein()

        @app.route("/<name>")
        def named(self, request, name):
            return self, request, name

    resource = Resource()
    (function,) = twisted_internals.route_functions(resource.app).values()
    assert function("request", name="a") == (resource, "request", "a")
