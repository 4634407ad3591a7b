"""Give the free space in an index's file back to the disk (``sos compact``).

LMDB reuses the pages that dropped blobs leave, but its file never shrinks.  So a copy without
free pages replaces it, in one rename: after a crash the store has either of the two.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lmdb
from attrs import frozen

from sos.errors import SOSError, StoreUnusable
from sos.stores.disk_errors import SyncFailed
from sos.stores.local.disk import Layout
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
        index = open_index(layout, lock)
        try:
            return _compact(layout, lock, index)
        finally:
            shutil.rmtree(layout.making, ignore_errors=True)
    except (OSError, SyncFailed, SOSError, lmdb.Error) as error:
        raise StoreUnusable(f"cannot compact the index of {root}: {error}") from error
    finally:
        os.close(lock)


def _compact(layout: Layout, lock: int, index: Index) -> Report:
    try:
        before = index.reached.size
        digests, rows = index.digests(), index.rows()
        if layout.making.exists():  # of a rebuild that was interrupted
            shutil.rmtree(layout.making)
        layout.making.mkdir()
        index.copy(layout.making)
    finally:
        index.close()
    copy = Index(layout.making, durable=True)
    try:
        reached = copy.reached
        if (copy.identity, copy.digests(), copy.rows()) != (layout.identity(), digests, rows):
            raise StoreUnusable("the copy differs from the index; see sos check")
    finally:
        copy.close()
    _replace(layout, lock, reached)
    return Report(before, reached.size, sum(each.count for each in digests.values()))


def _replace(layout: Layout, lock: int, reached: HighWaterMark) -> None:
    new = layout.making / "data.mdb"
    with new.open("rb") as data:
        layout.sync_file(data.fileno())
    os.truncate(lock, 0)  # removes the progress note: the copy counts transactions anew
    layout.sync_file(lock)
    os.replace(new, layout.index / "data.mdb")
    layout.sync_directory(layout.index)
    Progress(lock, (), durable=True).note(reached)
