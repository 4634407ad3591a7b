"""Histograms with fixed bounds, as in Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any


class Histogram:
    """Histogram: counts of values by their upper bound.

    :param bounds: in ascending order; one more count is for the values above the last one.
    :ivar counts: by bound and not cumulative, so that each value changes one count only.
    :ivar sum: of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count *value*."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def document(self) -> dict[str, Any]:
        """Return the histogram as a JSON object."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.sum}
