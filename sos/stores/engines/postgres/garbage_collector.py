"""Garbage collection of loose bodies, in the background."""

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

# Seconds between two rounds: several must fail before a used body counts as abandoned.
_EVERY = 60.0

_log = Logger()


@frozen
class Used:
    """The bodies that this process is writing or reading."""

    _bodies: Counter[int] = field(init=False, factory=Counter)

    def add(self, body: int) -> None:
        """Count one more user of *body*."""
        self._bodies[body] += 1

    def remove(self, body: int) -> None:
        """Count one user of *body* less."""
        self._bodies[body] -= 1
        if not self._bodies[body]:
            del self._bodies[body]

    def all(self) -> list[int]:
        """Return all bodies in use."""
        return list(self._bodies)


class GarbageCollector:
    """A periodic job that marks bodies in use, and removes abandoned ones.

    :ivar used: the bodies in use.
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
        """Run the job now, and every minute."""
        self._next = self._reactor.callLater(_EVERY, self.start)
        self._underway.to_its_end(self._quietly(self._once()))

    def stop(self) -> None:
        """Do not run the job again."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def discard(self, body: int) -> None:
        """Remove a loose *body* in the background."""
        self._underway.to_its_end(self._quietly(self._discard(body)))

    async def _once(self) -> None:
        await self._connections.run(self._bodies.use, self.used.all())
        if self._clearing:  # the last round is still removing bodies
            return
        self._clearing = True
        try:
            await self._clear_abandoned()
        finally:
            self._clearing = False

    async def _clear_abandoned(self) -> None:
        while self._next is not None:  # until stop()
            body = await self._connections.run(self._bodies.abandoned)
            if body is None:
                break
            _log.info(
                "removing an abandoned body, store={store}",
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
        except SOSError as error:  # the next round, or another process, tries again
            _log.debug(
                "cannot remove abandoned bodies, store={store}: {error}",
                store=self._connections.name,
                error=error,
            )
        except Exception:
            _log.failure(
                "cannot remove abandoned bodies, store={store}", store=self._connections.name
            )
