"""Give the free space in an index's file back to the disk (``sos compact``).

LMDB reuses the pages that dropped blobs leave, but its file never shrinks.  So a copy without
free pages replaces it, in one rename: after a crash the store has either of the two.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
from attrs import frozen

from sos.errors import SOSError, StoreUnusable
from sos.stores.disk_errors import SyncFailed
from sos.stores.local.disk import BACKUP_MARKER, Layout
from sos.stores.local.index import Index
from sos.stores.local.opening import open_index
from sos.stores.local.progress import HighWaterMark, Progress


@frozen
class Report:
    """The result.

    :param before: bytes of the index's file before.
    :param after: bytes of it now.
    :param blobs: number of blobs in the store.
    """

    before: int
    after: int
    blobs: int

    def __str__(self) -> str:
        return f"{self.blobs} blobs; the index has {self.after} bytes, {self.before} before"


def compact(root: Path) -> Report:
    """Compact the index of the store in *root*, which no daemon may have open.

    It needs as much free space on the disk as the index has without its free pages.

    :raises StoreUnusable: if it fails; the store stays as it was.
    """
    layout = Layout(root, durable=True)
    lock = layout.lock(may_create=False)
    try:
        if layout.readonly:
            raise StoreUnusable(f"{root} is mounted read-only")
        if (root / BACKUP_MARKER).exists():
            raise StoreUnusable(
                f"{root} is a backup, whose index is made anew by sos backup; if a daemon uses it "
                f"as its store now, remove {BACKUP_MARKER} first"
            )
        with layout.locked_index(fcntl.LOCK_EX):
            return _compact(layout, lock)
    except (OSError, SyncFailed, SOSError, lmdb.Error) as error:
        raise StoreUnusable(f"cannot compact the index of {root}: {error}") from error
    finally:
        os.close(lock)


def _compact(layout: Layout, lock: int) -> Report:
    index = open_index(layout, lock)
    data = (layout.index / "data.mdb").resolve()  # it may be a link to another disk
    with _emptied(layout.compacting) as place:
        try:
            before, digests, rows = index.reached.size, index.digests(), index.rows()
            index.copy(place)
        finally:
            index.close()
        copy = Index(place, durable=True)
        try:
            reached = copy.reached
            if (copy.identity, copy.digests(), copy.rows()) != (layout.identity(), digests, rows):
                raise StoreUnusable("the copy differs from the index; see sos check")
        finally:
            copy.close()
        _replace(layout, lock, place / "data.mdb", data, reached)
    return Report(before, reached.size, sum(each.count for each in digests.values()))


@contextmanager
def _emptied(place: Path) -> Iterator[Path]:
    """Make the directory *place*, which may be there already, and remove it at the end."""
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir()
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _replace(layout: Layout, lock: int, new: Path, data: Path, reached: HighWaterMark) -> None:
    """Replace the index's file *data* by *new*, which has *reached* so far."""
    with (layout.index / "lock.mdb").open("rb+") as readers:
        # If another process had this file open, LMDB would take what is in it, which is of the
        # old index, for the state of the new one.
        try:
            fcntl.lockf(readers, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except OSError:
            raise StoreUnusable("another process reads the index; try again after it") from None
        before = data.stat()
        with new.open("rb+") as file:
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            layout.sync_file(file.fileno())
        os.truncate(lock, 0)  # removes the progress note: the copy counts transactions anew
        layout.sync_file(lock)
        os.replace(new, data)
        layout.sync_directory(data.parent)
        Progress(lock, (), durable=True).note(reached)
