"""Open the index of a store, or create a new store in an empty directory.

LMDB opens an index that was emptied or truncated, that belongs to another store, or that was
restored from an older copy like any other, and a lost one as a new one.  Such an index reports
blobs as absent that the store holds, and replication would drop or make copies because of it.
So this module detects them.
"""

from __future__ import annotations

import shutil
from uuid import uuid4

import lmdb
from twisted.logger import Logger

from sos.errors import NoSpace, StoreUnusable, Unavailable
from sos.stores.disk_errors import SyncFailed, is_of_system
from sos.stores.local.disk import Layout
from sos.stores.local.index import Index
from sos.stores.local.progress import Progress, noted

_log = Logger()


def open_index(layout: Layout, lock: int) -> Index:
    """Open the index of the store in *layout*, or create a new store.

    :param lock: the descriptor that :meth:`Layout.lock` returned.
    :raises StoreUnusable: if the index is not the store's own, or cannot be opened; says what
        to do.
    """
    try:
        if layout.is_store:
            return _open_known(layout, lock, layout.identity())
        return _create(layout, lock)
    except (OSError, SyncFailed, NoSpace) as error:
        raise layout.unusable(error) from error
    except lmdb.Error as error:
        if is_of_system(error):
            raise StoreUnusable(f"the index {layout.index} cannot be opened: {error}") from error
        raise _lost(layout, f"cannot be opened: {error}") from error
    except Unavailable as error:
        if layout.readonly:
            raise StoreUnusable(f"the index {layout.index} cannot be opened: {error}") from error
        raise _lost(layout, f"cannot be opened: {error}") from error


def _create(layout: Layout, lock: int) -> Index:
    id = str(uuid4())
    layout.begin_new(id)
    index = _open(layout, lock)
    try:
        index.identify(id)
        layout.sync_directory(layout.index)  # for the file that LMDB has created there
        layout.write_marker(id)  # last: a store with a marker is complete
    except BaseException:
        index.close()
        raise
    _log.info("created a new store in {store}, id={id}", store=layout.root, id=id)
    return index


def _open_known(layout: Layout, lock: int, id: str | None) -> Index:
    data = layout.index / "data.mdb"
    layout.check_index()
    if not data.exists():
        raise _lost(layout, "is missing")
    reached = noted(lock)
    size = data.stat().st_size
    if size == 0:
        raise _lost(layout, "is empty")
    if reached is not None and size < reached.size:
        raise _lost(layout, f"has {size} bytes, but had {reached.size} before")
    if not layout.readonly:
        layout.make_missing_directories()
        shutil.rmtree(layout.compacting, ignore_errors=True)  # of a compaction that was killed
    index = _open(layout, lock)
    try:
        if id is None:
            if not layout.readonly:
                _adopt(layout, index)
        elif index.identity is None:
            raise _lost(layout, "is new: it belongs to no store")
        elif index.identity != id:
            raise _lost(layout, f"belongs to another store, {index.identity}")
        if reached is not None and index.reached.transaction < reached.transaction:
            raise _lost(
                layout,
                f"is an older copy: its last transaction is {index.reached.transaction}, the "
                f"store's is {reached.transaction}",
            )
    except BaseException:
        index.close()
        raise
    return index


def _open(layout: Layout, lock: int) -> Index:
    index = Index(layout.index, layout.durable, readonly=layout.readonly)
    if not layout.readonly:
        files = (layout.root / "lock", layout.index / "data.mdb")
        index.progress = Progress(lock, files, layout.durable)
    return index


def _adopt(layout: Layout, index: Index) -> None:
    """Give an id to a store of an older version, which has none."""
    id = index.identity or str(uuid4())
    index.identify(id)
    layout.write_marker(id)
    _log.info("gave an id to the store {store}, id={id}", store=layout.root, id=id)


def _lost(layout: Layout, what: str) -> StoreUnusable:
    return StoreUnusable(
        f"the index {layout.index} {what}; run sos rebuild --store {layout.root}, restore a backup "
        "of the whole store, or move the store away and let replication fill a new one"
    )
