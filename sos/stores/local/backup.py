"""Back up a store in use to another directory: consistent, and incremental (``sos backup``).

LMDB copies the index as one transaction left it.  Then the bodies in the copy that the backup
lacks are linked, cloned or copied beside its files.  Then the copy replaces the backup's index,
and bodies without a record in it are removed.  So at any time the directory is the earlier
backup or the new one.  The exceptions are the first backup, and one in which a body replaces
another of the same id: while those are incomplete there is no ``store.json``, and nothing opens
the directory as a store.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import lmdb
from attrs import define, evolve, field, frozen

from sos.errors import SOSError, StoreUnusable
from sos.files.regular import open_regular, read_regular
from sos.model.digest import BodyDigest
from sos.stores import record as records
from sos.stores import rows
from sos.stores.block_hashes import BLOCK, BlockHashes
from sos.stores.disk_errors import SyncFailed
from sos.stores.local.body_file import Unreadable, open_body, reading, write_trailer
from sos.stores.local.check import examine_index
from sos.stores.local.disk import BACKUP_MARKER, MARKER, STAGING, Layout, open_lock
from sos.stores.local.index import MAP_SIZE, Index
from sos.stores.local.progress import HighWaterMark, Progress
from sos.stores.local.reading import verify_body, verify_file
from sos.stores.local.transaction import find
from sos.stores.received import write_at
from sos.stores.record import Damaged, Encoded, Record
from sos.stores.rows import Extent

# Number of records whose bodies are brought before one transaction amends the records.
_PAGE = 1000
# From <linux/fs.h>: share the blocks of another file, copy-on-write.
_FICLONE = 0x40049409


@frozen
class LeftOut:
    """A blob that the store has and the backup lacks; says why."""

    id: str
    reason: str


@define
class Report:
    """The result of a backup.

    :param blobs: number of blobs in the backup, with *bytes* in their bodies.
    :param linked: number of bodies that are hard links to the store's files.
    :param cloned: number of bodies that share their disk blocks with the store's files.
    :param copied: number of bodies copied and verified, of *copied_bytes* bytes.
    :param kept: number of bodies that the backup had already.
    :param removed: number of files removed, because the store no longer has those bodies.
    :param left_out: blobs whose records or bodies are damaged, or whose bodies are missing
        or unreadable.
    """

    blobs: int = 0
    bytes: int = 0
    linked: int = 0
    cloned: int = 0
    copied: int = 0
    copied_bytes: int = 0
    kept: int = 0
    removed: int = 0
    left_out: list[LeftOut] = field(factory=list)

    @property
    def ok(self) -> bool:
        """Whether the backup has all blobs of the store."""
        return not self.left_out

    def __str__(self) -> str:
        return (
            f"{self.blobs} blobs, {self.bytes} bytes; body files: {self.linked} linked, "
            f"{self.cloned} cloned, {self.copied} copied ({self.copied_bytes} bytes), {self.kept} "
            f"kept, {self.removed} removed; {len(self.left_out)} blobs left out"
        )


class _Gone(Exception):
    """The file of a body is missing."""


def backup(
    root: Path,
    target: Path,
    warn: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, all: None,
    now: Callable[[], float] = time.time,
) -> Report:
    """Make *target* a copy of the store in *root*, which a daemon may have open.

    The backup is on stable storage on return.

    :param target: a new or empty directory, or an earlier backup of the same store.
    :param warn: called with one line for each blob that is left out.
    :param progress: called with the number of body files handled, and of all body files.
    :param now: returns the time in seconds since the epoch.
    :raises StoreUnusable: if the backup fails; the earlier one stays, or is marked as
        unfinished.
    """
    source = Layout(root, durable=True)
    layout = Layout(target, durable=True)
    try:
        id = _identity(source)
        _check_apart(root, target)
        _make(layout)
        with _locked(layout) as lock:
            mark = _Mark(layout, id)
            mark.check()
            with source.locked_index(fcntl.LOCK_SH), _opened(source) as live:
                work = _Backup(source, layout, live, mark, lock, warn, progress)
                work.run(now())
            return work.report
    except StoreUnusable:
        raise
    except (OSError, SyncFailed, SOSError, lmdb.Error) as error:
        raise StoreUnusable(f"cannot back up {root} to {target}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _identity(source: Layout) -> str:
    source.refuse_unfinished_backup()
    if not source.is_store:
        raise StoreUnusable(
            f"{source.root} is not a store: it has no {MARKER}; is its disk mounted?"
        )
    id = source.identity()
    if id is None:
        raise StoreUnusable(
            f"{source.root} has no store id: an earlier version of SOS created it; start its "
            "daemon once, which adds the id"
        )
    return id


def _check_apart(root: Path, target: Path) -> None:
    one, other = root.resolve(), target.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise StoreUnusable(
            f"{target} and {root} are the same directory, or one contains the other; choose "
            "another directory"
        )


def _make(layout: Layout) -> None:
    if not layout.root.exists():
        layout.make()
    names = set(os.listdir(layout.root)) - {"lost+found"}
    for name in sorted(names):
        if (layout.root / name).is_symlink():  # a backup writes and removes files below
            raise StoreUnusable(
                f"{layout.root / name} is a symbolic link, which no backup contains; remove it"
            )
    if BACKUP_MARKER not in names and not names <= {"lock", f"{BACKUP_MARKER}.new"}:
        raise StoreUnusable(
            f"{layout.root} is neither a backup nor empty: it contains {min(names)}; choose a new "
            "directory"
        )


@contextmanager
def _locked(layout: Layout) -> Iterator[int]:
    lock = layout.take_lock()
    try:
        yield lock
    finally:
        os.close(lock)


@contextmanager
def _opened(source: Layout) -> Iterator[_Live]:
    """Open the index of the store for reading, while the daemon may be using it."""
    descriptor = None
    if (source.root / "lock").exists():
        descriptor = open_lock(source.root, os.O_RDONLY)
    try:
        extent, reasons = examine_index(source, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)
    if reasons or extent is None:
        raise StoreUnusable(
            f"the index of {source.root} cannot be used: {'; '.join(reasons)}; "
            "repair it with sos rebuild"
        )
    environment = lmdb.open(
        str(source.index),
        readonly=True,
        create=False,
        mode=0o640,
        max_dbs=rows.MOST_DATABASES,
        map_size=MAP_SIZE,
    )
    try:
        # Clear the reader slot of a backup that was killed: it keeps LMDB from reusing pages.
        environment.reader_check()
        yield _Live(environment)
    finally:
        environment.close()


class _Live:
    """The index of the store in its current state, newer than the copy."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self.environment = environment
        self._records = environment.open_db(b"records", create=False)
        self._bodies = environment.open_db(b"bodies", create=False)

    def get(self, id: str) -> Encoded | None:
        with self.environment.begin(self._records) as transaction:
            return find(transaction, self._bodies, id)


class _Mark:
    """The file ``backup.json``, which names the store that a directory is a backup of.

    It also lists the transactions with which the backup's index can end.  If the index ends
    with another one, a daemon has used the backup as a store.
    """

    def __init__(self, layout: Layout, id: str) -> None:
        self._layout = layout
        self._path = layout.root / BACKUP_MARKER
        self.of = id
        self._ends: list[int] = []

    def check(self) -> None:
        """Raise StoreUnusable if the directory may not become a backup of the store."""
        try:
            found = json.loads(read_regular(self._path))
            of, self._ends = found["of"], [int(each) for each in found["ends"]]
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise StoreUnusable(f"{self._path} is damaged; choose a new directory") from error
        if of != self.of:
            raise StoreUnusable(
                f"{self._layout.root} is a backup of another store, {of}; choose a new directory"
            )
        if not self._layout.is_store:
            return
        extent = rows.extent(self._layout.index)
        if isinstance(extent, Extent) and extent.transaction not in self._ends:
            raise StoreUnusable(
                f"{self._layout.root} was a backup, but a daemon has written to it since; choose a "
                "new directory"
            )

    def begin(self, reached: HighWaterMark) -> None:
        """Record that an index at *reached* is about to become the backup's."""
        self._ends.append(reached.transaction)
        self.write()

    def finish(self, reached: HighWaterMark, finished_at: float) -> None:
        self._ends = [reached.transaction]
        self.write(finished_at)

    def write(self, finished_at: float | None = None) -> None:
        note = {"of": self.of, "ends": self._ends, "finished_at": finished_at}
        self._layout.replace_file(self._path, json.dumps(note).encode())


class _Backup:
    def __init__(
        self,
        source: Layout,
        layout: Layout,
        live: _Live,
        mark: _Mark,
        lock: int,
        warn: Callable[[str], None],
        progress: Callable[[int, int], None],
    ) -> None:
        self.report = Report()
        self._source = source
        self._layout = layout
        self._live = live
        self._mark = mark
        self._lock = lock
        self._warn = warn
        self._progress = progress
        self._staging = layout.root / STAGING
        self._bringing = self._staging / "body"
        # Ids of the bodies that the backup keeps in files.
        self._files: set[str] = set()
        # Bodies that will replace files which the earlier backup needs until the switch.
        self._successors: dict[str, Path] = {}
        self._changed: set[Path] = set()

    def run(self, now: float) -> None:
        layout = self._layout
        if self._staging.exists():
            shutil.rmtree(self._staging)
        if not layout.is_store:
            self._mark.write()  # first, so that nothing mistakes it for a store
        for directory in (layout.bodies, layout.incoming, layout.quarantine, layout.index):
            directory.mkdir(exist_ok=True)
        copy = self._staging / "index"
        copy.mkdir(parents=True)
        self._live.environment.copy(str(copy))
        index = Index(copy, durable=True)
        try:
            if index.identity != self._mark.of:
                raise StoreUnusable(f"the index of {self._source.root} belongs to another store")
            self._bring_all(index)
            digests = index.digests().values()
            self.report.blobs = sum(digest.count for digest in digests)
            self.report.bytes = sum(digest.bytes for digest in digests)
            reached = index.reached
        finally:
            index.close()
        self._switch(copy, reached)
        self._mark.finish(reached, now)
        self._remove_others()

    def _bring_all(self, index: Index) -> None:
        ids = list(_in_files(index))
        for start in range(0, len(ids), _PAGE):
            amended: dict[str, Record | None] = {}
            for done, id in enumerate(ids[start : start + _PAGE], start):
                encoded = index.get(id)
                assert encoded is not None
                record = self._brought(id, encoded)
                if record is None or records.encode(record) != encoded:
                    amended[id] = record
                if record is not None and record.body is None:
                    self._files.add(id)
                self._progress(done + 1, len(ids))
            if amended:
                with index.begin() as transaction:
                    for id, record in amended.items():
                        transaction.remove(id)
                        if record is not None:
                            transaction.add(record)
        for directory in self._changed:
            self._layout.sync_directory(directory)

    def _brought(self, id: str, encoded: Encoded) -> Record | None:
        """Bring the body of *id*, and return its record for the backup; None to leave it out."""
        while True:
            try:
                record = records.decode(id, encoded)
                if record.body is None:
                    self._bring(record)
                return record
            except (_Gone, Damaged, Unreadable) as error:
                current = self._live.get(id)
                if current is None:  # it has been dropped or quarantined meanwhile
                    return None
                if current == encoded:
                    self.report.left_out.append(LeftOut(id, str(error)))
                    self._warn(f"{id} is left out of the backup: {error}")
                    return None
                encoded = current  # it has been replaced, as an object replaces its manifest

    def _bring(self, record: Record) -> None:
        path, target = self._source.body(record.id), self._layout.body(record.id)
        if _holds(target, record, path):
            self.report.kept += 1
            return
        self._bringing.unlink(missing_ok=True)
        self._obtain(path, record)
        if target.exists():
            successor = self._staging / "successors" / record.id
            successor.parent.mkdir(exist_ok=True)
            self._bringing.rename(successor)
            self._successors[record.id] = successor
        else:
            self._layout.make_directories(target.parent)
            self._bringing.rename(target)
            self._changed.add(target.parent)

    def _obtain(self, path: Path, record: Record) -> None:
        """Link, clone or copy the body of *record* from the file *path*, durably."""
        for way, obtain in (("linked", os.link), ("cloned", _clone)):
            try:
                obtain(path, self._bringing)
            except FileNotFoundError:
                raise _Gone("its file is missing") from None
            except OSError:
                self._bringing.unlink(missing_ok=True)
                continue  # the next way may work, on another file system or for another owner
            file, blocks = open_body(self._bringing, record)
            with file:
                if blocks is None:
                    verify_file(file, record)
                self._layout.sync_file(file.fileno())
            setattr(self.report, way, getattr(self.report, way) + 1)
            return
        file, _ = open_body(path, record)
        with file, self._bringing.open("xb", buffering=0) as copy:
            _copy(file, copy, record)
            self._layout.sync_file(copy.fileno())
        self.report.copied += 1
        self.report.copied_bytes += record.size

    def _switch(self, copy: Path, reached: HighWaterMark) -> None:
        """Put the new bodies and the new index in place."""
        layout = self._layout
        self._mark.begin(reached)
        finished = layout.is_store and not self._successors
        if layout.is_store and not finished:
            (layout.root / MARKER).unlink()
            layout.sync_directory(layout.root)
        os.truncate(self._lock, 0)  # removes the progress note of the earlier index
        layout.sync_file(self._lock)
        for id, successor in self._successors.items():
            target = layout.body(id)
            os.replace(successor, target)
            layout.sync_directory(target.parent)
        with (copy / "data.mdb").open("rb") as data:
            layout.sync_file(data.fileno())
        os.replace(copy / "data.mdb", layout.index / "data.mdb")
        layout.sync_directory(layout.index)
        if not finished:
            layout.write_marker(self._mark.of)
        Progress(self._lock, (), durable=True).note(reached)

    def _remove_others(self) -> None:
        # Keep bodies of blobs that were left out: the earlier backup may have sound ones.
        spared = {each.id for each in self.report.left_out}
        for path in list(self._layout.files()):
            if path.name in self._files and self._layout.body(path.name) == path:
                continue
            if path.name not in spared:
                path.unlink()
                self.report.removed += 1
        shutil.rmtree(self._staging)
        self._layout.sync_directory(self._layout.root)


def _in_files(index: Index) -> Iterator[str]:
    """Yield the ids whose bodies are files."""
    after = None
    while places := index.places(after, _PAGE):
        for id, number in places.items():
            after = id
            if not number:
                yield id


def _holds(target: Path, record: Record, path: Path) -> bool:
    """Return whether the file *target* already is the body of *record*, like *path*."""
    try:
        file, blocks = open_body(target, record)
    except (Damaged, Unreadable):
        return False
    with file:
        if blocks is not None:
            return True
        # A body file is never written to again, except for its trailer.
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return True
    try:
        verify_body(target, record)
    except (Damaged, Unreadable):
        return False
    return True


def _clone(path: Path, target: Path) -> None:
    with open_regular(path) as source, target.open("xb", buffering=0) as clone:
        fcntl.ioctl(clone.fileno(), _FICLONE, source.fileno())


def _copy(file: BinaryIO, copy: Any, record: Record) -> None:
    """Copy and verify the body of *record*, and write its trailer.

    Raises Damaged if the body does not match *record*, Unreadable if the disk does not return it.
    """
    digest, hashes = BodyDigest(record.id), BlockHashes()
    while digest.size < record.size:
        with reading():
            piece = os.pread(file.fileno(), min(BLOCK, record.size - digest.size), digest.size)
        if not piece:
            raise Unreadable("the file was truncated while it was read")
        write_at(copy, piece, digest.size)
        digest.update(piece)
        hashes.update(piece)
    if digest.value() != record.hash:
        raise Damaged("the body does not match its hash")
    write_trailer(copy, evolve(record, readable=True), hashes.value())
