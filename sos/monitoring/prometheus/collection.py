"""Metrics about the garbage collection of an API server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def families(collection: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of *collection*, a part of the document of ``/status``."""
    yield GaugeMetricFamily(
        "sos_collection_running",
        "1 during a garbage collection, else 0.",
        collection["running_since"] is not None,
    )
    yield GaugeMetricFamily(
        "sos_collection_lag_seconds",
        "Seconds since the last garbage collection that came to its end, or since the start.",
        collection["lag"],
    )
    yield GaugeMetricFamily(
        "sos_collection_interval_seconds",
        "Seconds from the end of a garbage collection to the next.",
        collection["interval"],
    )
    ended = CounterMetricFamily(
        "sos_collections", "Garbage collections, by outcome.", labels=["outcome"]
    )
    for outcome, count in collection["ended"].items():
        ended.add_metric([outcome], count)
    yield ended
    freed = collection["freed"]
    yield CounterMetricFamily(
        "sos_collection_copies",
        "Copies of expired objects and garbage that were removed.",
        freed["copies"],
    )
    yield CounterMetricFamily(
        "sos_collection_bytes", "Bytes of the copies that were removed.", freed["bytes"]
    )
    yield CounterMetricFamily(
        "sos_collection_expired", "Expired objects that were found.", freed["expired"]
    )
    if collection["last"] is not None:
        summary = collection["last"]["summary"]
        for name in ("objects", "chunks"):
            yield GaugeMetricFamily(
                f"sos_collection_last_{name}",
                f"The {name} that the last garbage collection found.",
                summary[name],
            )
