"""A rate limit, for work that must not saturate a disk or a network."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

# Seconds of unspent rate that can be spent later: clocks are coarse.
_CREDIT_SECONDS = 1.0


class RateLimit:
    """A limit of *rate* bytes a second for all callers together, 0 for none."""

    def __init__(self, rate: int, clock: IReactorTime) -> None:
        self._rate = rate
        self._clock = clock
        self._due = 0.0

    async def spend(self, size: int) -> None:
        """Wait until *size* more bytes may be spent."""
        now = self._clock.seconds()
        if self._rate:
            self._due = max(self._due, now - _CREDIT_SECONDS) + size / self._rate
        # Even without a wait, let the reactor serve others.
        await deferLater(self._clock, max(self._due - now, 0.0))
