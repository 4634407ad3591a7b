"""Metrics of an API server about its blob servers, background copies and replication."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sos.monitoring.server_health import LEFT_ALONE, TAKES_NO_BLOBS, UNREACHABLE, UP

_STATES = (UP, TAKES_NO_BLOBS, UNREACHABLE, LEFT_ALONE)
_SERVER = ["group", "server"]
# Metrics that are copied from a ServerHealth, by the names of its attributes.
_GAUGES = {
    "blobs": ("sos_server_blobs", "Blobs on the server."),
    "size": ("sos_server_bytes", "Bytes of the blobs on the server."),
    "capacity": ("sos_server_capacity_bytes", "Size of the server's disk, in bytes."),
    "free": ("sos_server_free_bytes", "Free space on the server's disk, in bytes."),
}
_QUANTILES = {"p50_ms": "0.5", "p95_ms": "0.95"}


def families(document: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of the cluster in *document*, which is that of ``/status``."""
    yield from _server_families(document["groups"])
    background = document["background"]
    yield GaugeMetricFamily(
        "sos_background_copies",
        "Background copies in flight, which no upload waits for.",
        background["copies"],
    )
    yield GaugeMetricFamily(
        "sos_background_bytes", "Bytes of the background copies in flight.", background["bytes"]
    )
    if document["replication"] is not None:
        yield from _replication(document["replication"])


def _server_families(groups: Mapping[str, Any]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "sos_server_up",
        "1 if the server answers and, unless it is a readonly member, accepts blobs; else 0.",
        labels=_SERVER,
    )
    state = GaugeMetricFamily(
        "sos_server_state",
        "1 for the current state of the server, 0 for the others.",
        labels=[*_SERVER, "state"],
    )
    retry = GaugeMetricFamily(
        "sos_server_retry_seconds",
        "Seconds until the server is asked again, 0 if it is up.",
        labels=_SERVER,
    )
    latency = GaugeMetricFamily(
        "sos_server_latency_seconds",
        "Quantiles of the latency of the server's recent answers, in seconds.",
        labels=[*_SERVER, "quantile"],
    )
    requests = CounterMetricFamily(
        "sos_server_requests", "Requests sent to the server.", labels=_SERVER
    )
    errors = CounterMetricFamily(
        "sos_server_errors", "Requests to the server that failed.", labels=_SERVER
    )
    gauges = {
        key: GaugeMetricFamily(name, text, labels=_SERVER) for key, (name, text) in _GAUGES.items()
    }
    for group, servers in groups.items():
        for each in servers:
            labels = [group, each["name"]]
            up.add_metric(labels, each["state"] == UP)
            for name in _STATES:
                state.add_metric([*labels, name], each["state"] == name)
            retry.add_metric(labels, each["asked_again"] or 0)
            requests.add_metric(labels, each["requests"])
            errors.add_metric(labels, each["errors"])
            for key, quantile in _QUANTILES.items():
                if each[key] is not None:
                    latency.add_metric([*labels, quantile], each[key] / 1000)
            for key, family in gauges.items():
                if each[key] is not None:
                    family.add_metric(labels, each[key])
    yield from (up, state, retry, latency, requests, errors, *gauges.values())


def _replication(replication: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sos_replication_running",
        "1 while an anti-entropy pass is running, else 0.",
        replication["running_since"] is not None,
    )
    yield GaugeMetricFamily(
        "sos_replication_lag_seconds",
        "Seconds since the last pass with the outcome ok, or since the start.",
        replication["lag"],
    )
    passes = CounterMetricFamily(
        "sos_replication_passes", "Anti-entropy passes, by outcome.", labels=["outcome"]
    )
    for outcome, count in replication["passes"].items():
        passes.add_metric([outcome], count)
    yield passes
    made = replication["made"]
    for name, text in (
        ("copied", "Copies that all passes made."),
        ("bytes", "Bytes of the copies that all passes made."),
        ("failed", "Steps of all passes that failed."),
        ("moved", "Surplus copies that all passes dropped."),
    ):
        yield CounterMetricFamily(f"sos_replication_{name}", text, made[name])
    if replication["last"] is not None:
        yield from _last_pass(replication["last"])


def _last_pass(last: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sos_replication_last_start_timestamp_seconds",
        "When the last pass started, in seconds since the epoch.",
        last["started_at"],
    )
    yield GaugeMetricFamily(
        "sos_replication_last_seconds", "Duration of the last pass, in seconds.", last["seconds"]
    )
    summary = last["summary"]
    if summary is None:
        return
    for name, text, value in (
        ("last_copied", "Copies that the last pass made.", summary["copied"]),
        ("last_failed", "Steps of the last pass that failed.", summary["failed"]),
        (
            "last_unlisted",
            "Servers that sent no inventory to the last pass.",
            len(summary["unlisted"]),
        ),
        ("last_disputed", "Ids with different bodies on different servers.", summary["disputed"]),
        (
            "last_broken",
            "Objects with a chunk that no server has, and lost blobs.",
            summary["broken"],
        ),
        (
            "under_replicated",
            "Copies that the last pass left missing, and blobs with too few servers.",
            summary["short"] + max(summary["wanting"] - summary["copied"], 0),
        ),
    ):
        yield GaugeMetricFamily(f"sos_replication_{name}", text, value)
