"""The HTTP server: the factory of connections, their limits and their timer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger, LogLevel
from twisted.web.http import datetimeToString
from zope.interface import implementer

from sos import __version__
from sos.aio.limited_log import LimitedLog
from sos.http.server.coalescing import queue_of
from sos.http.server.connection import IDLE_SECONDS, Channel
from sos.http.server.connection_limits import ConnectionLimit
from sos.http.server.heads import RejectedRequest
from sos.http.server.networks import network_of
from sos.http.server.proxies import Proxies
from sos.http.server.request import Request
from sos.monitoring.request_metrics import OTHER, RequestMetrics

#: Answers a request, now or later, with its :meth:`~Request.finish`.
Handler = Callable[[Request], None]
#: Called with a request that has ended, and its duration in seconds.
Note = Callable[[Request, float], None]

# Counted as the method of malformed requests.
_NO_METHOD = b"none"

_SERVER = f"sos/{__version__}".encode("ascii")

# Protocols for ALPN, by their names in RFC 7301, 6.  Twisted refuses clients that offer only
# others; with an empty list, it would refuse all clients that use ALPN.
_ALPN = [b"http/1.1", b"http/1.0"]

_TOO_MANY = RejectedRequest(503, "too many connections: try again later")
_FROM_ONE = RejectedRequest(503, "too many connections from this address: try again later")

# Connections over the limit that get an answer 503; any more are closed without one.
_MOST_REFUSED = 32

_log = Logger()


class _ClosedAtOnce(Protocol):
    """Connection that is closed without an answer.

    A factory may return None instead, but with Twisted's TLS that would leave the connection
    open for as long as its client likes.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.loseConnection()


@implementer(IProtocolNegotiationFactory)
class Site(ServerFactory):
    """HTTP server that answers requests with *handler*: the factory of :class:`Channel`.

    :param request_metrics: counts the requests.
    :param note: logs the requests.
    :param timer: returns a time in seconds, to measure the duration of requests.
    :param idle_seconds: for which a connection may be idle between requests.
    :param proxies: the proxies whose forwarding headers are trusted.
    :param failed_handshakes: counts failed TLS handshakes by port, in *request_metrics* by default.
    :param is_patient: whether to wait for stalled clients while there is room; if not, they are
        aborted after :data:`~sos.http.server.connection.STALL_SECONDS`.
    :param max_connections: most connections at once; one network can have half of them.
        At the limit, an idle or stalled connection is closed for a new one, see
        :class:`~sos.http.server.connection_limits.ConnectionLimit`, or the new one is answered 503.
    :ivar failures: the log for internal errors.
    """

    noisy = False

    def __init__(
        self,
        handler: Handler,
        max_connections: int = 10_000,
        reactor: Any = None,
        request_metrics: RequestMetrics | None = None,
        note: Note | None = None,
        timer: Callable[[], float] = perf_counter,
        idle_seconds: float = IDLE_SECONDS,
        proxies: Proxies | None = None,
        failed_handshakes: Counter[str] | None = None,
        is_patient: bool = True,
    ) -> None:
        self.proxies = proxies
        self.is_patient = is_patient
        self.idle_seconds = idle_seconds
        self.reactor = reactor
        self.handler = handler
        self.request_metrics = request_metrics or RequestMetrics()
        if failed_handshakes is None:
            failed_handshakes = self.request_metrics.failed_handshakes
        self._failed_handshakes = failed_handshakes
        self.timer = timer
        self.iteration_queue = queue_of(reactor)
        self.channels: set[Channel] = set()
        self._over_limit: set[Channel] = set()
        self._all = ConnectionLimit(max_connections, _TOO_MANY)
        self._most_of_one = max(max_connections // 2, 1)
        self._networks: WeakValueDictionary[str, ConnectionLimit] = WeakValueDictionary()
        self.now = 0.0
        self.failures = LimitedLog(_log, lambda: self.now)
        self.head = b""  # header lines that every answer begins with
        self._note = note
        self._sweep: IDelayedCall | None = None
        self._stopped = False
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        limits = self._limits(addr)
        for limit in limits:
            if not limit.make_room():
                return self._refuse(addr, limit.refusal)
        for limit in limits:
            limit.add()
        return Channel(self, addr, limits)

    def _limits(self, address: IAddress | None) -> Sequence[ConnectionLimit]:
        """Return the limits that apply to a connection from *address*."""
        network = network_of(address)
        # All clients can come through one proxy.
        if network is None or (self.proxies is not None and address in self.proxies):
            return (self._all,)
        of_one = self._networks.get(network)
        if of_one is None:
            of_one = self._networks[network] = ConnectionLimit(self._most_of_one, _FROM_ONE)
        return of_one, self._all

    def _refuse(self, address: IAddress | None, refusal: RejectedRequest) -> Protocol:
        if len(self._over_limit) >= _MOST_REFUSED:
            return _ClosedAtOnce()
        channel = Channel(self, address, (), refusal)
        self._over_limit.add(channel)
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols for ALPN, see IProtocolNegotiationFactory."""
        return _ALPN

    def made(self, channel: Channel) -> None:
        """Record that *channel* is connected."""
        self.channels.add(channel)
        self.request_metrics.connections += 1

    def lost(self, channel: Channel) -> None:
        """Record that *channel* has lost its connection."""
        self.request_metrics.connections -= 1
        self.channels.discard(channel)
        self._over_limit.discard(channel)
        for limit in channel.limits:
            limit.remove(channel)
        if not self.channels:
            if self._stopped:
                self._close()
            empty, self._empty = self._empty, None
            if empty is not None:
                empty.callback(None)

    def handshake_failed(self, local: Any, peer: IAddress | None, why: str) -> None:
        """Count and log a failed TLS handshake.

        :param local: the address that the client connected to.
        :param why: see :func:`~sos.http.tls.handshake_failure`.
        """
        port = str(getattr(local, "port", "unix"))
        self._failed_handshakes[port] += 1
        self.failures.emit(
            LogLevel.debug,
            "TLS handshake failed: port={port} peer={peer} reason={why}",
            (port, why),
            port=port,
            peer=getattr(peer, "host", "unix"),
            why=why,
        )

    def startFactory(self) -> None:
        self._stopped = False
        self._tick()

    def stopFactory(self) -> None:
        # Nothing listens any more, but requests in flight continue.
        self._stopped = True
        if not self.channels:
            self._close()

    def _close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def finished(self, request: Request) -> None:
        """Count and log a request that was answered, or whose client went away."""
        seconds = self.timer() - request.begun
        count(self.request_metrics, request, seconds)
        if self._note is not None:
            self._note(request, seconds)

    def refused(self, status: int, sent: int) -> None:
        """Count an answer of *sent* bytes to a malformed request or a surplus connection."""
        self.request_metrics.count(OTHER, _NO_METHOD, status, 0.0, 0, sent)

    def _tick(self) -> None:
        # One timer for all connections: a delayed call for each would be set and
        # cancelled several times per request.
        self._sweep = self.reactor.callLater(1.0, self._tick)
        self.now = self.reactor.seconds()
        self.head = b"Server: %s\r\nDate: %s\r\n" % (_SERVER, datetimeToString())
        for channel in list(self.channels):
            channel.check_timeouts(self.now)

    async def drain(self, seconds: float) -> None:
        """Finish the requests in flight, for *seconds* at most, then close all connections.

        Call it when no port listens for new connections any more.
        """
        for channel in list(self.channels):
            channel.close_when_answered()
        if self.channels:
            self._empty = Deferred()
            late = self.reactor.callLater(seconds, self._abort)
            await self._empty
            if late.active():
                late.cancel()

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.abort()


def count(request_metrics: RequestMetrics, request: Request, seconds: float) -> None:
    """Count in *request_metrics* a *request* that has ended, and took *seconds*."""
    request_metrics.count(
        request.route,
        request.method,
        request.code,
        seconds,
        request.body.received,
        request.sentLength,
    )
