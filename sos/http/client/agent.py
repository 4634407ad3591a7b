"""An HTTP/1.1 client over llhttp: an agent with a pool of connections.

It follows no redirects, keeps no cookies, and unpacks nothing.
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

#: Seconds to wait for a connection to be made.
CONNECT_SECONDS = 2.0
# Seconds after which the next address of a name is tried beside.
_ADDRESS_SECONDS = 0.05
#: Seconds that a connection may be kept idle: less than servers allow.
KEPT_SECONDS = 30.0
#: Connections to one server; what needs more waits.
MOST_CONNECTIONS = 256
#: Seconds after which a connection is taken back from who reads nothing of what comes
#: over it, when others wait for one.
HELD_SECONDS = 0.5


@implementer(IAgent)
class Agent:
    """Sends requests to ``http``, ``https`` and ``http+unix`` URLs.

    The last kind names a socket where others name a host, percent-encoded:
    ``http+unix://%2Frun%2Fsos.sock/blobs``.

    :param most: connections to one server.
    :param tls: makes what checks the certificate of a host.
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
        """Return the connections to the server at *origin*: a URL without a path.

        Raises ValueError when it is none that can be connected to.
        """
        server = self._servers.get(origin)
        if server is None:
            host, endpoint = _endpoint(self._reactor, origin, self._tls)
            server = Server(host, endpoint, self._reactor, self._most)
            self._servers[origin] = server
        return server

    async def close(self) -> None:
        """Close the connections that are idle."""
        for server in self._servers.values():
            server.close_idle()


@implementer(IAgent)
class Server:
    """The connections to one server.

    It is an agent itself, which sends everything there.

    :ivar host: what goes into the Host header.
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
        # Those whose readers take nothing, and since when, the longest first.
        self._held_up: dict[Connection, float] = {}
        self._search: IDelayedCall | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        """Send a request; the Deferred fires with an IResponse when its head is in.

        A request that went out on a kept connection, which its server had
        closed meanwhile, is sent once more on a new one, if it has no body or
        one with a ``replay()`` method that returns True.

        :param uri: of which the path and the query count.
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
        if self._idle and not call.again:
            self._idle.pop().send(call)
        elif self._open < self._most or self._idle:
            if self._open >= self._most:
                self._idle.pop(0).close()  # to be sent again takes a new one
            self._connect(call)
        else:
            self._waiting.append(call)
            if self._search is None:
                self._make_room()

    def _make_room(self) -> None:
        """Take connections back for those who wait.

        Or whoever reads slowly, from as many clients, would keep all others from the server.
        """
        self._search = None
        oldest = self._reactor.seconds() - HELD_SECONDS
        held = [each for each, since in self._held_up.items() if since <= oldest]
        for connection in held[: len(self._waiting)]:
            connection.take_back()
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
        if failure.check(ValueError):  # of a name that can be none of a host
            failure = Failure(ConnectError(string=str(failure.value)))
        call.end(failure)
        self._next()

    # What connections call.

    def unanswered(self, call: Call, failure: Failure, kept: bool) -> None:
        """The request *call* failed.

        :param kept: whether the connection had been kept, so that its server
            may have closed it before it had the request.
        """
        call.connection = None
        if call.answered.called:
            return
        if kept and failure.check(ResponseNeverReceived) and call.replay():
            call.again = True
            self._take(call)
        else:
            call.end(failure)

    def later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Have something called after so many *seconds*."""
        timer: IDelayedCall = self._reactor.callLater(seconds, call)
        return timer

    def held_up(self, connection: Connection) -> None:
        """Who reads what comes over *connection* takes nothing for now."""
        self._held_up.setdefault(connection, self._reactor.seconds())

    def goes_on(self, connection: Connection) -> None:
        """It is read on."""
        self._held_up.pop(connection, None)

    def freed(self, connection: Connection) -> None:
        """The *connection* can take the next request."""
        self.goes_on(connection)
        connection.kept = True
        connection.idle_since = self._reactor.seconds()
        self._idle.append(connection)
        self._next()
        if self._idle and self._sweep is None:
            self._sweep = self._reactor.callLater(KEPT_SECONDS, self._expire)

    def lost(self, connection: Connection) -> None:
        """The *connection* is no more."""
        self._open -= 1
        self.forget(connection)
        self._next()

    def forget(self, connection: Connection) -> None:
        """Nothing more is to be sent on the *connection*."""
        self.goes_on(connection)
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
        """Close what is idle."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        for timer in (self._sweep, self._search):
            if timer is not None:
                timer.cancel()
        self._sweep = self._search = None


def _split(uri: bytes) -> tuple[bytes, bytes]:
    """Return the origin and the path with its query."""
    scheme, _, rest = uri.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    return scheme + b"://" + authority, (slash + path).partition(b"#")[0] or b"/"


def _pairs(headers: Headers) -> Any:
    for name, values in headers.getAllRawHeaders():
        for value in values:
            yield name, value


def _endpoint(reactor: Any, origin: bytes, tls: ClientTLS) -> tuple[bytes, IStreamClientEndpoint]:
    """Return what goes into the Host header, and where to connect to."""
    scheme, _, authority = origin.decode("ascii").partition("://")
    if scheme == "http+unix":
        socket = UNIXClientEndpoint(reactor, unquote(authority), timeout=CONNECT_SECONDS)
        return b"localhost", socket
    schemes: dict[str, tuple[int, Callable[[Any, str], Any]]] = {
        "http": (80, lambda endpoint, host: endpoint),
        "https": (443, lambda endpoint, host: wrapClientTLS(tls(host), endpoint)),
    }
    if scheme not in schemes:
        raise ValueError(f"{scheme!r} is no scheme that is spoken here")
    port, wrap = schemes[scheme]
    host = authority
    if not authority.endswith("]") and ":" in authority:
        host, _, given = authority.rpartition(":")
        port = int(given)
    host, percent, zone = host.strip("[]").partition("%")
    # The zone is for this machine alone: no server knows it, no certificate has it (RFC 6874, 3).
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
    # That would do as well, but tells of a refused connection only when it would
    # have tried the next address of a name.
    kind = TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint
    return kind(reactor, host, port, timeout=CONNECT_SECONDS)
