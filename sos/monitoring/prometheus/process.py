"""Metrics of the process: the requests that it has answered, and its use of resources."""

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

from sos.monitoring.prometheus import histograms


def families(requests: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of requests and of this process.

    :param requests: from :meth:`sos.monitoring.request_metrics.RequestMetrics.document`.
    """
    labels = ["route", "method"]
    count = CounterMetricFamily(
        "sos_requests",
        "Requests that ended, by status; 499 if the client left.",
        labels=[*labels, "status"],
    )
    seconds = HistogramMetricFamily(
        "sos_request_seconds",
        "Time from the head of a request to the end of its answer, in seconds.",
        labels=labels,
    )
    received = CounterMetricFamily("sos_request_bytes", "Bytes of request bodies.", labels=labels)
    sent = CounterMetricFamily("sos_response_bytes", "Bytes of response bodies.", labels=labels)
    for line in requests["routes"]:
        key = [line["route"], line["method"]]
        for status, value in line["statuses"].items():
            count.add_metric([*key, status], value)
        histograms.add(seconds, key, line["seconds"])
        received.add_metric(key, line["bytes_in"])
        sent.add_metric(key, line["bytes_out"])
    yield from (count, seconds, received, sent)
    handshakes = CounterMetricFamily(
        "sos_tls_handshake_failures", "Failed TLS handshakes.", labels=["port"]
    )
    for port, failed in requests["failed_handshakes"].items():
        handshakes.add_metric([port], failed)
    yield GaugeMetricFamily("sos_connections", "Open connections.", requests["connections"])
    yield handshakes
    yield from ProcessCollector(registry=None).collect()
