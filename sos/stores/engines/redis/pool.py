"""A few connections to a Redis, which are made again whenever they are lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred

from sos.aio.threads import shielded
from sos.errors import Unavailable
from sos.stores.engines.redis.connection import Line
from sos.stores.engines.redis.scripts import Script

T = TypeVar("T")

#: Seconds that it may take until a connection can be used.
CONNECT_SECONDS = 3.0
#: Seconds that an answer may take.
ANSWER_SECONDS = 5.0
#: Connections at once: one that brings a large body does not hold up all else.
CONNECTIONS = 4


@define
class _Place:
    """Where there is one connection, or none, or there will be one."""

    line: Line | None = None
    waiting: list[Deferred[Line]] = field(factory=list)

    @property
    def load(self) -> int:
        return len(self.waiting) + (self.line.waiting if self.line else 0)


class Pool:
    """Asks on the connection that has least to do.

    An answer that does not come in time ends its connection: whatever comes
    on it later is not for anybody any more.

    :param connect: returns a connection that is to be trusted.
    """

    def __init__(self, name: str, connect: Callable[[], Awaitable[Line]], clock: Any) -> None:
        self._name = name
        self._connect = connect
        self._clock = clock
        self._places = [_Place() for _ in range(CONNECTIONS)]
        self._closed = False

    async def ask(self, *command: Any) -> Any:
        """Return the answer to *command*.

        Fails as :meth:`~sos.stores.engines.redis.connection.Line.ask` does, with what
        connecting fails with, and with Unavailable when there is no answer in
        time.  Cancelling it takes nothing back.
        """
        return await self.with_line(lambda line: line.ask(*command))

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Return what *script* returns; fails as :meth:`ask` does."""
        return await self.with_line(lambda line: line.run(script, keys, arguments))

    async def with_line(self, use: Callable[[Line], Awaitable[T]]) -> T:
        """Return what *use* makes of a connection, in the time for one answer."""
        place = min(self._places, key=lambda each: each.load)
        line = await self._line(place)
        line.users += 1
        try:
            return await self._within(ANSWER_SECONDS, use(line))
        except TimeoutError:
            line.close()
            raise Unavailable(f"{self._name} does not answer; what was asked may be done") from None
        finally:
            line.users -= 1
            if line.retired and not line.users:
                line.close()

    def close(self) -> None:
        """End all connections, and make no others."""
        self._closed = True
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections there are."""
        for place in self._places:
            if place.line is not None:
                place.line.close()
                place.line = None

    async def _line(self, place: _Place) -> Line:
        if self._closed:
            raise Unavailable(f"{self._name} is closed")
        line = place.line
        if line is not None and not line.lost and not line.retired:
            return line
        waiter: Deferred[Line] = Deferred()
        place.waiting.append(waiter)
        if len(place.waiting) == 1:
            place.line = None
            ensureDeferred(self._fill(place))
        return await waiter

    async def _fill(self, place: _Place) -> None:
        outcome: Any
        try:
            outcome = place.line = await self._within(CONNECT_SECONDS, self._connect(), leave=False)
            if self._closed:
                place.line.close()
        except TimeoutError:
            outcome = Unavailable(f"{self._name} does not answer")
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
