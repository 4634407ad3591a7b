"""An HTTP/1.1 client over llhttp: an agent with a connection pool for each server.

It follows no redirects, keeps no cookies, and decodes no content codings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from twisted.web.client import ResponseNeverReceived
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from sos.http.client.connection import Connection
from sos.http.client.request import Call
from sos.http.client.response import Response
from sos.http.tls import ClientTLS

#: Timeout in seconds for making a connection.
CONNECT_SECONDS = 2.0
# Seconds after which the next address of a name is tried in parallel.
_ADDRESS_SECONDS = 0.05
#: Seconds for which a connection is kept idle: less than servers allow.
KEPT_SECONDS = 30.0
#: Most connections to one server; further requests wait.
MOST_CONNECTIONS = 256
#: Seconds after which a paused reader loses its connection, if requests wait for one.
HELD_SECONDS = 0.5


@implementer(IAgent)
class Agent:
    """HTTP client for ``http``, ``https`` and ``http+unix`` URLs.

    In the last kind, the percent-encoded path of a Unix socket replaces the host:
    ``http+unix://%2Frun%2Fsos.sock/blobs``.

    :param most: most connections to one server.
    :param tls: makes the TLS context for a host.
    """

    def __init__(
        self, reactor: Any, most: int = MOST_CONNECTIONS, tls: ClientTLS = optionsForClientTLS
    ) -> None:
        self._reactor = reactor
        self._tls = tls
        self._most = most
        self._servers: dict[bytes, Server] = {}

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        """Send a request to the server that *uri* names, see :meth:`Server.request`."""
        try:
            server = self.server(_split(uri)[0])
        except ValueError as error:
            return fail(SchemeNotSupported(str(error)))
        return server.request(method, uri, headers, bodyProducer)

    def server(self, origin: bytes) -> Server:
        """Return the connection pool for the server at *origin*: a URL without a path.

        Raises ValueError if *origin* is invalid.
        """
        server = self._servers.get(origin)
        if server is None:
            host, endpoint = _endpoint(self._reactor, origin, self._tls)
            server = Server(host, endpoint, self._reactor, self._most)
            self._servers[origin] = server
        return server

    async def close(self) -> None:
        """Close the idle connections."""
        for server in self._servers.values():
            server.close_idle()


@implementer(IAgent)
class Server:
    """Connection pool for one server.

    It is an agent itself, which sends everything there.

    :ivar host: the value of the Host header.
    """

    def __init__(
        self, host: bytes, endpoint: IStreamClientEndpoint, reactor: Any, most: int
    ) -> None:
        self.host = host
        self._endpoint = endpoint
        self._reactor = reactor
        self._most = most
        self._idle: list[Connection] = []
        self._open = 0
        self._waiting: deque[Call] = deque()
        self._sweep: IDelayedCall | None = None
        # Connections whose readers have paused, and since when, oldest first.
        self._paused_readers: dict[Connection, float] = {}
        self._search: IDelayedCall | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        """Send a request; the Deferred fires with an IResponse when its head has arrived.

        If the server had closed the kept connection meanwhile, the request is sent once more on
        a new one, provided that it has no body or one whose ``replay()`` returns True.

        :param uri: only its path and query are used.
        """
        fields = [] if headers is None else list(_pairs(headers))
        if not any(name.lower() == b"host" for name, _ in fields):
            fields.insert(0, (b"Host", self.host))
        head = b"%s %s HTTP/1.1\r\n" % (method, _split(uri)[1])
        head += b"".join([b"%s: %s\r\n" % each for each in fields])
        body: bytes | IBodyProducer | None = bodyProducer
        if body is None and method in (b"POST", b"PUT"):
            body = b""
        return self.send(Call(head, body, method == b"HEAD"))

    def send(self, call: Call) -> Deferred[Response]:
        """Send a request; return its :attr:`~sos.http.client.request.Call.answered`."""
        self._take(call)
        return call.answered

    def _take(self, call: Call) -> None:
        if self._idle and not call.is_retry:
            self._idle.pop().send(call)
        elif self._open < self._most or self._idle:
            if self._open >= self._most:
                self._idle.pop(0).close()  # to send it again, we need a new connection
            self._connect(call)
        else:
            self._waiting.append(call)
            if self._search is None:
                self._make_room()

    def _make_room(self) -> None:
        """Take connections back from slow readers for the waiting requests.

        Otherwise slow readers could block all other requests to the server.
        """
        self._search = None
        oldest = self._reactor.seconds() - HELD_SECONDS
        held = [each for each, since in self._paused_readers.items() if since <= oldest]
        for connection in held[: len(self._waiting)]:
            connection.reclaim()
        if self._waiting:
            self._search = self._reactor.callLater(HELD_SECONDS, self._make_room)

    def _connect(self, call: Call) -> None:
        self._open += 1
        factory = Factory.forProtocol(lambda: Connection(self))
        factory.noisy = False
        call.connecting = self._endpoint.connect(factory)
        call.connecting.addCallbacks(
            partial(self._connected, call=call), partial(self._failed, call=call)
        )

    def _connected(self, connection: Connection, call: Call) -> None:
        call.connecting = None
        if call.answered.called:
            self.freed(connection)
        else:
            connection.send(call)

    def _failed(self, failure: Failure, call: Call) -> None:
        self._open -= 1
        call.connecting = None
        if failure.check(ValueError):  # an invalid host name
            failure = Failure(ConnectError(string=str(failure.value)))
        call.end(failure)
        self._next()

    # Called by connections.

    def retry_or_fail(self, call: Call, failure: Failure, reused: bool) -> None:
        """Send the request *call* again after a *failure*, or make it fail.

        :param reused: whether the connection had served a request before, so that the server
            may have closed it before it got this one.
        """
        call.connection = None
        if call.answered.called:
            return
        if reused and failure.check(ResponseNeverReceived) and call.replay():
            call.is_retry = True
            self._take(call)
        else:
            call.end(failure)

    def later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Schedule *call* after *seconds*."""
        timer: IDelayedCall = self._reactor.callLater(seconds, call)
        return timer

    def reader_paused(self, connection: Connection) -> None:
        """Record that the reader of the answer on *connection* has paused."""
        self._paused_readers.setdefault(connection, self._reactor.seconds())

    def reader_resumed(self, connection: Connection) -> None:
        """Record that the reader has resumed."""
        self._paused_readers.pop(connection, None)

    def freed(self, connection: Connection) -> None:
        """Use the *connection* for the next request."""
        self.reader_resumed(connection)
        connection.reused = True
        connection.idle_since = self._reactor.seconds()
        self._idle.append(connection)
        self._next()
        if self._idle and self._sweep is None:
            self._sweep = self._reactor.callLater(KEPT_SECONDS, self._expire)

    def lost(self, connection: Connection) -> None:
        """Forget the *connection*, which is lost."""
        self._open -= 1
        self.forget(connection)
        self._next()

    def forget(self, connection: Connection) -> None:
        """Send no further requests on the *connection*."""
        self.reader_resumed(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _next(self) -> None:
        while self._waiting and (self._idle or self._open < self._most):
            call = self._waiting.popleft()
            if not call.answered.called:
                self._take(call)

    def _expire(self) -> None:
        self._sweep = None
        oldest = self._reactor.seconds() - KEPT_SECONDS
        for connection in [each for each in self._idle if each.idle_since <= oldest]:
            self._idle.remove(connection)
            connection.close()
        if self._idle:
            due = min(each.idle_since for each in self._idle) - oldest
            self._sweep = self._reactor.callLater(due, self._expire)

    def close_idle(self) -> None:
        """Close the idle connections, and cancel the timers."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        for timer in (self._sweep, self._search):
            if timer is not None:
                timer.cancel()
        self._sweep = self._search = None


def _split(uri: bytes) -> tuple[bytes, bytes]:
    """Split *uri* into its origin, and its path with the query."""
    scheme, _, rest = uri.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    return scheme + b"://" + authority, (slash + path).partition(b"#")[0] or b"/"


def _pairs(headers: Headers) -> Any:
    for name, values in headers.getAllRawHeaders():
        for value in values:
            yield name, value


def _endpoint(reactor: Any, origin: bytes, tls: ClientTLS) -> tuple[bytes, IStreamClientEndpoint]:
    """Return the value of the Host header, and the endpoint to connect to."""
    scheme, _, authority = origin.decode("ascii").partition("://")
    if scheme == "http+unix":
        socket = UNIXClientEndpoint(reactor, unquote(authority), timeout=CONNECT_SECONDS)
        return b"localhost", socket
    schemes: dict[str, tuple[int, Callable[[Any, str], Any]]] = {
        "http": (80, lambda endpoint, host: endpoint),
        "https": (443, lambda endpoint, host: wrapClientTLS(tls(host), endpoint)),
    }
    if scheme not in schemes:
        raise ValueError(f"the URL scheme {scheme!r} is not supported: use http or https")
    port, wrap = schemes[scheme]
    host = authority
    if not authority.endswith("]") and ":" in authority:
        host, _, given = authority.rpartition(":")
        port = int(given)
    host, percent, zone = host.strip("[]").partition("%")
    # Only this machine knows the zone: servers and certificates do not have it (RFC 6874, 3).
    named = authority.replace(percent + zone, "")
    address = f"{host}%{unquote(zone.removeprefix('25'))}" if zone else host
    return named.encode("ascii"), wrap(_tcp(reactor, address, port), host)


def _tcp(reactor: Any, host: str, port: int) -> IStreamClientEndpoint:
    try:
        version = ip_address(host).version
    except ValueError:
        return HostnameEndpoint(
            reactor, host, port, timeout=CONNECT_SECONDS, attemptDelay=_ADDRESS_SECONDS
        )
    # HostnameEndpoint would report a refused connection only after the delay before the next
    # address of a name.
    kind = TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint
    return kind(reactor, host, port, timeout=CONNECT_SECONDS)
