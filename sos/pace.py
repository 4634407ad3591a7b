"""Work that must not take all of a disk or a line."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater


class Pace:
    """Holds its callers back to *rate* bytes a second together, 0 for no limit."""

    def __init__(self, rate: int, clock: IReactorTime) -> None:
        self._rate = rate
        self._clock = clock
        self._begun = clock.seconds()
        self._spent = 0

    async def spend(self, size: int) -> None:
        """Return when *size* bytes more may be spent."""
        self._spent += size
        due = self._begun + self._spent / self._rate if self._rate else 0.0
        # Even when nothing is to be waited for, others get their turn.
        await deferLater(self._clock, max(due - self._clock.seconds(), 0.0))
