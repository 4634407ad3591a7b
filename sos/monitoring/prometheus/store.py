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
    yield GaugeMetricFamily("sos_store_writable", "Whether it takes blobs.", store["writable"])
    yield GaugeMetricFamily("sos_store_blobs", "Blobs that it holds.", store["blobs"])
    yield GaugeMetricFamily("sos_store_bytes", "Bytes of their bodies.", store["size"])
    capacity, free = store["capacity"], store["free"]
    yield GaugeMetricFamily("sos_store_capacity_bytes", "Size of its disk.", capacity)
    yield GaugeMetricFamily("sos_store_free_bytes", "Of that, free.", free)
    fill = 1 - free / capacity if capacity and free is not None else None
    yield GaugeMetricFamily("sos_store_fill_ratio", "Share of its disk in use.", fill)
    if commits is not None:
        yield from _commits(commits)
    if document["scrub"] is not None:
        yield from _scrub(document["scrub"])


def _commits(commits: Mapping[str, Any]) -> Iterator[Metric]:
    for name, documentation, told in (
        ("changes", "Changes that were made durable together.", commits["changes"]),
        ("seconds", "Time that it took to make them durable.", commits["seconds"]),
    ):
        family = HistogramMetricFamily(f"sos_commit_{name}", documentation)
        histograms.add(family, [], told)
        yield family


def _scrub(report: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of the current scrub pass, or else of the last one."""
    for name, documentation, value in (
        ("blobs", "Blobs read.", report["checked"]),
        ("bytes", "Bytes read.", report["bytes"]),
        ("damaged", "Blobs set aside.", report["damaged"]),
        ("unreadable", "Blobs that the disk refused.", report["unreadable"]),
        ("progress_ratio", "Share of the ids that are behind it.", _progress(report)),
        ("last_start_timestamp_seconds", "When it was begun.", report["started_at"]),
        ("last_finish_timestamp_seconds", "When a pass ended.", report["finished_at"]),
    ):
        yield GaugeMetricFamily(f"sos_scrub_{name}", documentation, value)


def _progress(report: Mapping[str, Any]) -> float:
    """Return how much of a pass is done, from 0 to 1: it reads the partitions in order."""
    if report["position"] is None:
        return 0.0 if report["finished_at"] is None else 1.0
    return int(ids.partition(report["position"]), 16) / 4096
