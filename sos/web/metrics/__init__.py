"""What ``GET /metrics`` tells: the document of ``/status``, in the words of Prometheus.

Counters are told worker by worker.  Their sum would fall when one is started
anew; Prometheus takes that for a start of all, and counts everything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from sos.web.metrics import cluster, store, workers
from sos.web.metrics.workers import Processes

#: What the text is.
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def text(document: Mapping[str, Any], processes: Processes) -> bytes:
    """Return in Prometheus' text format what *document* and each of *processes* tell."""
    return generate_latest(_Told(document, processes))


class _Told(Collector):
    """What has been told, where Prometheus' client looks for what is to be told."""

    def __init__(self, document: Mapping[str, Any], processes: Processes) -> None:
        self._document = document
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        version = GaugeMetricFamily("sos_build_info", "What runs.", labels=["version"])
        version.add_metric([self._document["version"]], 1)
        yield version
        serving = self._document["workers"]
        yield GaugeMetricFamily("sos_workers", "Processes that serve.", serving["count"])
        yield GaugeMetricFamily(
            "sos_workers_silent", "Those that did not answer.", len(serving["silent"])
        )
        yield from workers.families(self._processes)
        if "store" in self._document:
            yield from store.families(self._document, self._processes)
        if "groups" in self._document:
            yield from cluster.families(self._document, self._processes)
