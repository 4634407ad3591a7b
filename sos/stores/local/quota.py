"""The account of a store's quota."""

from __future__ import annotations

import time
from collections.abc import Callable

from sos.errors import NoSpace
from sos.model.quantities import Quota

# Seconds for which a count of the store is valid: meanwhile it takes at most what is counted.
_FRESH = 0.25


class QuotaAccount:
    """An account of the blobs stored and in flight, which refuses uploads over the *quota*.

    :param held: returns the number of blobs in the store, and the bytes of their bodies.
    """

    def __init__(self, quota: Quota, held: Callable[[], tuple[int, int]]) -> None:
        self._quota = quota
        self._held = held
        self._counted_at = float("-inf")
        # Blobs and bytes in flight, and with those that were stored at the last count.
        self._blobs_in_flight = self._bytes_in_flight = 0
        self._blobs = self._bytes = 0

    def take(self, blobs: int, bytes: int) -> None:
        """Count *blobs* of *bytes* together that are about to be stored, or raise NoSpace."""
        if time.monotonic() - self._counted_at > _FRESH or not self._fits(blobs, bytes):
            self._count()
            if not self._fits(blobs, bytes):
                raise NoSpace(f"the store is full: its quota is {self._quota}")
        self._blobs += blobs
        self._bytes += bytes
        self._blobs_in_flight += blobs
        self._bytes_in_flight += bytes

    def end(self, bytes: int) -> None:
        """End the upload of a blob, for which *bytes* were taken: it is stored, or given up."""
        self._blobs_in_flight -= 1
        self._bytes_in_flight -= bytes

    def _fits(self, blobs: int, bytes: int) -> bool:
        return self._quota.allows(self._blobs + blobs, self._bytes + bytes)

    def _count(self) -> None:
        blobs, bytes = self._held()
        self._blobs = self._blobs_in_flight + blobs
        self._bytes = self._bytes_in_flight + bytes
        self._counted_at = time.monotonic()

    def limit(self, capacity: int, free: int) -> tuple[int, int, str | None]:
        """Return *capacity* and *free* bytes of the disk as far as the quota allows.

        The third value is why the store takes no more, None if it does.
        """
        blobs, bytes = self._held()
        most = self._quota.bytes
        if most is not None:
            capacity, free = min(capacity, most), max(min(free, most - bytes), 0)
        if self._quota.allows(blobs + 1, bytes + 1):
            return capacity, free, None
        return capacity, free, f"the store is full: its quota is {self._quota}"
