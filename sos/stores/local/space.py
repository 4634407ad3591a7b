"""How much room the disk has for blobs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sos.config import Reserve
from sos.errors import NoSpace
from sos.stores.disk_errors import disk_errors

# Seconds that a look at the disk is good for: others write to it, too.
_FRESH = 0.25


class Space:
    """Refuses what would leave less than *reserve* free.

    Every upload counts against the last look at the disk until the next one.
    """

    def __init__(self, directory: Path, reserve: Reserve) -> None:
        self._directory = directory
        self._reserve = reserve
        self._looked_at = float("-inf")
        self._left = 0

    def take(self, size: int) -> None:
        """Count *size* bytes that are about to be written, or raise NoSpace."""
        if time.monotonic() - self._looked_at > _FRESH or self._left < size:
            self._look()
        if self._left < size:
            raise NoSpace(
                f"{self._directory} has no room for {size} bytes beside its reserve of "
                f"{self._reserve}"
            )
        self._left -= size

    @property
    def full(self) -> bool:
        """Whether nothing fits any more."""
        self._look()
        return self._left <= 0

    def _look(self) -> None:
        capacity, free = self.disk()
        self._left = free - self._reserve.of(capacity)
        self._looked_at = time.monotonic()

    def disk(self) -> tuple[int, int]:
        """Return the size of the disk and what is free of it, in bytes."""
        with disk_errors():
            found = os.statvfs(self._directory)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
