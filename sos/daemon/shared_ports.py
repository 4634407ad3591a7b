"""Ports that several API servers of a machine share, with SO_REUSEPORT.

The kernel distributes new connections among the servers by a hash of the addresses, see
:manpage:`socket(7)`.  All of the servers must set the option, and run as the same user.
"""

from __future__ import annotations

import socket
from typing import Any

from attrs import frozen
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.protocols.tls import TLSMemoryBIOFactory


def sharing_ports(reactor: Any, description: str) -> Any:
    """Return the endpoint for *description*, an endpoint string, with a shared port.

    Only TCP ports are shared.  Whether a socket of systemd is shared depends on its unit.
    """
    return serverFromString(_Sharing(reactor), description)


@frozen
class _Sharing:
    """A reactor that listens on shared TCP ports."""

    _reactor: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listening:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                listening.bind((interface, port))
            except OSError as error:
                raise CannotListenError(interface, port, error) from error
            listening.listen(backlog)
            adopted: IListeningPort = self._reactor.adoptStreamPort(
                listening.fileno(), family, factory
            )
            return adopted

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        return self.listenTCP(
            port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface
        )
