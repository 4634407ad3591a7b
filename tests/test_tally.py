"""What is counted of requests, and told together."""

from __future__ import annotations

import json

from sos.histogram import Histogram
from sos.tally import Tally, together


def test_a_histogram_counts_by_bounds():
    """A value that is a bound is at most that; what is above the last is counted, too."""
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.0, 1.5):
        histogram.observe(value)
    assert histogram.told() == {"bounds": [0.1, 1.0], "counts": [2, 2, 1], "sum": 3.15}


def counted(*requests):
    tally = Tally()
    for request in requests:
        tally.count(*request)
    return json.loads(json.dumps(tally.told()))


def test_requests_are_told_by_route_and_method():
    """How many of each status, what they took, and their bytes."""
    told = counted(
        ("/upload", b"POST", 200, 0.002, 1000, 80),
        ("/upload", b"POST", 503, 0.004, 10, 20),
        ("/fetch/<name>", b"GET", 200, 0.001, 0, 5),
    )
    fetches, uploads = told["routes"]
    assert (fetches["route"], fetches["method"], fetches["statuses"]) == (
        "/fetch/<name>",
        "GET",
        {"200": 1},
    )
    assert (uploads["bytes_in"], uploads["bytes_out"]) == (1010, 100)
    assert uploads["statuses"] == {"200": 1, "503": 1}
    assert uploads["recent"] == [0.002, 0.004]
    assert sum(uploads["seconds"]["counts"]) == 2


def test_what_processes_counted_is_added_up():
    """And half of the recent requests took no longer than is told, wherever they were answered."""
    first = counted(*(("/upload", b"POST", 200, 0.001, 1, 2) for _ in range(3)))
    second = counted(("/upload", b"POST", 500, 0.1, 1, 2), ("other", b"GET", 404, 0.0, 0, 9))
    first["connections"], second["connections"] = 4, 5
    assert together([first, second]) == {
        "connections": 9,
        "routes": [
            {
                "route": "/upload",
                "method": "POST",
                "count": 4,
                "statuses": {"200": 3, "500": 1},
                "bytes_in": 4,
                "bytes_out": 8,
                "seconds": 0.103,
                "p50_ms": 1.0,
                "p99_ms": 100.0,
            },
            {
                "route": "other",
                "method": "GET",
                "count": 1,
                "statuses": {"404": 1},
                "bytes_in": 0,
                "bytes_out": 9,
                "seconds": 0.0,
                "p50_ms": 0.0,
                "p99_ms": 0.0,
            },
        ],
    }
    assert together([]) == {"connections": 0, "routes": []}


def test_memory_is_bounded():
    """Of the times one by one the last alone are kept; the counts are of all."""
    tally = Tally()
    for number in range(1000):
        tally.count("/upload", b"POST", 200, float(number), 0, 0)
    (line,) = tally.told()["routes"]
    assert len(line["recent"]) == 256
    assert line["recent"][-1] == 999.0
    assert line["statuses"] == {"200": 1000}
