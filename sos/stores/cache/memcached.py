"""Connections to memcached, with Twisted's client."""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.memcache import ClientError, MemCacheProtocol, NoSuchCommand, ServerError

from sos.stores.cache.connection import Bounded, CacheRefused
from sos.stores.cache.shared import KEPT_SECONDS

#: Errors of a request that are the server's fault; ValueError means an invalid host name.
ERRORS = (ClientError, ServerError, NoSuchCommand, ValueError)


class _Protocol(Bounded, MemCacheProtocol):
    pass


class MemcachedConnection:
    """A connection to memcached, which is an :class:`~sos.stores.cache.connection.IConnection`."""

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol

    @property
    def lost(self) -> bool:
        return self._protocol.lost

    async def get(self, key: bytes) -> bytes | None:
        _, value = await self._protocol.expect(self._protocol.get(key))
        return value

    async def set(self, key: bytes, value: bytes) -> None:
        stored = self._protocol.set(key, value, expireTime=KEPT_SECONDS)
        if not await self._protocol.expect(stored):
            raise CacheRefused("it did not store a value")

    async def add(self, key: bytes, value: bytes) -> None:
        await self._protocol.expect(self._protocol.add(key, value, expireTime=KEPT_SECONDS))

    def close(self) -> None:
        self._protocol.close()


async def connect(endpoint: IStreamClientEndpoint) -> MemcachedConnection:
    """Connect to the memcached at *endpoint*."""
    # No timeout here: SharedCache has its own.
    factory = Factory.forProtocol(lambda: _Protocol(timeOut=None))
    factory.noisy = False
    return MemcachedConnection(cast(_Protocol, await endpoint.connect(factory)))
