"""The clock by which an API server dates uploads and deletions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from sos.model.merge import MAX_SKEW_SECONDS, times
from sos.model.metadata import TICKS, Metadata, ticks


class UploadClock:
    """A hybrid clock (Kulkarni et al., 2014): the time of day, but later than all it has seen.

    So what this server does after another has answered is later, though the other's clock is
    ahead.  And no two of its own uploads and deletions have the same time.

    :param now: returns the time in seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._seen = 0.0
        self._behind = 0.0

    def __call__(self) -> float:
        """Return the time of an upload or a deletion, in seconds since the epoch."""
        time = max(self.time_of_day(), self._seen)
        self._seen = _after(ticks(time))
        return time

    def time_of_day(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._now() + self._behind

    def compare(self, times: Iterable[float]) -> None:
        """Compare the clock with the *times* that servers tell, in seconds since the epoch.

        If it is behind all of them by more than :data:`MAX_SKEW_SECONDS`, go by the earliest: else
        chunks that are stored now would soon be taken for old ones.
        """
        behind = min((time - self._now() for time in times), default=0.0)
        self._behind = behind if behind > MAX_SKEW_SECONDS else 0.0

    def see(self, metadata: Metadata) -> None:
        """Go on to after the times in *metadata*, unless they are of a clock that is wrong."""
        found = times(metadata)
        latest = _after(max(found.stored or 0, found.part or 0, found.deleted or 0))
        if latest <= self.time_of_day() + MAX_SKEW_SECONDS:
            self._seen = max(self._seen, latest)


def _after(time: int) -> float:
    """Return, in seconds, the middle of the tick after *time*, so that no rounding leaves it."""
    return (time + 1.5) / TICKS
