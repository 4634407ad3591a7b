"""Listening on a socket that several processes accept connections from."""

from __future__ import annotations

import socket
from typing import Any

from attrs import define, frozen
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from sos.tap.balance import PATIENCE, Balance


@define
class Count:
    """The connections that this process has at a socket.

    :param socket: which it is, from 0.
    :param process: which this is, from 0.
    """

    _balance: Balance
    _socket: int
    _process: int

    def add(self, change: int) -> None:
        """Count so many more, or less."""
        self._balance.add(self._socket, self._process, change)

    def ahead(self) -> bool:
        """Tell whether another process should take the next one."""
        return self._balance.ahead(self._socket, self._process)


def endpoint(reactor: Any, description: str, descriptor: int, count: Count) -> Any:
    """Return the endpoint that *description* means, on the socket *descriptor*.

    It listens already.  All that the string says beside, of TLS for one,
    holds as ever.
    """
    adopting = _Adopting(reactor, descriptor, count)
    if description.startswith("systemd:"):  # which has been taken from systemd by another
        return _Adopted(adopting)
    return serverFromString(adopting, description)


@frozen
class _Adopting:
    """A reactor whose ways to listen end at a socket that listens already."""

    _reactor: Any
    _descriptor: int
    _count: Count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: object, factory: Any, backlog: int = 0, interface: str = ""
    ) -> IListeningPort:
        return self.listen(factory)

    def listenSSL(
        self, port: object, factory: Any, contextFactory: Any, backlog: int = 0, interface: str = ""
    ) -> IListeningPort:
        return self.listen(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: object, factory: Any, backlog: int = 0, mode: int = 0, wantPID: int = 0
    ) -> IListeningPort:
        return self.listen(factory)

    def listen(self, factory: Any) -> IListeningPort:
        listening = socket.socket(fileno=self._descriptor)
        name = listening.getsockname()
        port: Any
        if listening.family == socket.AF_UNIX:
            port = _UNIXPort(name, factory, reactor=self._reactor)
        else:
            port = _Port(0, factory, interface=name[0], reactor=self._reactor)
        port.adopt(listening, self._count)
        return port


@implementer(IStreamServerEndpoint)
@frozen
class _Adopted:
    _adopting: _Adopting

    def listen(self, factory: Any) -> Deferred[IListeningPort]:
        return succeed(self._adopting.listen(factory))


class _Server(tcp.Server):
    """A connection that is counted."""

    server: Any

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.server.count.add(1)

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        self.server.count.add(-1)


class _Port(tcp.Port):
    """A port of a socket that is not this process's alone."""

    factory: Any
    reactor: Any
    transport: Any = _Server
    _shouldShutdown = False  # which would end it in the other processes, too

    def adopt(self, listening: socket.socket, count: Count) -> None:
        """Accept what comes in at *listening*."""
        self.socket = listening
        self.count = count
        self._waited = False
        self.fileno = listening.fileno  # type: ignore[method-assign]
        self.factory.doStart()
        self.connected = True
        self.startReading()

    def doRead(self) -> None:
        if self._waited or not self.count.ahead():
            self._waited = False
            self.numberAccepts = 1
            super().doRead()
        else:
            self._waited = True
            self.stopReading()
            self.reactor.callLater(PATIENCE, self._resume)

    def _resume(self) -> None:
        if self.connected and not self.disconnecting:
            self.startReading()

    def _logConnectionLostMsg(self) -> None:
        pass


class _UNIXServer(_Server, unix.Server):
    pass


class _UNIXPort(_Port, unix.Port):
    transport: Any = _UNIXServer

    def connectionLost(self, reason: Any) -> None:
        # The socket's file stays, for the others.
        tcp.Port.connectionLost(self, reason)
