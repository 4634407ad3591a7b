"""A client for a shared cache, which bounds the cost of a cache that is slow or broken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import TimeoutError, ensureDeferred
from twisted.logger import Logger

from sos.aio.limited_log import LimitedLog
from sos.aio.threads import shielded
from sos.http.client.bodies import is_network_failure
from sos.stores.cache.connection import CacheRefused, IConnection
from sos.stores.replicated.peer import backoff_seconds

T = TypeVar("T")

#: Timeout of a request, in seconds.
DEADLINE_SECONDS = 0.05
#: Timeout of connecting, in seconds; requests do not use the cache meanwhile.
CONNECT_SECONDS = 1.0
#: Most requests in flight; further ones do not use the cache.
MOST_REQUESTS = 64
#: Seconds until an entry expires, so that the cache does not fill up with the locations
#: of blobs that replication has long moved to their replicas.
KEPT_SECONDS = 24 * 60 * 60

_log = Logger()
_mistakes = LimitedLog(_log)


class SharedCache:
    """A :class:`~sos.stores.replicated.location_cache.ICache` over a connection to a server.

    The first request opens the connection.  A request that fails or times out closes
    it, and opens a circuit breaker: no request uses the cache for a second, after the
    next failure for two, and so on up to a minute.

    :param name: the name of the cache in the log.
    :param connect: returns a connection that is ready for requests.
    :param errors: errors of the client library that are the server's fault.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[IConnection]],
        clock: Any,
        errors: tuple[type[Exception], ...] = (),
    ) -> None:
        self._name = name
        self._errors: tuple[type[Exception], ...] = (CacheRefused, TimeoutError, *errors)
        self._connect = connect
        self._clock = clock
        self._connection: IConnection | None = None
        self._connecting = False
        self._requests = 0
        self._failures = 0
        self._retry_at = 0.0
        self._stopped = False

    async def get(self, key: bytes) -> bytes | None:
        # If the caller is cancelled, the request goes on: else it would close the connection.
        return await shielded(ensureDeferred(self._attempt(lambda connection: connection.get(key))))

    def set(self, key: bytes, value: bytes) -> None:
        ensureDeferred(self._attempt(lambda connection: connection.set(key, value)))

    def add(self, key: bytes, value: bytes) -> None:
        ensureDeferred(self._attempt(lambda connection: connection.add(key, value)))

    async def replace(self, key: bytes, value: bytes) -> bool:
        async def confirmed(connection: IConnection) -> bool:
            await connection.set(key, value)
            return True

        return await self._attempt(confirmed) or False

    def stop(self) -> None:
        """Close the connection, and open no other."""
        self._stopped = True
        self._hang_up()

    async def _attempt(self, ask: Callable[[IConnection], Awaitable[T]]) -> T | None:
        busy = self._connecting or self._requests == MOST_REQUESTS
        if busy or self._stopped or self._clock.seconds() < self._retry_at:
            return None
        self._requests += 1
        try:
            connection = self._connection
            if connection is None or connection.lost:
                connection = await self._connected()
            answer = await self._within(DEADLINE_SECONDS, ask(connection))
        except Exception as error:
            if isinstance(error, self._errors) or is_network_failure(error):
                self._failed(error)
            else:
                _mistakes.failure("cannot ask the shared cache, cache={name}", name=self._name)
                self._hang_up()
            return None
        finally:
            self._requests -= 1
        if self._failures and not self._stopped:
            _log.info("circuit breaker closed, cache={name}", name=self._name)
            self._failures = 0
        return answer

    async def _connected(self) -> IConnection:
        self._connecting = True
        try:
            self._connection = await self._within(CONNECT_SECONDS, self._connect())
        finally:
            self._connecting = False
        if self._stopped:
            self._hang_up()
            raise CacheRefused("the daemon is stopping")
        return self._connection

    async def _within(self, seconds: float, work: Awaitable[T]) -> T:
        return await ensureDeferred(_awaited(work)).addTimeout(seconds, self._clock)

    def _failed(self, error: Exception) -> None:
        self._hang_up()
        now = self._clock.seconds()
        if self._stopped or now < self._retry_at:  # another request has opened the breaker
            return
        if not self._failures:
            _log.warn(
                "circuit breaker opened, cache={name}: {why}", name=self._name, why=_why(error)
            )
        self._retry_at = now + backoff_seconds(self._failures)
        self._failures += 1

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _why(error: Exception) -> str:
    """Describe *error* without the server's text, which could contain anything."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return str(error) if isinstance(error, CacheRefused) else type(error).__name__
