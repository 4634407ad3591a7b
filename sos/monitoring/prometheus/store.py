"""Metrics of a daemon about its own store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from sos.model import ids
from sos.monitoring.prometheus import histograms


def families(document: Mapping[str, Any], commits: Mapping[str, Any] | None) -> Iterator[Metric]:
    """Yield the metrics of the store in *document*, its *commits* and its scrub."""
    store = document["store"]
    yield GaugeMetricFamily(
        "sos_store_writable", "1 if the store accepts blobs, else 0.", store["writable"]
    )
    yield GaugeMetricFamily("sos_store_blobs", "Blobs in the store.", store["blobs"])
    yield GaugeMetricFamily("sos_store_bytes", "Bytes of the blobs in the store.", store["size"])
    capacity, free = store["capacity"], store["free"]
    yield GaugeMetricFamily(
        "sos_store_capacity_bytes", "Size of the store's disk, in bytes.", capacity
    )
    yield GaugeMetricFamily(
        "sos_store_free_bytes", "Free space on the store's disk, in bytes.", free
    )
    fill = 1 - free / capacity if capacity and free is not None else None
    yield GaugeMetricFamily(
        "sos_store_fill_ratio", "Used share of the store's disk, from 0 to 1.", fill
    )
    if commits is not None:
        yield from _commits(commits)
    if document["scrub"] is not None:
        yield from _scrub(document["scrub"])


def _commits(commits: Mapping[str, Any]) -> Iterator[Metric]:
    for name, documentation, document in (
        ("changes", "Changes in one commit of the index.", commits["changes"]),
        (
            "seconds",
            "Time of a commit of the index with its fsync, in seconds.",
            commits["seconds"],
        ),
    ):
        family = HistogramMetricFamily(f"sos_commit_{name}", documentation)
        histograms.add(family, [], document)
        yield family


def _scrub(report: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of the current scrub pass, or else of the last one."""
    for name, documentation, value in (
        ("blobs", "Blobs that the scrub pass has read.", report["checked"]),
        ("bytes", "Bytes that the scrub pass has read.", report["bytes"]),
        ("damaged", "Damaged blobs that the scrub pass has quarantined.", report["damaged"]),
        (
            "unreadable",
            "Blobs that the scrub pass could not read from the disk.",
            report["unreadable"],
        ),
        ("progress_ratio", "Progress of the scrub pass, from 0 to 1.", _progress(report)),
        (
            "last_start_timestamp_seconds",
            "When the scrub pass started, in seconds since the epoch.",
            report["started_at"],
        ),
        (
            "last_finish_timestamp_seconds",
            "When a scrub pass was last completed, in seconds since the epoch.",
            report["finished_at"],
        ),
    ):
        yield GaugeMetricFamily(f"sos_scrub_{name}", documentation, value)


def _progress(report: Mapping[str, Any]) -> float:
    """Return how much of a pass is done, from 0 to 1: it reads the partitions in order."""
    if report["position"] is None:
        return 0.0 if report["finished_at"] is None else 1.0
    return int(ids.partition(report["position"]), 16) / 4096
