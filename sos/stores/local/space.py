"""The free space for blobs: on the disk, and inside the index's file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from sos.errors import NoSpace
from sos.interfaces import SMALL_BODY
from sos.model.quantities import Reserve
from sos.stores.disk_errors import disk_errors
from sos.stores.local.quota import QuotaAccount

# Seconds for which a measurement of the disk is valid: others write to it, too.
_FRESH = 0.25
# Bytes that a record can need besides an inline body: a page of metadata, and
# the pages of the index above it.
_RECORD = 16 * 1024
# Free pages of the index that do not count: each change needs some before it frees others.
_SPARE = 1 << 20
# Inodes to leave free: with fewer left, no more files are created.
_LAST_FILES = 16


class Space:
    """An account of the free space, which refuses uploads into the *reserve*.

    Each upload counts against the last measurement of the disk until the next one.

    :param reusable: returns the number of free bytes inside the index's file: blobs that
        reuse the space of dropped ones take none of the disk.
    :param quota: counts the uploads as well; None for no quota.
    """

    def __init__(
        self,
        directory: Path,
        reserve: Reserve,
        reusable: Callable[[], int],
        quota: QuotaAccount | None = None,
    ) -> None:
        self._directory = directory
        self._reserve = reserve
        self._reusable = reusable
        self._quota = quota
        self._looked_at = float("-inf")
        self._capacity = self._free = 0
        self._left = 0
        self._left_inside = 0
        self._unusable = _SPARE
        self._files = 0

    def take_blob(self, size: int | None) -> int:
        """Count a blob that is about to be stored, or raise NoSpace.

        :param size: of its body, in bytes; if it is None, call :meth:`take` for the bytes
            after the first :data:`~sos.interfaces.SMALL_BODY`.
        :returns: the bytes taken, for :meth:`end`.
        """
        counted = SMALL_BODY if size is None else size
        self._take_blob(size)
        if self._quota is not None:
            self._quota.take(1, counted)
        return counted

    def _take_blob(self, size: int | None) -> None:
        if size is not None and size > SMALL_BODY:
            self._take(size + _RECORD)
            if self._files <= 0:
                raise NoSpace(
                    f"the file system of {self._directory} has no inodes left for another file"
                )
            self._files -= 1
            return
        size = (SMALL_BODY if size is None else size) + _RECORD
        if not self._is_fresh or self._left + self._left_inside < size:
            self._look()
        inside = min(size, self._left_inside)
        if self._left < size - inside:
            raise self._refusal(size)
        self._left_inside -= inside
        self._left -= size - inside

    def take(self, size: int) -> None:
        """Count *size* more bytes that are about to be written to a file, or raise NoSpace."""
        self._take(size)
        if self._quota is not None:
            self._quota.take(0, size)

    @property
    def has_quota(self) -> bool:
        """Whether there is a quota, so that each upload has to be ended."""
        return self._quota is not None

    def end(self, taken: int) -> None:
        """End the upload of a blob, for which *taken* bytes were counted."""
        if self._quota is not None:
            self._quota.end(taken)

    def _take(self, size: int) -> None:
        if not self._is_fresh or self._left < size:
            self._look()
        if self._left < size:
            raise self._refusal(size)
        self._left -= size

    def correct(self) -> None:
        """Count the free space in the index as unusable: its pieces are too small."""
        self._unusable = max(self._unusable, self._reusable())

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() - self._looked_at <= _FRESH

    def _refusal(self, size: int) -> NoSpace:
        return NoSpace(
            f"not enough free space in {self._directory}: {size} bytes do not fit beside its "
            f"reserve of {self._reserve}"
        )

    def measure(self) -> tuple[int, int, str | None]:
        """Measure; return capacity and free space in bytes, and why nothing more fits, if so."""
        self._look()
        capacity, free, refusal = self._capacity, self._free, None
        if self._quota is not None:
            capacity, free, refusal = self._quota.limit(capacity, free)
        if self._left + self._left_inside <= _RECORD:
            refusal = "the disk is full up to its reserve"
        return capacity, free, refusal

    def _look(self) -> None:
        with disk_errors():
            found = os.statvfs(self._directory)
        reusable = self._reusable()
        self._capacity = found.f_blocks * found.f_frsize
        free = found.f_bavail * found.f_frsize
        self._free = free + reusable
        self._left = max(free - self._reserve.of(self._capacity), 0)
        self._unusable = max(min(self._unusable, reusable), _SPARE)
        self._left_inside = max(reusable - self._unusable, 0)
        # Some file systems create inodes on demand, and report none.
        self._files = found.f_favail - _LAST_FILES if found.f_files else 1 << 62
        self._looked_at = time.monotonic()
