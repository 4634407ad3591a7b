"""Metrics of the commits of a store."""

from __future__ import annotations

from typing import Any

from sos.monitoring.histogram import Histogram

_CHANGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Commits:
    """Histograms of commits: changes that become durable together, and seconds."""

    def __init__(self) -> None:
        self._changes = Histogram(_CHANGES)
        self._seconds = Histogram(_SECONDS)

    def observe(self, changes: int, seconds: float) -> None:
        """Count a commit of *changes* that took *seconds*; always call it on the same thread."""
        self._changes.observe(changes)
        self._seconds.observe(seconds)

    def document(self) -> dict[str, Any]:
        """Return the histograms as a JSON object."""
        return {"changes": self._changes.document(), "seconds": self._seconds.document()}
