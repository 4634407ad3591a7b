"""Connections to a Redis cache, with txredisapi.

Importing this module installs the global reactor, because txredisapi imports it.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from txredisapi import (  # type: ignore[import-untyped]
    BaseRedisProtocol,
    InvalidResponse,
    RedisError,
    ResponseError,
)

from sos.model.cache_address import CacheAddress
from sos.stores.cache.connection import Bounded, CacheRefused
from sos.stores.cache.shared import KEPT_SECONDS

#: Errors of a request that are the server's fault; ValueError means an invalid host name.
ERRORS = (RedisError, ValueError)


class BoundedRedis(Bounded, BaseRedisProtocol):
    """A Redis connection that closes on invalid, oversized or unexpected answers."""

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)

    def lineReceived(self, line: str) -> Any:
        if line[:1] == "*" and self.multi_bulk.pending:
            # Four bytes of a nested list take hundreds of bytes of memory.
            raise CacheRefused("it sent a nested list")
        if line[:1] == "$" and len(line) > len(str(self.longest_answer)) + 1:
            raise CacheRefused("it announced an answer that is too large")
        return super().lineReceived(line)

    def replyReceived(self, reply: Any) -> None:
        if isinstance(reply, InvalidResponse):
            raise CacheRefused("it sent an invalid answer")
        if not self.replyQueue.waiting:
            raise CacheRefused("it sent an answer to no request")
        super().replyReceived(reply)


class RedisCacheConnection:
    """A connection to Redis, which is an :class:`~sos.stores.cache.connection.IConnection`."""

    def __init__(self, protocol: BoundedRedis) -> None:
        self._protocol = protocol

    @property
    def lost(self) -> bool:
        return self._protocol.lost

    async def get(self, key: bytes) -> bytes | None:
        value = await self._protocol.expect(self._protocol.get(key))
        if value is not None and not isinstance(value, bytes):
            raise CacheRefused("it sent an answer of the wrong type")
        return value

    async def set(self, key: bytes, value: bytes) -> None:
        await self._protocol.expect(self._protocol.set(key, value, expire=KEPT_SECONDS))

    async def add(self, key: bytes, value: bytes) -> None:
        added = self._protocol.set(key, value, expire=KEPT_SECONDS, only_if_not_exists=True)
        await self._protocol.expect(added)

    def close(self) -> None:
        self._protocol.close()

    async def log_in(self, user: str | None, password: str) -> None:
        """Authenticate.  Raises Refused."""
        try:
            await self._protocol.expect(self._protocol.auth(password, user))
        except ResponseError:  # not chained: its text can contain the password
            raise CacheRefused("it rejects the password") from None

    async def select(self, database: int) -> None:
        """Select *database*.  Raises Refused."""
        try:
            await self._protocol.expect(self._protocol.select(database))
        except ResponseError:
            raise CacheRefused(f"it rejects the database {database}, or needs a password") from None


async def connect(endpoint: IStreamClientEndpoint, address: CacheAddress) -> RedisCacheConnection:
    """Connect to the Redis at *endpoint*, with the credentials and database of *address*."""
    factory = Factory.forProtocol(BoundedRedis)
    factory.noisy = False
    line = RedisCacheConnection(cast(BoundedRedis, await endpoint.connect(factory)))
    try:
        if address.password is not None:
            await line.log_in(address.user, address.password)
        await line.select(address.database)
    except BaseException:
        line.close()
        raise
    return line
