"""Bounded background work: copies that no request waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

# Most bytes of bodies, and most tasks.
_MOST_BYTES = 256 * 1024 * 1024
_MOST = 256


class Background:
    """The background tasks in flight.

    A crash can lose all of them: replication makes up for it.

    :ivar bytes: size of the bodies in flight.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._works: dict[Deferred[Any], Callable[[], None]] = {}

    @property
    def count(self) -> int:
        """Number of tasks in flight."""
        return len(self._works)

    def admits(self, size: int) -> bool:
        """Return whether there is room for a task with a body of *size* bytes."""
        return len(self._works) < _MOST and self.bytes + size <= _MOST_BYTES

    def add(self, size: int, work: Deferred[Any], stop: Callable[[], None]) -> None:
        """Keep *work* until it ends; call *stop* to cancel it."""
        self.bytes += size
        self._works[work] = stop

        def ended(result: Any) -> Any:
            del self._works[work]
            self.bytes -= size
            return result

        work.addBoth(ended)

    def stop(self) -> None:
        """Cancel all tasks."""
        for stop in list(self._works.values()):
            stop()
