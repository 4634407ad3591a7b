"""That there are no more connections than there may be, whatever clients do: over real sockets."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread

from sos.http.server.connection import LINGER_SECONDS, STALL_SECONDS
from sos.http.server.site import Site
from sos.http.tls import Secured, server_tls
from tests.support.certificates import Authority

GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LAST = b"GET / HTTP/1.0\r\n\r\n"
# Connections from one address.
MOST = 2
# More than the system takes for a client that reads nothing, and less than is waited for.
UNREAD = 48 * 1024


class ConnectionLimit:
    """A site in a process that has room for MOST connections, and clients of it.

    :ivar size: of its answers; None for it to give none.
    :ivar asked: fires when it has been asked.
    """

    def __init__(self, reactor, context):
        self.site = Site(self._handle, 2 * MOST, reactor)
        self.size: int | None = 4
        self.asked: Deferred[None] = Deferred()
        self.port = 0
        self._context = context
        self._clients: list[socket.socket] = []

    def _handle(self, request):
        for channel in self.site.channels:
            channel.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asked, self.asked = self.asked, Deferred()
        asked.callback(None)
        if self.size is not None:
            request.finish(bytes(self.size))

    async def connect(self):
        """Return a new client, which has done its handshake."""
        return await deferToThread(self._connect)

    def _connect(self):
        client = self.plain()
        if self._context is not None:
            client = self._context.wrap_socket(client, server_hostname="127.0.0.1")
            self._clients.append(client)
        return client

    def plain(self):
        """Return a new client, which has done nothing yet, and can take little."""
        client = socket.socket()
        client.settimeout(60)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    async def ask(self, client, request=GET):
        """Have *client* send a request, and see the answer begin."""
        await deferToThread(client.sendall, request)
        assert (await deferToThread(client.recv, 4)) == b"HTTP"

    def close(self):
        for client in self._clients:
            client.close()


@async_yield_fixture(params=["plain", "--tls-certificate", "ssl: endpoint"])
async def limit(request, reactor, tmp_path):
    authority = Authority(tmp_path, "ca")
    authority.issue("server")
    certificate, key = str(tmp_path / "server.pem"), str(tmp_path / "server.key")
    endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
    context = None
    if request.param != "plain":
        context = ssl.create_default_context(cafile=authority.path)
        endpoint = Secured(endpoint, server_tls(certificate, key, None))
    if request.param.startswith("ssl"):
        description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        endpoint = serverFromString(reactor, description)
    limit = ConnectionLimit(reactor, context)
    listening = await endpoint.listen(limit.site)
    limit.port = listening.getHost().port
    yield limit
    limit.close()
    await listening.stopListening()
    await limit.site.drain(0)


@pytest.mark.parametrize("size", [4, UNREAD], ids=["read", "unread"])
@ensureDeferred
async def test_who_gives_way_is_gone(limit, size):
    """Also when it does not answer the close alert of TLS, or has not read its answer."""
    limit.size = size
    for _ in range(3 * MOST):
        await limit.ask(await limit.connect())
        assert len(limit.site.channels) <= MOST


@ensureDeferred
async def test_who_takes_nothing_for_long_gives_way(limit):
    """At once, though it has asked for much: its place is free when the next one comes."""
    limit.size = 1 << 20
    for _ in range(3 * MOST):
        await limit.ask(await limit.connect())
        assert len(limit.site.channels) <= MOST
        for channel in limit.site.channels:
            channel.since -= STALL_SECONDS + 2
            channel.check_timeouts(limit.site.now)


@ensureDeferred
async def test_those_past_the_ones_that_are_told_are_closed(limit):
    """At once, and nothing of them stays: however many come."""
    limit.size = None
    for _ in range(MOST):
        client, asked = await limit.connect(), limit.asked
        await deferToThread(client.sendall, GET)
        # One whose request has not come gives way.
        await asked
    many = [limit.plain() for _ in range(40)]
    for each in many[32:]:
        with suppress(ConnectionResetError):
            assert await deferToThread(each.recv, 1) == b""


@ensureDeferred
async def test_who_has_the_last_answer_and_does_not_close_is_not_waited_for_long(limit):
    """Over TLS it would have to send its close alert: as long as others may linger, it can."""
    client = await limit.connect()
    await limit.ask(client, LAST)
    for channel in list(limit.site.channels):
        channel.check_timeouts(limit.site.now + LINGER_SECONDS + 2)
    below = socket.socket(fileno=client.detach())
    below.settimeout(60)
    with below.makefile("rb") as rest:
        await deferToThread(rest.read)


@ensureDeferred
async def test_who_is_still_reading_the_last_answer_is_waited_for(limit):
    """As long as who reads any other."""
    limit.size = UNREAD
    client = await limit.connect()
    await limit.ask(client, LAST)
    for channel in limit.site.channels:
        channel.check_timeouts(limit.site.now + 10 * STALL_SECONDS)
    with client.makefile("rb") as rest:
        answer = await deferToThread(rest.read)
    assert len(answer.partition(b"\r\n\r\n")[2]) == UNREAD
