"""What listens: the factory of channels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from zope.interface import implementer

from sos import __version__
from sos.limited_log import LimitedLog
from sos.tally import OTHER, Tally
from sos.wire.heads import Refused
from sos.wire.request import Request
from sos.wire.server import Channel

#: Answers a request, now or later, by its :meth:`~Request.finish`.
Handler = Callable[[Request], None]
#: Is told of a request that has ended, and of the seconds that it took.
Note = Callable[[Request, float], None]

# Of what is no request.
_NO_METHOD = b"none"

_SERVER = f"sos/{__version__}".encode("ascii")

# What is spoken over TLS, by the names of RFC 7301, 6.  Clients that offer protocols by ALPN
# are refused by Twisted if none of these is among them, and all of them if there are none.
_ALPN = [b"http/1.1", b"http/1.0"]

# Connections past the limit that are told so; any more are closed without a word.
_MOST_REFUSED = 32

_log = Logger()


@implementer(IProtocolNegotiationFactory)
class Site(ServerFactory):
    """Lets *handler* answer what comes in: the factory of :class:`Channel`.

    :param tally: where requests are counted.
    :param note: where they are logged.
    :param timer: tells the seconds that requests are measured by.
    :param max_connections: most of them at once.  Over that, one that is idle
        is closed for a new one, or the new one is answered 503.
    :ivar failures: where mistakes of ours are told.
    """

    noisy = False

    def __init__(
        self,
        handler: Handler,
        max_connections: int = 10_000,
        reactor: Any = None,
        tally: Tally | None = None,
        note: Note | None = None,
        timer: Callable[[], float] = perf_counter,
    ) -> None:
        self.reactor = reactor
        self.handler = handler
        self.tally = tally or Tally()
        self.timer = timer
        self.channels: set[Channel] = set()
        # Those with no request under way, the longest first: in a crowd, a look at all
        # of the connections for each new one would hold up those that were let in.
        self._resting: OrderedDict[Channel, None] = OrderedDict()
        self.now = 0.0
        self.failures = LimitedLog(_log, lambda: self.now)
        self.head = b""  # what every answer's begins with
        self._note = note
        self._max_connections = max_connections
        self._sweep: IDelayedCall | None = None
        self._stopped = False
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        excess = len(self.channels) - self._max_connections
        if excess < 0 or self._close_an_idle_one():
            return Channel(self)
        if excess < _MOST_REFUSED:
            return Channel(self, Refused(503, "too many connections, try again"))
        return None

    def _close_an_idle_one(self) -> bool:
        while self._resting:
            channel, _ = self._resting.popitem(last=False)
            if channel.idle:
                channel.retire()
                return True
            # Else a request is coming, or an answer waits to be read: it will rest again.
        return False

    def rests(self, channel: Channel) -> None:
        """Called by a channel that has nothing to do any more, or has heard of its client."""
        self._resting[channel] = None
        self._resting.move_to_end(channel)

    def works(self, channel: Channel) -> None:
        """Called by a channel that begins to answer a request."""
        self._resting.pop(channel, None)

    def acceptableProtocols(self) -> list[bytes]:
        """Return what a client may choose by ALPN, see IProtocolNegotiationFactory."""
        return _ALPN

    def made(self, channel: Channel) -> None:
        """Called by a channel that has a connection."""
        self.channels.add(channel)
        self.tally.connections += 1

    def lost(self, channel: Channel) -> None:
        """Called by a channel that is no more."""
        self.tally.connections -= 1
        self.channels.discard(channel)
        self._resting.pop(channel, None)
        if not self.channels:
            if self._stopped:
                self._close()
            empty, self._empty = self._empty, None
            if empty is not None:
                empty.callback(None)

    def startFactory(self) -> None:
        self._stopped = False
        self._tick()

    def stopFactory(self) -> None:
        # Nothing listens any more, but what is under way goes on.
        self._stopped = True
        if not self.channels:
            self._close()

    def _close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def finished(self, request: Request) -> None:
        """Called by a request that has been answered, or whose client has gone away."""
        seconds = self.timer() - request.begun
        count(self.tally, request, seconds)
        if self._note is not None:
            self._note(request, seconds)

    def refused(self, status: int, sent: int) -> None:
        """Called when what came was no request, or no more are taken."""
        self.tally.count(OTHER, _NO_METHOD, status, 0.0, 0, sent)

    def _tick(self) -> None:
        # One timer for all connections: a delayed call each would be set and
        # cancelled several times a request.
        self._sweep = self.reactor.callLater(1.0, self._tick)
        self.now = self.reactor.seconds()
        self.head = b"Server: %s\r\nDate: %s\r\n" % (_SERVER, datetimeToString())
        for channel in list(self.channels):
            channel.expire(self.now)

    async def drain(self, seconds: float) -> None:
        """Finish what is under way, for so many *seconds* at most, and close all connections.

        Nothing may be listening for new ones any more.
        """
        for channel in list(self.channels):
            channel.retire()
        if self.channels:
            self._empty = Deferred()
            late = self.reactor.callLater(seconds, self._abort)
            await self._empty
            if late.active():
                late.cancel()

    def _abort(self) -> None:
        for channel in list(self.channels):
            channel.abort()


def count(tally: Tally, request: Request, seconds: float) -> None:
    """Count in *tally* a *request* that has ended, and took so many *seconds*."""
    tally.count(
        request.route,
        request.method,
        request.code,
        seconds,
        request.body.received,
        request.sentLength,
    )
