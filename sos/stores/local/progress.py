"""A note outside the index of how far it is, to detect an index that was replaced.

After each transaction, its number and the size of the index's file are written to the file
``lock``, which the store has open anyway.  The note is not synced: after a power cut it may
be outdated, and then detects less.  The transaction itself is durable before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from sos.stores.disk_errors import SyncFailed

_LINE = b"%020d %020d\n"


@frozen
class HighWaterMark:
    """How far an index is.

    :ivar transaction: the number of its last transaction.
    :ivar size: bytes of its file, which never shrinks.
    """

    transaction: int
    size: int


class Progress:
    """Writes the note of how far an index is, and detects that its files were replaced.

    :param lock: the open file ``lock``.
    :param files: the paths of ``lock`` and of the index's file, to detect other files there.
    :param durable: False writes no note, because a power cut can set the index back.
    """

    def __init__(self, lock: int, files: Iterable[Path], durable: bool) -> None:
        self._lock = lock
        self._durable = durable
        self._files = {path: _inode(path) for path in files}

    def check_in_place(self) -> None:
        """Raise SyncFailed if the store's files were removed or replaced.

        The last writes are then in files that nobody will find.
        """
        for path, inode in self._files.items():
            if _inode(path) != inode:
                raise SyncFailed(f"{path} was removed or replaced while it was in use")

    def note(self, reached: HighWaterMark) -> None:
        """Write how far the index is, without syncing it."""
        if self._durable:
            # No upload fails for lack of the note: an older one only detects less.
            with suppress(OSError):
                os.pwrite(self._lock, _LINE % (reached.transaction, reached.size), 0)


def noted(lock: int) -> HighWaterMark | None:
    """Return the note in the open file *lock*, None if there is none."""
    line = os.pread(lock, 100, 0)
    try:
        transaction, size = map(int, line.split())
    except ValueError:
        return None
    return HighWaterMark(transaction, size)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
