"""Servers in the test's own process, on ports of the loopback interface."""

from __future__ import annotations

from contextlib import asynccontextmanager

from sos.stores.exchange import Exchange
from sos.stores.lane import threads_of
from sos.stores.remote import RemoteStore
from sos.wire.client import http_client
from sos.wire.site import Site


@asynccontextmanager
async def serving(handler, reactor, http=None):
    """Serve what *handler* answers while the block runs; gives a store that speaks to it."""
    http = http or http_client(reactor)
    port = reactor.listenTCP(0, Site(handler, reactor=reactor), interface="127.0.0.1")
    try:
        yield remote_store(f"http://127.0.0.1:{port.getHost().port}", reactor, http)
    finally:
        await http._agent._pool.closeCachedConnections()
        await port.stopListening()


def remote_store(url, reactor, http=None):
    exchange = Exchange(url, http or http_client(reactor), reactor)
    return RemoteStore(exchange, threads_of(reactor))
