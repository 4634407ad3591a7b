"""What a daemon counts of the requests that it answers."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from typing import Any

from sos.monitoring.histogram import Histogram
from sos.monitoring.server_health import percentile

#: The route of what has none, and of what is no request.
OTHER = "other"
#: The status of a request whose client went away before it was answered; nginx has it so.
GONE = 499

#: Bounds in seconds of the times that requests take.
SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# Requests of a route whose times are remembered one by one.
_REMEMBERED = 256


class _Line:
    """The requests of one route and method."""

    __slots__ = ("bytes_in", "bytes_out", "recent", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.seconds = Histogram(SECONDS)
        self.bytes_in = 0
        self.bytes_out = 0
        self.recent: deque[float] = deque(maxlen=_REMEMBERED)


class Tally:
    """Counts requests by route, which is a rule and never a path: there are few.

    :ivar connections: that are open.
    :ivar failed_handshakes: of TLS, by the port or the socket that they came to.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.failed_handshakes: Counter[str] = Counter()
        self._lines: dict[tuple[str, bytes], _Line] = {}

    def count(
        self, route: str, method: bytes, status: int, seconds: float, received: int, sent: int
    ) -> None:
        """Count a request that has been answered.

        :param received: bytes of its body.
        :param sent: bytes of the answer's.
        """
        # Each request passes here: no lock, no call or look-up that is not needed.
        line = self._lines.get((route, method))
        if line is None:
            line = self._lines[route, method] = _Line()
        statuses = line.statuses
        statuses[status] = statuses.get(status, 0) + 1
        times = line.seconds
        times.counts[bisect_left(SECONDS, seconds)] += 1
        times.sum += seconds
        line.recent.append(seconds)
        line.bytes_in += received
        line.bytes_out += sent

    def told(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it."""
        return {
            "connections": self.connections,
            "failed_handshakes": dict(self.failed_handshakes),
            "routes": [
                {
                    "route": route,
                    "method": method.decode("latin-1"),
                    "statuses": {str(status): count for status, count in line.statuses.items()},
                    "bytes_in": line.bytes_in,
                    "bytes_out": line.bytes_out,
                    "seconds": line.seconds.told(),
                }
                for (route, method), line in sorted(self._lines.items())
            ],
        }

    def summary(self) -> dict[str, Any]:
        """Return it in short, as ``/status`` has it."""
        return {
            "connections": self.connections,
            "routes": [
                {
                    "route": route,
                    "method": method.decode("latin-1"),
                    "count": sum(line.statuses.values()),
                    "statuses": {str(code): count for code, count in sorted(line.statuses.items())},
                    "bytes_in": line.bytes_in,
                    "bytes_out": line.bytes_out,
                    "seconds": round(line.seconds.sum, 6),
                    "p50_ms": _milliseconds(percentile(line.recent, 0.5)),
                    "p99_ms": _milliseconds(percentile(line.recent, 0.99)),
                }
                for (route, method), line in sorted(self._lines.items())
            ],
        }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
