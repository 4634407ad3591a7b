"""A shared cache, on which nothing depends: what it costs when it is in trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import TimeoutError, ensureDeferred
from twisted.logger import Logger

from sos.aio.limited_log import LimitedLog
from sos.aio.threads import shielded
from sos.http.client.bodies import is_network_failure
from sos.stores.cache.line import ILine, Refused
from sos.stores.replicated.peer import rest_seconds

T = TypeVar("T")

#: Seconds that a request may take.
DEADLINE_SECONDS = 0.05
#: Seconds that it may take to connect; all requests do without the cache meanwhile.
CONNECT_SECONDS = 1.0
#: Requests under way at once; what comes beyond that does without the cache.
MOST_REQUESTS = 64
#: Seconds after which a cache may forget what it was told, so that it does not
#: fill up with places of what is long where it belongs.
KEPT_SECONDS = 24 * 60 * 60

_log = Logger()
_mistakes = LimitedLog(_log)


class SharedCache:
    """A :class:`~sos.stores.replicated.location_cache.ICache` over a connection to a server.

    The connection is made when it is first used.  A request that fails, or
    that takes too long, ends the connection, and the cache is left alone for
    a second, for two after the next, and so on to a minute.

    :param name: what to call it in the log.
    :param connect: returns a connection that is ready for requests.
    :param errors: what the library behind it fails with, when that is the server's doing.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Awaitable[ILine]],
        clock: Any,
        errors: tuple[type[Exception], ...] = (),
    ) -> None:
        self._name = name
        self._errors: tuple[type[Exception], ...] = (Refused, TimeoutError, *errors)
        self._connect = connect
        self._clock = clock
        self._line: ILine | None = None
        self._connecting = False
        self._requests = 0
        self._failures = 0
        self._rests_until = 0.0
        self._stopped = False

    async def get(self, key: bytes) -> bytes | None:
        # Who asks may go away meanwhile, which is not for the cache to pay for.
        return await shielded(ensureDeferred(self._attempt(lambda line: line.get(key))))

    def set(self, key: bytes, value: bytes) -> None:
        ensureDeferred(self._attempt(lambda line: line.set(key, value)))

    def stop(self) -> None:
        """Close the connection, and make no other."""
        self._stopped = True
        self._hang_up()

    async def _attempt(self, ask: Callable[[ILine], Awaitable[T]]) -> T | None:
        busy = self._connecting or self._requests == MOST_REQUESTS
        if busy or self._stopped or self._clock.seconds() < self._rests_until:
            return None
        self._requests += 1
        try:
            line = self._line
            if line is None or line.lost:
                line = await self._connected()
            answer = await self._within(DEADLINE_SECONDS, ask(line))
        except Exception as error:
            if isinstance(error, self._errors) or is_network_failure(error):
                self._failed(error)
            else:
                _mistakes.failure("{name} could not be asked", name=self._name)
                self._hang_up()
            return None
        finally:
            self._requests -= 1
        if self._failures and not self._stopped:
            _log.info("{name} answers again", name=self._name)
            self._failures = 0
        return answer

    async def _connected(self) -> ILine:
        self._connecting = True
        try:
            self._line = await self._within(CONNECT_SECONDS, self._connect())
        finally:
            self._connecting = False
        if self._stopped:
            self._hang_up()
            raise Refused("it is not wanted any more")
        return self._line

    async def _within(self, seconds: float, work: Awaitable[T]) -> T:
        return await ensureDeferred(_awaited(work)).addTimeout(seconds, self._clock)

    def _failed(self, error: Exception) -> None:
        self._hang_up()
        now = self._clock.seconds()
        if self._stopped or now < self._rests_until:  # which another request has seen to
            return
        if not self._failures:
            _log.warn("{name} is left alone for a while: {why}", name=self._name, why=_why(error))
        self._rests_until = now + rest_seconds(self._failures)
        self._failures += 1

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _why(error: Exception) -> str:
    """Describe *error* without what the server said, in which there could be anything."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return str(error) if isinstance(error, Refused) else type(error).__name__
