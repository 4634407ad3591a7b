"""What listens: the factory of channels."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.web import server
from twisted.web.resource import IResource

from sos.wire.server import Channel


class Site(server.Site):
    """Serves a resource: the factory of :class:`Channel`.

    :param logPath: file to write an access log to.
    :param log_requests: without one, whether to write it to Twisted's own log.
    """

    noisy = False

    def __init__(
        self,
        resource: IResource,
        logPath: str | None = None,
        log_requests: bool = False,
        reactor: Any = None,
    ) -> None:
        super().__init__(resource, logPath=logPath, reactor=reactor)
        self._log_requests = log_requests
        self.channels: set[Channel] = set()
        self._sweep: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return Channel(self)

    def startFactory(self) -> None:
        super().startFactory()
        if self.logPath is None and not self._log_requests:
            self._logFile = None
        self._sweep = self.reactor.callLater(1.0, self._expire)

    def stopFactory(self) -> None:
        super().stopFactory()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _expire(self) -> None:
        # One timer for all connections: a delayed call each would be set and
        # cancelled several times a request.
        self._sweep = self.reactor.callLater(1.0, self._expire)
        now = self.reactor.seconds()
        for channel in list(self.channels):
            channel.expire(now)
