"""Conversion of histograms to Prometheus' format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString


def add(family: HistogramMetricFamily, labels: Sequence[str], document: Mapping[str, Any]) -> None:
    """Add to *family* the result of :meth:`sos.monitoring.histogram.Histogram.document`."""
    bounds = [*map(floatToGoString, document["bounds"]), "+Inf"]
    family.add_metric(
        labels, list(zip(bounds, accumulate(document["counts"]), strict=True)), document["sum"]
    )
