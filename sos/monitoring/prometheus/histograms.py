"""Histograms that were told, as those of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString


def add(family: HistogramMetricFamily, labels: Sequence[str], told: Mapping[str, Any]) -> None:
    """Add to *family* what a :class:`sos.monitoring.histogram.Histogram` has told."""
    bounds = [*map(floatToGoString, told["bounds"]), "+Inf"]
    family.add_metric(
        labels, list(zip(bounds, accumulate(told["counts"]), strict=True)), told["sum"]
    )
