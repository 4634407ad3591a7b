"""How values are spread: counts by bounds, as Prometheus wants them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any


class Histogram:
    """Counts values by the bound that they are at most.

    :param bounds: in order; one more count is of what is above the last.
    :ivar counts: of each bound alone, so that to count a value is to change one.
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

    def told(self) -> dict[str, Any]:
        """Return it, as JSON can hold it."""
        return {"bounds": list(self.bounds), "counts": list(self.counts), "sum": self.sum}
