"""A pool of connections to a Redis, which reconnects when they are lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred

from sos.aio.threads import shielded
from sos.errors import Unavailable
from sos.stores.engines.redis.connection import RedisConnection
from sos.stores.engines.redis.scripts import Script

T = TypeVar("T")

#: Seconds to wait until a connection can be used.
CONNECT_SECONDS = 3.0
#: Seconds to wait for an answer.
ANSWER_SECONDS = 5.0
#: Connections: several, so that a large body on one does not block everything else.
CONNECTIONS = 4


@define
class _Place:
    """A slot for one connection: empty, connecting or connected."""

    connection: RedisConnection | None = None
    waiting: list[Deferred[RedisConnection]] = field(factory=list)

    @property
    def load(self) -> int:
        return len(self.waiting) + (self.connection.waiting if self.connection else 0)


class Pool:
    """A pool that sends each command on the least loaded connection.

    A timeout closes the connection, because nobody waits for its late answers.

    :param connect: returns a new connection that has passed its checks.
    """

    def __init__(
        self, name: str, connect: Callable[[], Awaitable[RedisConnection]], clock: Any
    ) -> None:
        self._name = name
        self._connect = connect
        self._clock = clock
        self._places = [_Place() for _ in range(CONNECTIONS)]
        self._closed = False

    async def ask(self, *command: Any) -> Any:
        """Return the answer to *command*.

        Fails as :meth:`~sos.stores.engines.redis.connection.Line.ask` does, with the errors
        of connecting, and with Unavailable after a timeout. Cancelling does not stop the
        command.
        """
        return await self.with_connection(lambda connection: connection.ask(*command))

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run *script* and return its result; fails as :meth:`ask` does."""
        return await self.with_connection(
            lambda connection: connection.run(script, keys, arguments)
        )

    async def with_connection(self, use: Callable[[RedisConnection], Awaitable[T]]) -> T:
        """Call *use* with a connection; it has :data:`ANSWER_SECONDS` for all its commands."""
        place = min(self._places, key=lambda each: each.load)
        connection = await self._connection(place)
        connection.users += 1
        try:
            return await self._within(ANSWER_SECONDS, use(connection))
        except TimeoutError:
            connection.close()
            raise Unavailable(
                f"{self._name} did not answer in time; the command may have been executed"
            ) from None
        finally:
            connection.users -= 1
            if connection.retired and not connection.users:
                connection.close()

    def close(self) -> None:
        """Close all connections, and open no more."""
        self._closed = True
        self.hang_up()

    def hang_up(self) -> None:
        """Close all current connections."""
        for place in self._places:
            if place.connection is not None:
                place.connection.close()
                place.connection = None

    async def _connection(self, place: _Place) -> RedisConnection:
        if self._closed:
            raise Unavailable(f"{self._name} is closed")
        connection = place.connection
        if connection is not None and not connection.lost and not connection.retired:
            return connection
        waiter: Deferred[RedisConnection] = Deferred()
        place.waiting.append(waiter)
        if len(place.waiting) == 1:
            place.connection = None
            ensureDeferred(self._fill(place))
        return await waiter

    async def _fill(self, place: _Place) -> None:
        outcome: Any
        try:
            outcome = place.connection = await self._within(
                CONNECT_SECONDS, self._connect(), leave=False
            )
            if self._closed:
                place.connection.close()
        except TimeoutError:
            outcome = Unavailable(f"{self._name} did not answer in time")
        except Exception as error:
            outcome = error
        waiting, place.waiting = place.waiting, []
        for waiter in waiting:
            if isinstance(outcome, Exception):
                waiter.errback(outcome)
            else:
                waiter.callback(outcome)

    async def _within(self, seconds: float, work: Awaitable[T], leave: bool = True) -> T:
        started = ensureDeferred(_awaited(work))
        if leave:
            started = shielded(started)
        return await started.addTimeout(seconds, self._clock)


async def _awaited(work: Awaitable[T]) -> T:
    return await work
