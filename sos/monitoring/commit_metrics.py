"""What is counted of the commits of a store."""

from __future__ import annotations

from typing import Any

from sos.monitoring.histogram import Histogram

_CHANGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Commits:
    """How many changes are made durable together, and how long that takes."""

    def __init__(self) -> None:
        self._changes = Histogram(_CHANGES)
        self._seconds = Histogram(_SECONDS)

    def observe(self, changes: int, seconds: float) -> None:
        """Count a commit of so many *changes*; it may be called on any one thread."""
        self._changes.observe(changes)
        self._seconds.observe(seconds)

    def told(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it."""
        return {"changes": self._changes.told(), "seconds": self._seconds.told()}
