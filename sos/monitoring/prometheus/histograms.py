"""Conversion of histograms to Prometheus' format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString


def add(family: HistogramMetricFamily, labels: Sequence[str], told: Mapping[str, Any]) -> None:
    """Add to *family* the result of :meth:`sos.monitoring.histogram.Histogram.told`."""
    bounds = [*map(floatToGoString, told["bounds"]), "+Inf"]
    family.add_metric(
        labels, list(zip(bounds, accumulate(told["counts"]), strict=True)), told["sum"]
    )
