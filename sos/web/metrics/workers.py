"""What each process tells of itself: the requests that it answered, and what it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from sos.web.metrics import histograms

#: What processes have told, by the number of the worker that each of them is.
Processes = Mapping[int, Mapping[str, Any]]


def process() -> dict[str, float]:
    """Return what the system says of this process, by the names that Prometheus has for it."""
    return {
        sample.name: sample.value
        for metric in ProcessCollector(registry=None).collect()
        for sample in metric.samples
    }


def families(processes: Processes) -> Iterator[Metric]:
    """Give the metrics of each of *processes*."""
    yield from _requests(processes)
    yield from _system(processes)


def _requests(processes: Processes) -> Iterator[Metric]:
    labels = ["route", "method", "worker"]
    count = CounterMetricFamily(
        "sos_requests", "Requests answered.", labels=["route", "method", "status", "worker"]
    )
    seconds = HistogramMetricFamily(
        "sos_request_seconds", "Time from a request's head to its answer's end.", labels=labels
    )
    received = CounterMetricFamily(
        "sos_request_bytes", "Bytes of the requests' bodies.", labels=labels
    )
    sent = CounterMetricFamily("sos_response_bytes", "Bytes of the answers' bodies.", labels=labels)
    connections = GaugeMetricFamily("sos_connections", "Connections open.", labels=["worker"])
    handshakes = CounterMetricFamily(
        "sos_tls_handshake_failures", "TLS handshakes that failed.", labels=["port", "worker"]
    )
    for number, told in processes.items():
        worker = str(number)
        connections.add_metric([worker], told["requests"]["connections"])
        for port, failed in told["requests"]["failed_handshakes"].items():
            handshakes.add_metric([port, worker], failed)
        for line in told["requests"]["routes"]:
            route, method = line["route"], line["method"]
            for status, value in line["statuses"].items():
                count.add_metric([route, method, status, worker], value)
            histograms.add(seconds, [route, method, worker], line["seconds"])
            received.add_metric([route, method, worker], line["bytes_in"])
            sent.add_metric([route, method, worker], line["bytes_out"])
    yield from (count, seconds, received, sent, connections, handshakes)


def _system(processes: Processes) -> Iterator[Metric]:
    found: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for number, told in processes.items():
        for name, value in told["process"].items():
            if name not in found:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                found[name] = kind(name, "What the system says of it.", labels=["worker"])
            found[name].add_metric([str(number)], value)
    yield from found.values()
