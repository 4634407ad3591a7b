"""Work that nobody waits for, of which there is never too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

# At most so many bytes of bodies, and so many pieces of work.
_MOST_BYTES = 256 * 1024 * 1024
_MOST = 256


class Background:
    """Keeps count of what is under way.

    All of it can be lost: a replication pass finds what has not been done.

    :ivar bytes: of the bodies under way.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._works: dict[Deferred[Any], Callable[[], None]] = {}

    @property
    def count(self) -> int:
        """How many pieces of work are under way."""
        return len(self._works)

    def admits(self, size: int) -> bool:
        """Tell whether there is room for work on *size* bytes."""
        return len(self._works) < _MOST and self.bytes + size <= _MOST_BYTES

    def add(self, size: int, work: Deferred[Any], stop: Callable[[], None]) -> None:
        """Take *work* over until it ends, which *stop* hastens."""
        self.bytes += size
        self._works[work] = stop

        def ended(result: Any) -> Any:
            del self._works[work]
            self.bytes -= size
            return result

        work.addBoth(ended)

    def stop(self) -> None:
        """End all of it."""
        for stop in list(self._works.values()):
            stop()
