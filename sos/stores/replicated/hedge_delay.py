"""How long to wait for an answer before another server is asked."""

from __future__ import annotations

from collections import deque

from sos.monitoring.server_health import percentile
from sos.stores.replicated.peer import SLOW_SECONDS

#: Seconds to wait at least, however fast all answers are.
LEAST_SECONDS = 0.02

# Answers that are remembered, and after how many new ones they are looked at.
_REMEMBERED = 512
_REVIEW = 64
# Part of the questions that may be asked a second time, and how many at once.
_SHARE = 0.1
_BURST = 10.0


class Patience:
    """Learns how long answers take.

    The second question is for the slowest twentieth of the first; and so that
    servers which are all slow are not asked everything twice, there are at
    most a tenth as many second questions as first ones.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._new = 0
        self._limit = SLOW_SECONDS / 10
        self._allowance = _BURST

    def observe(self, seconds: float) -> None:
        """Take note of an answer that took so long."""
        self._seconds.append(seconds)
        self._new += 1
        if self._new == _REVIEW:
            self._new = 0
            slow = percentile(self._seconds, 0.95)
            self._limit = min(max(slow or 0.0, LEAST_SECONDS), SLOW_SECONDS)

    def next(self) -> float:
        """Return the seconds for the next question."""
        self._allowance = min(self._allowance + _SHARE, _BURST)
        return self._limit if self._allowance >= 1 else SLOW_SECONDS

    def spent(self) -> None:
        """A second question has been asked."""
        self._allowance -= 1
