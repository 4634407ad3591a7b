"""What is counted of requests."""

from __future__ import annotations

import json

from sos.monitoring.histogram import Histogram
from sos.monitoring.request_metrics import RequestMetrics


def test_a_histogram_counts_by_bounds():
    """A value that is a bound is at most that; what is above the last is counted, too."""
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 1.5):
        histogram.observe(value)
    assert histogram.document() == {"bounds": [0.1, 1.0], "counts": [2, 2, 1], "sum": 3.15}


def counted(*requests):
    request_metrics = RequestMetrics()
    for request in requests:
        request_metrics.count(*request)
    return json.loads(json.dumps(request_metrics.document()))


def test_requests_are_told_by_route_and_method():
    """How many of each status, what they took, and their bytes."""
    document = counted(
        ("/upload", b"POST", 200, 0.002, 1000, 80),
        ("/upload", b"POST", 503, 0.004, 10, 20),
        ("/fetch/<name>", b"GET", 200, 0.001, 0, 5),
    )
    fetches, uploads = document["routes"]
    assert (fetches["route"], fetches["method"], fetches["statuses"]) == (
        "/fetch/<name>",
        "GET",
        {"200": 1},
    )
    assert (uploads["bytes_in"], uploads["bytes_out"]) == (1010, 100)
    assert uploads["statuses"] == {"200": 1, "503": 1}
    assert sum(uploads["seconds"]["counts"]) == 2


def test_the_summary_is_short():
    """Totals, and what half of the recent requests took at most."""
    request_metrics = RequestMetrics()
    for seconds in (0.001, 0.001, 0.1):
        request_metrics.count("/upload", b"POST", 500 if seconds > 0.01 else 200, seconds, 1, 2)
    request_metrics.connections = 4
    assert json.loads(json.dumps(request_metrics.summary())) == {
        "connections": 4,
        "routes": [
            {
                "route": "/upload",
                "method": "POST",
                "count": 3,
                "statuses": {"200": 2, "500": 1},
                "bytes_in": 3,
                "bytes_out": 6,
                "seconds": 0.102,
                "p50_ms": 1.0,
                "p99_ms": 100.0,
            },
        ],
    }
    assert RequestMetrics().summary() == {"connections": 0, "routes": []}


def test_memory_is_bounded():
    """The times of the last requests alone are kept one by one; the counts are of all."""
    request_metrics = RequestMetrics()
    for number in range(1000):
        request_metrics.count("/upload", b"POST", 200, float(number), 0, 0)
    (line,) = request_metrics.summary()["routes"]
    assert line["p50_ms"] == 1000 * (1000 - 256 / 2)  # the median of the last 256
    assert line["statuses"] == {"200": 1000}
