"""Metrics of an API server about its blob servers, background copies and replication."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sos.monitoring.server_health import LEFT_ALONE, TAKES_NO_BLOBS, UNREACHABLE, UP

_STATES = (UP, TAKES_NO_BLOBS, UNREACHABLE, LEFT_ALONE)
_SERVER = ["group", "server"]
# Metrics that are copied from a Standing, by the names of its attributes.
_GAUGES = {
    "blobs": ("sos_server_blobs", "Blobs that it holds."),
    "size": ("sos_server_bytes", "Bytes of their bodies."),
    "capacity": ("sos_server_capacity_bytes", "Size of its disk."),
    "free": ("sos_server_free_bytes", "Of that, free."),
}
_QUANTILES = {"p50_ms": "0.5", "p95_ms": "0.95"}


def families(document: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of the cluster in *document*, which is that of ``/status``."""
    yield from _standings(document["groups"])
    background = document["background"]
    yield GaugeMetricFamily(
        "sos_background_copies", "Copies under way that no upload waits for.", background["copies"]
    )
    yield GaugeMetricFamily("sos_background_bytes", "Bytes of their bodies.", background["bytes"])
    if document["replication"] is not None:
        yield from _replication(document["replication"])


def _standings(groups: Mapping[str, Any]) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "sos_server_up", "Whether it answers and takes what it should.", labels=_SERVER
    )
    state = GaugeMetricFamily(
        "sos_server_state", "1 for the state that it is in.", labels=[*_SERVER, "state"]
    )
    retry = GaugeMetricFamily(
        "sos_server_retry_seconds", "Time until it is asked again, 0 if it is up.", labels=_SERVER
    )
    latency = GaugeMetricFamily(
        "sos_server_latency_seconds",
        "Time that its recent answers took at most, by the share of them.",
        labels=[*_SERVER, "quantile"],
    )
    requests = CounterMetricFamily("sos_server_requests", "Requests it was sent.", labels=_SERVER)
    errors = CounterMetricFamily("sos_server_errors", "Times that it failed.", labels=_SERVER)
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


def _replication(told: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sos_replication_running", "Whether a pass is under way.", told["running_since"] is not None
    )
    yield GaugeMetricFamily(
        "sos_replication_lag_seconds", "Time since a pass found or made every copy.", told["lag"]
    )
    passes = CounterMetricFamily(
        "sos_replication_passes", "Passes, by how they ended.", labels=["outcome"]
    )
    for outcome, count in told["passes"].items():
        passes.add_metric([outcome], count)
    yield passes
    made = told["made"]
    for name, text in (
        ("copied", "Copies made."),
        ("bytes", "Bytes of those."),
        ("failed", "Steps that could not be carried out."),
        ("moved", "Copies dropped, for they belonged elsewhere."),
    ):
        yield CounterMetricFamily(f"sos_replication_{name}", text, made[name])
    if told["last"] is not None:
        yield from _last_pass(told["last"])


def _last_pass(last: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "sos_replication_last_start_timestamp_seconds",
        "When the last pass was begun.",
        last["started_at"],
    )
    yield GaugeMetricFamily("sos_replication_last_seconds", "Time that it took.", last["seconds"])
    summary = last["summary"]
    if summary is None:
        return
    for name, text, value in (
        ("last_copied", "Copies that it made.", summary["copied"]),
        ("last_failed", "Steps that it could not carry out.", summary["failed"]),
        ("last_unlisted", "Servers that did not tell it what they hold.", len(summary["unlisted"])),
        ("last_disputed", "Ids with other bytes on other servers.", summary["disputed"]),
        ("last_broken", "Objects of which no server has all.", summary["broken"]),
        (
            "under_replicated",
            "Copies that it left missing, and blobs with too few servers for them.",
            summary["short"] + summary["planned"] - summary["copied"],
        ),
    ):
        yield GaugeMetricFamily(f"sos_replication_{name}", text, value)
