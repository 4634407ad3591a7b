"""How much room there is for blobs: on the disk, and in the index's own file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from sos.errors import NoSpace
from sos.interfaces import SMALL_BODY
from sos.model.config import Reserve
from sos.stores.disk_errors import disk_errors

# Seconds that a look at the disk is good for: others write to it, too.
_FRESH = 0.25
# Bytes that a record can take beside an inline body: a page of metadata, with
# the pages of the index above it.
_RECORD = 16 * 1024
# Free pages of the index that do not count: each change needs some before it frees others.
_SPARE = 1 << 20
# Files and directories that a file system has left when none is made any more.
_LAST_FILES = 16


class Space:
    """Refuses what would leave less than *reserve* free.

    Every upload counts against the last look at the disk until the next one.

    :param reusable: tells how many bytes of the index's file can be used again: what takes the
        place of blobs that were dropped takes nothing of the disk.
    """

    def __init__(self, directory: Path, reserve: Reserve, reusable: Callable[[], int]) -> None:
        self._directory = directory
        self._reserve = reserve
        self._reusable = reusable
        self._looked_at = float("-inf")
        self._capacity = self._free = 0
        self._left = 0
        self._left_inside = 0
        self._unusable = _SPARE
        self._files = 0

    def take_blob(self, size: int | None) -> None:
        """Count a blob that is about to be stored, or raise NoSpace.

        :param size: of its body, in bytes; where it is not known :meth:`take` counts what comes
            behind the first :data:`~sos.interfaces.SMALL_BODY`.
        """
        if size is not None and size > SMALL_BODY:
            self.take(size + _RECORD)
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
        """Count *size* bytes that are about to be written to a file, or raise NoSpace."""
        if not self._is_fresh or self._left < size:
            self._look()
        if self._left < size:
            raise self._refusal(size)
        self._left -= size

    def correct(self) -> None:
        """Take back that there was room: what is free in the index is in pieces too small."""
        self._unusable = max(self._unusable, self._reusable())

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() - self._looked_at <= _FRESH

    def _refusal(self, size: int) -> NoSpace:
        return NoSpace(
            f"{self._directory} has no room for {size} bytes beside its reserve of {self._reserve}"
        )

    @property
    def full(self) -> bool:
        """Whether nothing fits any more, by the last look, as :meth:`disk` takes one."""
        return self._left + self._left_inside <= _RECORD

    def disk(self) -> tuple[int, int]:
        """Return the size of the disk, and what is free of it and in the index, in bytes."""
        self._look()
        return self._capacity, self._free

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
        # Some file systems make inodes as they are needed, and tell of none.
        self._files = found.f_favail - _LAST_FILES if found.f_files else 1 << 62
        self._looked_at = time.monotonic()
