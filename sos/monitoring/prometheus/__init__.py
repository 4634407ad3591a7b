"""``GET /metrics``: the content of ``/status`` and more counters, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from sos.monitoring.prometheus import cluster, collection, process, store

#: The Content-Type of the metrics.
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def text(
    document: Mapping[str, Any], requests: Mapping[str, Any], commits: Mapping[str, Any] | None
) -> bytes:
    """Return the metrics of a daemon in Prometheus' text format.

    :param document: the document of ``/status``.
    :param requests: from :meth:`sos.monitoring.request_metrics.RequestMetrics.document`.
    :param commits: from :meth:`sos.monitoring.commit_metrics.Commits.document`; None if the daemon
        has no directory store.
    """
    return generate_latest(_Daemon(document, requests, commits))


class _Daemon(Collector):
    """Source of metrics for the client library of Prometheus."""

    def __init__(
        self,
        document: Mapping[str, Any],
        requests: Mapping[str, Any],
        commits: Mapping[str, Any] | None,
    ) -> None:
        self._document = document
        self._requests = requests
        self._commits = commits

    def collect(self) -> Iterator[Metric]:
        version = GaugeMetricFamily(
            "sos_build_info", "The version of SOS that is running.", labels=["version"]
        )
        version.add_metric([self._document["version"]], 1)
        yield version
        yield from process.families(self._requests)
        if "store" in self._document:
            yield from store.families(self._document, self._commits)
        if "groups" in self._document:
            yield from cluster.families(self._document)
        if "collection" in self._document:
            yield from collection.families(self._document["collection"])
