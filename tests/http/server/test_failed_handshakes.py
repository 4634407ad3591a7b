"""TLS handshakes that fail are counted by port, and logged at debug."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs, formatEvent

from sos.http.server.site import Site
from sos.http.tls import Secured, server_tls
from tests.support.certificates import Authority


class Watched(Site):
    """Tells when a connection has come to its end."""

    def __init__(self, reactor):
        super().__init__(lambda request: request.finish(b"page"), reactor=reactor)
        self.ended = Deferred()

    def lost(self, channel):
        super().lost(channel)
        self.ended.callback(None)


class Server:
    """A server that speaks TLS, and clients that are told which port to connect to."""

    def __init__(self, reactor, directory):
        self.authority = Authority(directory, "ca")
        self.authority.issue("server")
        files = [str(directory / f"server.{kind}") for kind in ("pem", "key")]
        self.site = Watched(reactor)
        plain = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self._endpoint = Secured(plain, server_tls(*files, None))

    async def listen(self):
        self._listening = await self._endpoint.listen(self.site)
        self.port = self._listening.getHost().port

    async def stop(self):
        await self._listening.stopListening()

    async def meet(self, client):
        """Return what was counted and what was logged of a connection of *client*."""

        def connected():
            with (
                socket.create_connection(("127.0.0.1", self.port), 60) as plain,
                contextlib.suppress(OSError),  # by which it learns of the failure
            ):
                client(self, plain)

        with capturedLogs() as events:
            await deferToThread(connected)
            await self.site.ended
        logged = [each for each in events if "handshake" in (each["log_format"] or "")]
        return dict(self.site.request_metrics.failed_handshakes), logged


@async_yield_fixture
async def server(reactor, tmp_path):
    server = Server(reactor, tmp_path)
    await server.listen()
    yield server
    await server.stop()


def speak_http(server, plain):
    plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    plain.recv(1)


def speak_garbage(server, plain):
    plain.sendall(b"\x00" * 64)
    plain.recv(1)


def speak_tls_of_old(server, plain):
    context = ssl.create_default_context(cafile=server.authority.path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.wrap_socket(plain, server_hostname="127.0.0.1")


def distrust(server, plain):
    ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")


def offer_nothing_but_http_2(server, plain):
    context = ssl.create_default_context(cafile=server.authority.path)
    context.set_alpn_protocols(["h2"])
    context.wrap_socket(plain, server_hostname="127.0.0.1")


def begin_and_go(server, plain):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=server.authority.path)
    hello = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    plain.sendall(outgoing.read())
    plain.recv(1)


def succeed(server, plain):
    context = ssl.create_default_context(cafile=server.authority.path)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"page")


def look_whether_it_is_there(server, plain):
    pass


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (speak_http, "HTTP without TLS"),
        (speak_garbage, "wrong version number|packet length|record"),
        (speak_tls_of_old, "unsupported protocol"),
        (distrust, "alert unknown ca"),
        (offer_nothing_but_http_2, "internal error|no application protocol"),
        (begin_and_go, "the client closed"),
    ],
)
@ensureDeferred
async def test_a_failed_handshake_is_counted_and_logged(server, client, reason):
    """By the port that it came to, with the reason, at debug: strangers cause it at will."""
    counted, logged = await server.meet(client)
    assert counted == {str(server.port): 1}
    (line,) = logged
    assert line["log_level"] is LogLevel.debug
    assert "peer=127.0.0.1" in formatEvent(line)
    assert re.search(reason, formatEvent(line))


@pytest.mark.parametrize("client", [succeed, look_whether_it_is_there])
@ensureDeferred
async def test_what_is_no_failure(server, client):
    """A handshake that succeeds, and a health check that connects and closes."""
    assert await server.meet(client) == ({}, [])
