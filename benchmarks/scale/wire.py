"""A blob server on a real socket, and the bytes that a real client and it send each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

from sos.aio.threads import threads_of
from sos.http.client.agent import Agent
from sos.http.server.site import Site
from sos.interfaces import IReplicaStore
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from sos.web.blob_api import BlobServer
from sos.web.routes import handler

_HOST = "127.0.0.1"

#: Waits for what it is given, and returns the bytes that have passed meanwhile.
Count = Callable[[Awaitable[Any]], Awaitable[int]]


@asynccontextmanager
async def counted(store: IReplicaStore, reactor: Any) -> AsyncIterator[tuple[RemoteStore, Count]]:
    """Serve *store* while the block runs; gives a client of it, and what counts its bytes."""
    site = Site(handler(BlobServer(store).app), reactor=reactor)
    server = reactor.listenTCP(0, site, interface=_HOST)
    passing = _Passing(_HOST, server.getHost().port)
    between = reactor.listenTCP(0, passing, interface=_HOST)
    agent = Agent(reactor)

    async def count(work: Awaitable[Any]) -> int:
        before = passing.bytes
        await work
        return passing.bytes - before

    try:
        exchange = Exchange(f"http://{_HOST}:{between.getHost().port}", agent, reactor)
        yield RemoteStore(exchange, threads_of(reactor)), count
    finally:
        await agent.close()
        await between.stopListening()
        await server.stopListening()


class _FromServer(ProxyClient):
    def dataReceived(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.factory.bytes += len(data)
        super().dataReceived(data)


class _ToServer(ProxyClientFactory):
    protocol = _FromServer
    noisy = False


class _FromClient(ProxyServer):
    clientProtocolFactory = _ToServer

    def dataReceived(self, data: bytes) -> None:
        self.factory.bytes += len(data)
        super().dataReceived(data)


class _Passing(ProxyFactory):
    """Passes on what it is sent, and counts its bytes both ways."""

    protocol = _FromClient
    noisy = False
    bytes = 0
