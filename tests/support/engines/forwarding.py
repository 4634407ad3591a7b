"""A way to a server on which answers can be lost, or which speaks TLS."""

from __future__ import annotations

from twisted.internet.protocol import Protocol
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer


class _Answers(ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        if not self.peer.factory.deaf:
            super().dataReceived(data)


class _AnswersFactory(ProxyClientFactory):
    protocol = _Answers


class _Requests(ProxyServer):
    clientProtocolFactory = _AnswersFactory

    def connectionLost(self, reason: object = Protocol) -> None:
        if self.peer is not None:
            super().connectionLost(reason)


class Forwarding(ProxyFactory):
    """Passes on what comes to the port on which it listens.

    :ivar deaf: whether what the server answers is lost.
    """

    protocol = _Requests
    noisy = False
    deaf = False

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
