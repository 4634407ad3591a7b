"""Metrics of the requests that a daemon answers."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from typing import Any

from sos.monitoring.histogram import Histogram
from sos.monitoring.server_health import percentile, rounded

#: The route of requests that match no rule, and of malformed requests.
OTHER = "other"
#: The status of a request whose client went away before the answer; as in nginx.
GONE = 499

#: Histogram bounds of request durations, in seconds.
SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# Most recent durations kept for each route and method, for the percentiles.
_REMEMBERED = 256


class _RouteMetrics:
    """Metrics of one route and method."""

    __slots__ = ("bytes_in", "bytes_out", "recent", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.seconds = Histogram(SECONDS)
        self.bytes_in = 0
        self.bytes_out = 0
        self.recent: deque[float] = deque(maxlen=_REMEMBERED)


class RequestMetrics:
    """Request metrics by route (a rule, never a path, so there are few) and method.

    :ivar connections: the number of open connections.
    :ivar failed_handshakes: the number of failed TLS handshakes by port, or ``unix``.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.failed_handshakes: Counter[str] = Counter()
        self._by_route: dict[tuple[str, bytes], _RouteMetrics] = {}

    def count(
        self, route: str, method: bytes, status: int, seconds: float, received: int, sent: int
    ) -> None:
        """Count a request that has ended.

        :param received: bytes of its body.
        :param sent: bytes of the answer's body.
        """
        # Runs for every request: avoid locks, calls and look-ups.
        route_metrics = self._by_route.get((route, method))
        if route_metrics is None:
            route_metrics = self._by_route[route, method] = _RouteMetrics()
        statuses = route_metrics.statuses
        statuses[status] = statuses.get(status, 0) + 1
        times = route_metrics.seconds
        times.counts[bisect_left(SECONDS, seconds)] += 1
        times.sum += seconds
        route_metrics.recent.append(seconds)
        route_metrics.bytes_in += received
        route_metrics.bytes_out += sent

    def document(self) -> dict[str, Any]:
        """Return all metrics as a JSON object."""
        return {
            "connections": self.connections,
            "failed_handshakes": dict(self.failed_handshakes),
            "routes": [
                {
                    "route": route,
                    "method": method.decode("latin-1"),
                    "statuses": {
                        str(status): count for status, count in route_metrics.statuses.items()
                    },
                    "bytes_in": route_metrics.bytes_in,
                    "bytes_out": route_metrics.bytes_out,
                    "seconds": route_metrics.seconds.document(),
                }
                for (route, method), route_metrics in sorted(self._by_route.items())
            ],
        }

    def summary(self) -> dict[str, Any]:
        """Return the summary for ``/status``, with percentiles instead of histograms."""
        return {
            "connections": self.connections,
            "routes": [
                {
                    "route": route,
                    "method": method.decode("latin-1"),
                    "count": sum(route_metrics.statuses.values()),
                    "statuses": {
                        str(code): count for code, count in sorted(route_metrics.statuses.items())
                    },
                    "bytes_in": route_metrics.bytes_in,
                    "bytes_out": route_metrics.bytes_out,
                    "seconds": round(route_metrics.seconds.sum, 6),
                    "p50_ms": rounded(percentile(route_metrics.recent, 0.5), 1000),
                    "p99_ms": rounded(percentile(route_metrics.recent, 0.99), 1000),
                }
                for (route, method), route_metrics in sorted(self._by_route.items())
            ],
        }
