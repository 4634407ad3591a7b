"""Build a new index from the old one and from the trailers of body files (``sos rebuild``).

It takes over a blob only if a record and a hash prove its body.  It deletes no data: it builds
the new index in ``index.making/`` and renames it to ``index.new/``; then it renames the old one
to ``index.old-TIME/``, and the new one to ``index/``; last, it moves files away that are no
bodies of the store.  After a crash, the next rebuild resumes: before the two renames the store
is as it was, after them it has its new index.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from attrs import define, evolve, field, frozen

from sos.errors import InvalidId, SOSError, StoreUnusable
from sos.files.regular import NotRegular, open_regular
from sos.model import digest, ids
from sos.model.manifest import MARK
from sos.stores import record as records
from sos.stores import rows
from sos.stores.disk_errors import SyncFailed, disk_errors
from sos.stores.local.body_file import Unreadable, open_body, read_trailer, reading
from sos.stores.local.check import examine_index, id_of, identity, sound
from sos.stores.local.disk import MARKER, Layout, is_uuid
from sos.stores.local.index import Index
from sos.stores.local.progress import HighWaterMark, Progress
from sos.stores.local.reading import verify_file
from sos.stores.local.transaction import split_row
from sos.stores.record import Damaged, Encoded, Record
from sos.stores.rows import Fault, Row

# Most records, and bytes of inline bodies, in one transaction of the new index.
_MOST_RECORDS = 1000
_MOST_BYTES = 16 << 20
# Filler for missing pages, which LMDB does not mistake for a page.
_NO_PAGES = b"\xff" * (1 << 20)
# Characters of a file's name that quarantine keeps: as many as an id can have.
_MOST_NAME = 128


@frozen
class Lost:
    """A blob that the store once had, or a file, that is unusable; says why.

    :param of: its id, or a path below the store's directory.
    """

    of: str
    reason: str

    def __str__(self) -> str:
        return f"{self.of}: {self.reason}"


@define
class Report:
    """The result of a rebuild.

    :param kept: number of blobs with a sound record in the old index.
    :param from_files: number of blobs that the trailers of their files describe.
    :param bytes: bytes of the readable bodies of both.
    :param lost: blobs of the old index without a sound body.
    :param unreadable: blobs whose body the disk does not return.  Those with a record in the
        old index are in the new one, marked as unreadable.
    :param without_metadata: ids of sound bodies, now in ``recovered/``, without a record.
    :param quarantined: files that cannot be used, now in ``quarantine/``.
    :param faults: parts of the old index that cannot be read; they may have held more blobs.
    :param old_index: the name of the old index now.
    """

    kept: int = 0
    from_files: int = 0
    bytes: int = 0
    lost: list[Lost] = field(factory=list)
    unreadable: list[Lost] = field(factory=list)
    without_metadata: list[str] = field(factory=list)
    quarantined: list[Lost] = field(factory=list)
    faults: list[str] = field(factory=list)
    old_index: str | None = None

    @property
    def ok(self) -> bool:
        """Whether, as far as the rebuild can know, nothing was lost."""
        return not (self.lost or self.unreadable or self.without_metadata or self.faults)

    def __str__(self) -> str:
        text = (
            f"{self.kept} blobs from the old index, {self.from_files} from files, "
            f"{self.bytes} bytes: {len(self.lost)} lost, {len(self.unreadable)} unreadable, "
            f"{len(self.without_metadata)} without metadata"
        )
        if self.faults:
            text += "; more may be lost: parts of the old index could not be read"
        return text


def rebuild(
    root: Path,
    warn: Callable[[str], None] = lambda text: None,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Build a new index for the store in *root*, which no daemon may have open.

    :param warn: called with one line for each problem.
    :param progress: called after each blob.
    :raises StoreUnusable: if the directory is in use, is no store or has another format; if
        the disk is full, and the store stays as it was.
    """
    layout = Layout(root, durable=True)
    if not (layout.is_store or layout.index.exists() or any(layout.files())):
        raise StoreUnusable(f"{root} is not a store: it has no {MARKER}; is its disk mounted?")
    layout.refuse_unfinished_backup()
    lock = layout.take_lock()
    try:
        work = _Rebuild(layout, lock, warn, progress)
        work.run()
        return work.report
    except StoreUnusable:
        raise
    except (OSError, SyncFailed, SOSError) as error:
        raise layout.unusable(error) from error
    finally:
        os.close(lock)


class _Rebuild:
    def __init__(
        self,
        layout: Layout,
        lock: int,
        warn: Callable[[str], None],
        progress: Callable[[Report], None],
    ) -> None:
        self.report = Report()
        self._layout = layout
        self._lock = lock
        self._warn = warn
        self._progress = progress
        self._making = layout.root / "index.making"
        self._new = layout.root / "index.new"
        self._padded = layout.root / "index.padded"
        self._pending: dict[str, Record] = {}
        self._pending_bytes = 0
        self._algorithms: Counter[str | None] = Counter()
        self._lost: dict[str, str] = {}
        # Files to move away, with the reason; None for a second name of a body's file.
        self._to_move_away: dict[Path, str | None] = {}
        # Bodies whose content matches their id, but that have no metadata.
        self._bare: list[Path] = []

    def run(self) -> None:
        self._go_on()
        marked = self._marked()
        old = self._readable_index()
        owner = None if old is None else self._owner(old)
        if owner is not None and marked not in (None, owner):
            self._fault(f"ignoring the index: it belongs to another store, {owner}")
            old = None
        id = marked or (owner if owner is not None and is_uuid(owner) else str(uuid4()))
        try:
            reached = self._make(id, old)
        except BaseException:
            shutil.rmtree(self._making)  # it may have filled the disk
            raise
        self._swap()
        if marked is None:
            self._layout.write_marker(id)
        progress = Progress(self._lock, (), durable=True)
        progress.note(reached)
        self._move_away()
        for directory in (self._layout.incoming, self._layout.bodies):
            self._make_directory(directory)
        self._layout.sync_directory(self._layout.root)
        self._report_lost()

    def _make(self, id: str, old: Path | None) -> HighWaterMark:
        """Build the new index, and return how far it is."""
        self._index = Index(self._make_directory(self._making), durable=True)
        try:
            self._index.identify(id)
            if old is not None:
                self._take_records(old)
            self._take_files()
            self._store_pending()
            return self._index.reached
        finally:
            self._index.close()

    def _go_on(self) -> None:
        """Finish a rebuild that was interrupted between its renames; remove any other's files."""
        if self._new.exists() and not self._layout.index.exists():
            self._place_new()
        for directory in (self._making, self._new, self._padded):
            if directory.exists():
                shutil.rmtree(directory)

    def _marked(self) -> str | None:
        """Return the id in the store's marker, None if it has none or is damaged.

        Raises StoreUnusable if the marker has an unknown version.
        """
        try:
            return self._layout.identity() if self._layout.is_store else None
        except StoreUnusable:
            try:
                marker = json.loads(self._layout.marker())
            except (ValueError, RecursionError):
                return None
            if isinstance(marker, dict) and marker.get("version") not in (None, 1):
                raise
            return None

    def _fault(self, text: str) -> None:
        self.report.faults.append(text)
        self._warn(text)

    def _readable_index(self) -> Path | None:
        """Return the old index; a copy padded to its recorded size if cut short; None for none."""
        extent, reasons = examine_index(self._layout, self._lock)
        for reason in reasons:
            self._fault(f"the index: {reason}")
        if extent is None:
            return None
        data = self._layout.index / "data.mdb"
        if extent.size <= data.stat().st_size:
            return self._layout.index
        # Reading past the end of the file would kill the reader process at each row.
        copy = self._make_directory(self._padded) / "data.mdb"
        shutil.copyfile(data, copy)
        with copy.open("ab") as file:
            while (missing := extent.size - file.tell()) > 0:
                file.write(_NO_PAGES[:missing])
        return self._padded

    def _owner(self, old: Path) -> str | None:
        found = identity(old)
        if isinstance(found, Fault):
            self._fault(f"the store id in the index cannot be read: {found.reason}")
            return None
        return found

    def _make_directory(self, directory: Path) -> Path:
        directory.mkdir(exist_ok=True)
        return directory

    def _take_records(self, old: Path) -> None:
        numbers: set[bytes] = set()
        for row in rows.walk(old, "records", bodies=True):
            if isinstance(row, Fault):
                self._fault(f"some records in the index cannot be read: {row.reason}")
            else:
                self._take_record(row, numbers)
        self._store_pending()
        for row in rows.walk(old, "bodies"):
            if isinstance(row, Fault):
                self._fault(f"some inline bodies in the index cannot be read: {row.reason}")
            elif row.key not in numbers:
                self._recover(row.value)

    def _take_record(self, row: Row, numbers: set[bytes]) -> None:
        """Take over the record in *row*, and add the key of its inline body to *numbers*."""
        id = id_of(row.key)
        number, head = split_row(row.value)
        try:
            records.weigh(ids.check(id), head)
            numbers.add(number)
            record = sound(id, Encoded(head, row.body))
            if record.body is None:
                record = self._proven(self._layout.body(id), id, record)
        except (Damaged, InvalidId) as error:
            self._lost[id] = str(error)
            return
        except Unreadable as error:
            if not self._layout.body(id).exists():
                self._lost[id] = str(error)
                return
            self._note_unreadable(id, error)
            self._take(evolve(record, readable=False))
            return
        self.report.kept += 1
        self._take(evolve(record, readable=True))

    def _proven(self, path: Path, id: str, known: Record | None) -> Record:
        """Verify the whole body in the file *path*, and return the record that it matches.

        :param known: the record of *id* in the old index; the trailer of the file is the
            other candidate.
        :raises Damaged: if the body matches neither.
        :raises Unreadable: if the disk does not return it.
        """
        with reading(), open_regular(path) as file:
            found = read_trailer(file)
        written = _checked(found[0]) if found is not None and found[0].id == id else None
        failure: Damaged | None = None
        for record in (known, written):
            if record is None:
                continue
            try:
                body, _ = open_body(path, record)
                with body:
                    verify_file(body, record)
                return record
            except Damaged as error:
                failure = failure or error
        raise failure or Damaged("neither a record nor a trailer describes it")

    def _take(self, record: Record) -> None:
        self._pending[record.id] = record
        self._algorithms[ids.algorithm(record.id)] += 1
        self._lost.pop(record.id, None)
        if record.readable:
            self.report.bytes += record.size
        self._pending_bytes += len(record.body or b"")
        if len(self._pending) >= _MOST_RECORDS or self._pending_bytes >= _MOST_BYTES:
            self._store_pending()
        self._progress(self.report)

    def _store_pending(self) -> None:
        with disk_errors(), self._index.begin() as transaction:
            for record in self._pending.values():
                transaction.add(record)
        self._pending.clear()
        self._pending_bytes = 0

    def _is_taken(self, id: str) -> bool:
        return id in self._pending or self._index.get(id) is not None

    def _has_file(self, id: str) -> bool:
        if id in self._pending:
            return self._pending[id].body is None
        return records.has_file(id, self._index.get(id))

    def _take_files(self) -> None:
        misplaced = []
        for path in list(self._layout.files()):
            id = _id_of_file(path)
            if id is None or self._layout.body(id) != path:
                misplaced.append((path, id))
            elif self._is_taken(id):
                if not self._has_file(id):
                    self._to_move_away[path] = "the index has an inline body for this id"
            else:
                self._take_file(path, id)
        for path, id in misplaced:
            if id is None:
                self._to_move_away[path] = "neither a trailer nor its name gives an id"
            elif self._is_taken(id):
                self._to_move_away[path] = f"it duplicates the body of {id}"
            else:
                self._take_misplaced(path, id)

    def _take_file(self, path: Path, id: str) -> bool:
        try:
            record = self._proven(path, id, None)
        except Damaged as error:
            self._take_bare(path, id, str(error))
            return False
        except Unreadable as error:
            self._note_unreadable(id, error)
            return False
        self.report.from_files += 1
        self._take(record)
        return True

    def _take_bare(self, path: Path, id: str, reason: str) -> None:
        try:
            if _is_content(path, id):
                self._bare.append(path)
            else:
                self._to_move_away[path] = reason
        except Unreadable as error:
            self._note_unreadable(id, error)

    def _note_unreadable(self, id: str, error: Unreadable) -> None:
        self.report.unreadable.append(Lost(id, str(error)))
        self._warn(f"{id} cannot be read: {error}")

    def _take_misplaced(self, path: Path, id: str) -> None:
        """Take over the body of *id* in the misplaced file *path*, and link it to its place."""
        target = self._layout.body(id)
        if target.exists():
            if target in self._bare:  # its content has the same hash
                self._to_move_away[path] = f"it duplicates the body of {id}"
                return
            self._quarantine(
                target, self._to_move_away.pop(target, None) or "its content does not match its id"
            )
        if self._take_file(path, id):
            self._layout.place(path, id)
            self._to_move_away[path] = None

    def _recover(self, body: bytes) -> None:
        """Write an inline *body* without a record to ``recovered/``, named by its hash."""
        sha256 = self._algorithms["sha256"] > self._algorithms["sha1"]
        record_id = digest.BodyDigest(None, "sha256" if sha256 else ids.DEFAULT_ALGORITHM)
        record_id.update(body)
        id = record_id.verified_id()
        if not self._is_taken(id):
            self._layout.write_file(self._make_directory(self._layout.recovered) / id, body)
            self._note_bare(id)

    def _note_bare(self, id: str) -> None:
        self.report.without_metadata.append(id)
        self._lost.pop(id, None)
        self._warn(f"{id}: its metadata is lost; the body is in recovered/")

    def _swap(self) -> None:
        layout = self._layout
        layout.sync_directory(self._making)
        self._making.rename(self._new)
        layout.sync_directory(layout.root)
        if layout.index.exists():
            old = layout.root / f"index.old-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
            while old.exists():
                old = old.with_name(old.name + "x")
            layout.index.rename(old)
            layout.sync_directory(layout.root)
            self.report.old_index = old.name
        self._place_new()
        if self._padded.exists():
            shutil.rmtree(self._padded)

    def _place_new(self) -> None:
        """Rename the new index into place; the store has none at this time."""
        os.truncate(self._lock, 0)  # removes the progress note of the old index
        self._layout.sync_file(self._lock)
        self._new.rename(self._layout.index)
        self._layout.sync_directory(self._layout.root)

    def _move_away(self) -> None:
        for path in self._bare:
            path.rename(self._make_directory(self._layout.recovered) / path.name)
            self._note_bare(path.name)
        for path, reason in self._to_move_away.items():
            if reason is None:
                path.unlink()
            else:
                self._quarantine(path, reason)
        for directory in (self._layout.recovered, self._layout.quarantine):
            if directory.exists():
                self._layout.sync_directory(directory)

    def _quarantine(self, path: Path, reason: str) -> None:
        self._make_directory(self._layout.quarantine)
        name = self._layout.name(path)
        path.rename(self._layout.note_quarantine(path.name[:_MOST_NAME], reason))
        self.report.quarantined.append(Lost(name, reason))
        self._warn(f"{name}: {reason}; moved to quarantine/")

    def _report_lost(self) -> None:
        for id, reason in self._lost.items():
            self.report.lost.append(Lost(id, reason))
            self._warn(f"{id} is lost: {reason}")


def _id_of_file(path: Path) -> str | None:
    """Return the id of the body in a file, from its trailer or else its name; None for none."""
    try:
        with open_regular(path) as file:
            found = read_trailer(file)
    except NotRegular:
        return None
    except OSError:
        found = None
    try:
        return ids.check(path.name) if found is None else found[0].id
    except InvalidId:
        return None


def _checked(record: Record) -> Record | None:
    """Return the *record* of a trailer; None if it is damaged or its hash contradicts its id."""
    try:
        info = record.info()
    except Damaged:
        return None
    by_content = ids.algorithm(record.id) is not None and MARK not in info.metadata
    return None if by_content and record.hash.hex() != record.id else evolve(record, readable=True)


def _is_content(path: Path, id: str) -> bool:
    """Return whether the content of a file hashes to *id*; False for an opaque name."""
    if ids.algorithm(id) is None:
        return False
    digested = digest.BodyDigest(id)
    with reading(), open_regular(path) as file:
        while piece := file.read(1 << 20):
            digested.update(piece)
    return digested.value().hex() == id
