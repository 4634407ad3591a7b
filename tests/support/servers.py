"""Servers in the test's own process, on ports of the loopback interface."""

from __future__ import annotations

from contextlib import asynccontextmanager

from sos.aio.threads import threads_of
from sos.http.client.agent import Agent
from sos.http.server.site import Site
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore


@asynccontextmanager
async def serving(handler, reactor, agent=None, host="127.0.0.1"):
    """Serve what *handler* answers while the block runs; gives a store that speaks to it."""
    agent = agent or Agent(reactor)
    port = reactor.listenTCP(0, Site(handler, reactor=reactor), interface=host)
    name = f"[{host}]" if ":" in host else host
    try:
        yield remote_store(f"http://{name}:{port.getHost().port}", reactor, agent)
    finally:
        await agent.close()
        await port.stopListening()


def remote_store(url, reactor, agent=None):
    exchange = Exchange(url, agent or Agent(reactor), reactor)
    return RemoteStore(exchange, threads_of(reactor))


class Hurried:
    """The reactor as a clock, which does not wait for *delays*: before something is tried again."""

    def __init__(self, reactor, delays):
        self.reactor = reactor
        self.seconds = reactor.seconds
        self._delays = delays

    def callLater(self, delay, *work):
        return self.reactor.callLater(0 if delay in self._delays else delay, *work)
