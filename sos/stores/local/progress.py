"""How far the index has come, known outside of it as well.

After each transaction its number, and the size of the index's file, are written to the
file ``lock``, which the store has open anyway.  They are not synced: after a power cut they
may be from before, which only lets less be noticed.  What is in the index was durable before.
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
class Reached:
    """How far an index has come.

    :ivar transaction: the number of its last transaction.
    :ivar size: bytes of its file, which never becomes smaller.
    """

    transaction: int
    size: int


class Progress:
    """Records how far an index has come, and notices when its files are replaced.

    :param lock: the open file ``lock``.
    :param files: the paths of ``lock`` and of the index's file, to notice other files there.
    :param durable: False notes nothing, for a power cut may take the index back.
    """

    def __init__(self, lock: int, files: Iterable[Path], durable: bool) -> None:
        self._lock = lock
        self._durable = durable
        self._files = {path: _inode(path) for path in files}

    def check_in_place(self) -> None:
        """Raise SyncFailed when the files at the place of the store are others, or none.

        What has just been written is in files then that nobody will find.
        """
        for path, inode in self._files.items():
            if _inode(path) != inode:
                raise SyncFailed(f"{path} was removed or replaced while it was in use")

    def note(self, reached: Reached) -> None:
        """Note what the index has *reached*, durably."""
        if self._durable:
            # An upload does not fail for want of the note: an older one only notices less.
            with suppress(OSError):
                os.pwrite(self._lock, _LINE % (reached.transaction, reached.size), 0)


def noted(lock: int) -> Reached | None:
    """Return what was noted last in the open file *lock*, None if nothing was."""
    line = os.pread(lock, 100, 0)
    try:
        transaction, size = map(int, line.split())
    except ValueError:
        return None
    return Reached(transaction, size)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
