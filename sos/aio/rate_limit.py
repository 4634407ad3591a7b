"""Work that must not take all of a disk or a line."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

# Seconds for which what was not spent can be made up for: clocks are coarse.
_CREDIT_SECONDS = 1.0


class Pace:
    """Holds its callers back to *rate* bytes a second together, 0 for no limit."""

    def __init__(self, rate: int, clock: IReactorTime) -> None:
        self._rate = rate
        self._clock = clock
        self._due = 0.0

    async def spend(self, size: int) -> None:
        """Return when *size* bytes more may be spent."""
        now = self._clock.seconds()
        if self._rate:
            self._due = max(self._due, now - _CREDIT_SECONDS) + size / self._rate
        # Even when nothing is to be waited for, others get their turn.
        await deferLater(self._clock, max(self._due - now, 0.0))
