"""Check a store that no daemon has open, without changing anything (``sos check``)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from attrs import define, field, frozen

from sos.errors import InvalidId, StoreUnusable, Unavailable
from sos.files.regular import NotRegular
from sos.model import ids
from sos.model.digest import PartitionDigest
from sos.stores import record as records
from sos.stores import rows
from sos.stores.local.body_file import Unreadable, open_body
from sos.stores.local.disk import MARKER, Layout
from sos.stores.local.partition_digests import unpack
from sos.stores.local.progress import noted
from sos.stores.local.reading import verify_file
from sos.stores.local.transaction import split_row
from sos.stores.record import Damaged, Encoded, Record
from sos.stores.rows import Extent, Fault, Row


@frozen
class Finding:
    """A problem in a store.

    :param kind: ``store`` (its marker), ``index`` (as a whole), ``record``, ``body``, ``digest``
        or ``file`` (one that is no body).
    :param of: an id, a partition, or a path below the store's directory.
    :param reason: the problem.
    """

    kind: str
    of: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.of}: {self.reason}"


@define
class Report:
    """The result of a check.

    :param checked: number of records, sound or not.
    :param bytes: bytes of all sound bodies.
    :param undescribed: number of sound bodies in files without a valid trailer; a scrub adds it.
    :param unfinished: number of files in ``incoming/``; the next start cleans them up.
    :param quarantined: number of copies in ``quarantine/``.
    :param recovered: number of bodies in ``recovered/``, where ``sos rebuild`` puts them.
    """

    checked: int = 0
    bytes: int = 0
    undescribed: int = 0
    unfinished: int = 0
    quarantined: int = 0
    recovered: int = 0
    findings: list[Finding] = field(factory=list)

    @property
    def ok(self) -> bool:
        """Whether the check found no problem."""
        return not self.findings

    def __str__(self) -> str:
        found = f"{len(self.findings)} problems found" if self.findings else "no problems found"
        return f"{self.checked} blobs checked, {self.bytes} bytes: {found}"


def check(
    root: Path,
    found: Callable[[Finding], None] = lambda finding: None,
    progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Check all of the store in *root*: its index, every record, every body, every file.

    :param found: called with each finding at once.
    :param progress: called after each blob.
    :raises StoreUnusable: if the directory is in use or cannot be read, is no store, or is an
        unfinished backup.
    """
    layout = Layout(root, durable=False)
    layout.refuse_unfinished_backup()
    if not (layout.is_store or layout.index.exists()):
        raise StoreUnusable(f"{root} is not a store: it has no {MARKER}; is its disk mounted?")
    lock = layout.take_lock(create=False) if (root / "lock").exists() else None
    try:
        check = _Check(layout, found, progress)
        check.run(lock)
        return check.report
    except OSError as error:
        raise layout.unusable(error) from error
    finally:
        if lock is not None:
            os.close(lock)


class _Check:
    def __init__(
        self,
        layout: Layout,
        found: Callable[[Finding], None],
        progress: Callable[[Report], None],
    ) -> None:
        self.report = Report()
        self._layout = layout
        self._found = found
        self._progress = progress
        # From the records: the numbers of inline bodies, and the ids with bodies in files.
        self._numbers: set[bytes] = set()
        self._in_files: set[str] = set()
        self._counted: dict[bytes, PartitionDigest] = defaultdict(PartitionDigest)
        # Partitions with a damaged record: how their digest counts it is unknown.
        self._uncounted: set[bytes] = set()

    def run(self, lock: int | None) -> None:
        self._check_marker()
        if self._check_extent(lock):
            self._check_identity()
            # Only with all records read can anything be said to have no record.
            if self._check_records():
                self._check_bodies()
                self._check_digests()
                self._check_files()
        self._check_names()
        self.report.unfinished = self._count(self._layout.incoming)
        self.report.recovered = self._count(self._layout.recovered)
        self.report.quarantined = self._count(self._layout.quarantine)

    def _find(self, kind: str, of: str, reason: object) -> None:
        finding = Finding(kind, of, str(reason))
        self.report.findings.append(finding)
        self._found(finding)

    def _count(self, directory: Path) -> int:
        if not directory.is_dir():
            return 0
        return sum(1 for name in os.listdir(directory) if not name.endswith(".json"))

    def _check_marker(self) -> None:
        self._id = None
        if not self._layout.is_store:
            self._find("store", MARKER, "it is missing")
            return
        try:
            self._id = self._layout.identity()
        except StoreUnusable as error:
            self._find("store", MARKER, error)

    def _check_extent(self, lock: int | None) -> bool:
        """Return whether the index can be opened."""
        extent, reasons = examine_index(self._layout, lock)
        for reason in reasons:
            self._find("index", "index", reason)
        data = self._layout.index / "data.mdb"
        # Reading past the end of the file would kill the reader process at each row.
        return extent is not None and not (reasons and data.stat().st_size < extent.size)

    def _check_identity(self) -> None:
        found = identity(self._layout.index)
        if isinstance(found, Fault):
            self._find("index", "index", f"its store id cannot be read: {found.reason}")
        elif found != self._id and self._id is not None:
            whose = "no store" if found is None else f"another store, {found}"
            self._find("index", "index", f"it belongs to {whose}")

    def _check_records(self) -> bool:
        """Check all records, and return whether all could be read."""
        whole = True
        for row in rows.walk(self._layout.index, "records", bodies=True):
            if isinstance(row, Fault):
                whole = False
                self._find("index", "records", f"some rows cannot be read: {row.reason}")
            else:
                self._check_record(row)
                self.report.checked += 1
                self._progress(self.report)
        return whole

    def _check_record(self, row: Row) -> None:
        number, head = split_row(row.value)
        if any(number):
            if number in self._numbers:
                self._find(
                    "record", id_of(row.key), "another record refers to the same inline body"
                )
            self._numbers.add(number)
        id = id_of(row.key)
        try:
            if ids.sort_key(ids.check(id)).encode() != row.key:
                raise Damaged("its key belongs to another partition")
        except (InvalidId, Damaged) as error:
            self._find("record", id, error)
            return
        try:
            weight = records.weigh(id, head)
        except Damaged as error:
            self._find("record", id, error)
            self._uncounted.add(row.key[:3])
            self._in_files.add(id)  # it may have its body in a file
            return
        if weight is not None:
            self._counted[row.key[:3]] = self._counted[row.key[:3]].with_blob(*weight)
        try:
            record = sound(id, Encoded(head, row.body))
        except Damaged as error:
            self._find("body" if any(number) else "record", id, error)
            return
        if record.body is None:
            self._in_files.add(id)
            self._check_body(record)
        else:
            self.report.bytes += record.size
        if not record.readable:
            self._find("record", id, "it is marked as unreadable: an earlier read failed")

    def _check_body(self, record: Record) -> None:
        try:
            file, stored = open_body(self._layout.body(record.id), record)
            with file:
                blocks = verify_file(file, record)
        except (Damaged, Unreadable, Unavailable) as error:
            self._find("body", record.id, error)
            return
        self.report.bytes += record.size
        if stored is None:
            self.report.undescribed += 1
        elif stored != blocks:
            self._find("body", record.id, "the block hashes in its trailer do not match it")

    def _check_bodies(self) -> None:
        # The bodies that belong to records have been checked with those.
        for row in rows.walk(self._layout.index, "bodies", values=False):
            if isinstance(row, Fault):
                self._find("index", "bodies", f"some rows cannot be read: {row.reason}")
            elif row.key not in self._numbers:
                number = int.from_bytes(row.key)
                self._find("index", "bodies", f"no record refers to the inline body {number}")

    def _check_digests(self) -> None:
        logged: dict[bytes, PartitionDigest] = {}
        for row in rows.walk(self._layout.index, "digests"):
            if isinstance(row, Fault):
                self._find("index", "digests", f"some rows cannot be read: {row.reason}")
                return
            try:
                logged.update(unpack(row.value))
            except Unavailable as error:
                self._find("index", "digests", error)
                return
        nothing = PartitionDigest()
        for name in sorted((logged.keys() | self._counted.keys()) - self._uncounted):
            stated, counted = logged.get(name, nothing), self._counted.get(name, nothing)
            if stated != counted:
                self._find(
                    "digest",
                    name.decode("ascii", "replace"),
                    f"it counts {stated.count} blobs and {stated.bytes} bytes, the records "
                    f"{counted.count} and {counted.bytes}"
                    + ("; the sums differ" if stated.sum != counted.sum else ""),
                )

    def _check_files(self) -> None:
        for path in self._layout.files():
            name = path.name
            reason = None
            try:
                if self._layout.body(ids.check(name)) != path:
                    reason = "it is not where the body of this id belongs"
                elif name not in self._in_files:
                    reason = "no record refers to it"
                elif path.is_symlink() or not path.is_file():
                    reason = "it is not a regular file"
            except InvalidId:
                reason = "its name is not an id"
            if reason is not None:
                self._find("file", self._layout.name(path), reason)

    def _check_names(self) -> None:
        for name in self._layout.foreign():
            self._find("file", name, "it does not belong to a store")
        for directory in (self._layout.bodies, self._layout.incoming, self._layout.quarantine):
            if not directory.is_dir():
                self._find("file", directory.name, "it is missing")


def examine_index(layout: Layout, lock: int | None) -> tuple[Extent | None, list[str]]:
    """Return the extent of the index, None if it cannot be opened, and a list of its problems.

    :param lock: the open file ``lock``, which has the progress note; None if there is none.
    """
    file = layout.index / "data.mdb"
    try:
        layout.check_index()
    except NotRegular as error:
        return None, [f"{error.filename}: {error.strerror}"]
    if not file.exists():
        return None, ["it is missing"]
    size = file.stat().st_size
    if size == 0:
        return None, ["it is empty"]
    reasons = []
    reached = None if lock is None else noted(lock)
    if reached is not None and size < reached.size:
        reasons.append(f"it has {size} bytes, but had {reached.size} before")
    extent = rows.extent(layout.index)
    if isinstance(extent, Fault):
        return None, [*reasons, f"it cannot be opened: {extent.reason}"]
    if reached is not None and extent.transaction < reached.transaction:
        reasons.append(
            f"it is an older copy: its last transaction is {extent.transaction}, the store's is "
            f"{reached.transaction}"
        )
    return extent, reasons


def sound(id: str, encoded: Encoded) -> Record:
    """Decode the record of *id*; raise Damaged unless it and any inline body are sound."""
    record = records.decode(id, encoded)
    record.info()
    record.verify_inline()
    return record


def id_of(key: bytes) -> str:
    """Return the id in a *key* of the records; escape bytes that damage has made non-ASCII."""
    return key[3:].decode("ascii", "backslashreplace")


def identity(index: Path) -> str | Fault | None:
    """Return the id of the store that an *index* belongs to, None if it has none."""
    found: str | Fault | None = None
    for row in rows.walk(index, "identity"):
        if isinstance(row, Fault):
            # The index of an older version, without store ids, lacks this database.
            return found if "MDB_NOTFOUND" in row.reason else row
        found = row.value.decode("ascii", "backslashreplace")
    return found
