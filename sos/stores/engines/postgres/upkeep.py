"""What a store does from time to time, and what it does that nobody waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from attrs import field, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from sos.aio.shield import Underway
from sos.errors import SOSError
from sos.stores.engines.postgres.bodies import Bodies
from sos.stores.engines.postgres.connections import Connections

T = TypeVar("T")

# Seconds between two looks; several of them have to fail before what is used counts as
# abandoned.
_EVERY = 60.0

_log = Logger()


@frozen
class Used:
    """The bodies that are being written or read by this process."""

    _bodies: Counter[int] = field(init=False, factory=Counter)

    def add(self, body: int) -> None:
        """Count one more who uses *body*."""
        self._bodies[body] += 1

    def remove(self, body: int) -> None:
        """Count one less."""
        self._bodies[body] -= 1
        if not self._bodies[body]:
            del self._bodies[body]

    def all(self) -> list[int]:
        """Return them all."""
        return list(self._bodies)


class Upkeep:
    """Keeps what is used from being cleared away, and clears away what is not.

    :ivar used: what is.
    """

    def __init__(
        self, bodies: Bodies, connections: Connections, underway: Underway, reactor: Any
    ) -> None:
        self.used = Used()
        self._bodies = bodies
        self._connections = connections
        self._underway = underway
        self._reactor = reactor
        self._next: IDelayedCall | None = None
        self._clearing = False

    def start(self) -> None:
        """Do it now, and again and again."""
        self._next = self._reactor.callLater(_EVERY, self.start)
        self._underway.to_its_end(self._quietly(self._once()))

    def stop(self) -> None:
        """Do it no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def discard(self, body: int) -> None:
        """Clear away a loose *body*, some time soon."""
        self._underway.to_its_end(self._quietly(self._discard(body)))

    async def _once(self) -> None:
        await self._connections.run(self._bodies.use, self.used.all())
        if self._clearing:  # what there was to clear away the last time
            return
        self._clearing = True
        try:
            await self._clear_abandoned()
        finally:
            self._clearing = False

    async def _clear_abandoned(self) -> None:
        while self._next is not None:  # or the store is to be closed
            body = await self._connections.run(self._bodies.abandoned)
            if body is None:
                break
            _log.info(
                "{store}: an unfinished or dropped body is cleared away",
                store=self._connections.name,
            )
            await self._clear(body)

    async def _discard(self, body: int) -> None:
        await self._connections.run(self._bodies.doom, body)
        await self._clear(body)

    async def _clear(self, body: int) -> None:
        while await self._connections.run(self._bodies.clear, body):
            pass

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SOSError as error:  # the next time, then, or another process
            _log.debug(
                "{store}: not cleared up: {error}", store=self._connections.name, error=error
            )
        except Exception:
            _log.failure("{store} could not be cleared up", store=self._connections.name)
