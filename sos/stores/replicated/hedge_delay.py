"""The hedge delay: how long to wait for an answer before another server is asked as well."""

from __future__ import annotations

from collections import deque

from sos.monitoring.server_health import percentile
from sos.stores.replicated.peer import SLOW_SECONDS

#: Least hedge delay, in seconds, however fast all answers are.
LEAST_SECONDS = 0.02

# Latencies that are kept, and the number of new ones after which to update the delay.
_REMEMBERED = 512
_REVIEW = 64
# Most hedged requests per first request, and most in a burst.
_SHARE = 0.1
_BURST = 10.0


class HedgeDelay:
    """Hedge delay that adapts to the latencies of recent answers.

    The slowest twentieth of the requests are hedged.  When all servers are slow, hedging
    would double their load, so there is at most one hedged request per ten first requests.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._new = 0
        self._limit = SLOW_SECONDS / 10
        self._allowance = _BURST

    def observe(self, seconds: float) -> None:
        """Record the time from the beginning of a search to its result, in *seconds*."""
        self._seconds.append(seconds)
        self._new += 1
        if self._new == _REVIEW:
            self._new = 0
            percentile_95 = percentile(self._seconds, 0.95)
            self._limit = min(max(percentile_95 or 0.0, LEAST_SECONDS), SLOW_SECONDS)

    def next(self) -> float:
        """Return the hedge delay of the next request, in seconds."""
        self._allowance = min(self._allowance + _SHARE, _BURST)
        return self._limit if self._allowance >= 1 else SLOW_SECONDS

    def spent(self) -> None:
        """Record that a hedged request is being sent."""
        self._allowance -= 1
