"""The directory of a store: its layout, its lock, and durable writes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from pathlib import Path
from typing import Any

from sos.errors import NoSpace, StoreUnusable
from sos.files.regular import below, check_regular, open_regular, read_regular
from sos.model import ids
from sos.stores.disk_errors import SyncFailed, is_full
from sos.stores.received import write_at

#: The file that marks a directory as a store.
MARKER = "store.json"
#: The file that marks a directory as a backup, see :mod:`sos.stores.local.backup`.
BACKUP_MARKER = "backup.json"
#: The directory in which a backup is staged.
STAGING = "backup"
_MARKER: dict[str, Any] = {"format": "sos-local-store", "version": 1}
# All names that SOS, or the file system, creates in the directory of a store.
_NAMES = re.compile(
    r"(store|scrub|backup)\.json(\.new)?|lock|index(\.(making|new|padded|old-.*))?|bodies|incoming"
    r"|quarantine|recovered|backup|lost\+found"
)
# A UUID as uuid.uuid4() writes it.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Layout:
    """The paths below the store's *root*, and durable writes to them.

    :param durable: whether to fsync at all.
    """

    def __init__(self, root: Path, durable: bool) -> None:
        self.root = root
        self.durable = durable
        self.index = root / "index"
        self.incoming = root / "incoming"
        self.quarantine = root / "quarantine"
        self.recovered = root / "recovered"
        self.bodies = root / "bodies"
        self._marker = root / MARKER
        self._new_marker = self._marker.with_suffix(".json.new")
        self._made: set[Path] = set()

    @property
    def compacting(self) -> Path:
        """The directory for a compacted copy of the index, on the same file system as that."""
        return (self.index / "data.mdb").resolve().parent / "compacting"

    @contextmanager
    def locked_index(self, kind: int) -> Iterator[None]:
        """Lock the directory of the index: ``LOCK_SH`` to read it, ``LOCK_EX`` to replace it.

        A daemon does not hold this lock, so that its store can be backed up.

        :raises StoreUnusable: if another process has locked it, or it does not exist.
        """
        try:
            descriptor = os.open(self.index, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreUnusable(f"the index {self.index} is missing; see sos rebuild") from None
        try:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreUnusable(
                    f"{self.index} is being backed up or compacted; try again after that"
                ) from None
            yield
        finally:
            os.close(descriptor)

    @property
    def readonly(self) -> bool:
        """Whether the directory is mounted read-only."""
        return bool(os.statvfs(self.root).f_flag & os.ST_RDONLY)

    @property
    def obstacle(self) -> str | None:
        """The reason why no blobs can be stored, None if they can."""
        if self.readonly:
            return f"{self.root} is mounted read-only"
        for directory in (self.bodies, self.quarantine):
            if directory.stat().st_dev != self.incoming.stat().st_dev:
                return (
                    f"{directory} is on another file system than {self.incoming}, so files cannot "
                    "be moved between them atomically; put both on one"
                )
        return None

    def make_missing_directories(self) -> None:
        """Create missing directories: a copy of a store may lack the empty ones."""
        for directory in (self.bodies, self.incoming, self.quarantine):
            directory.mkdir(exist_ok=True)

    @property
    def is_store(self) -> bool:
        """Whether the directory has the marker of a store."""
        return self._marker.exists()

    def marker(self) -> bytes:
        """Return the content of the marker.  Raises OSError."""
        return read_regular(self._marker)

    def identity(self) -> str | None:
        """Return the id of the store, a UUID; None for a store of an older version, without id.

        Raises :exc:`~sos.errors.StoreUnusable` if the marker has another format.
        """
        try:
            marker = json.loads(self.marker())
        except (ValueError, RecursionError):
            marker = None
        id = marker.pop("id", None) if isinstance(marker, dict) else None
        if marker != _MARKER or not (id is None or is_uuid(id)):
            raise StoreUnusable(
                f"{self.root} has an unknown store format: store.json is not "
                f"{json.dumps(_MARKER)}; did a newer version of SOS create it?"
            )
        return id

    def check_index(self) -> None:
        """Raise OSError if LMDB would open anything but regular files."""
        for name in ("data.mdb", "lock.mdb"):
            check_regular(self.index / name, named=True)  # links to another disk are allowed

    def begin_new(self, id: str) -> None:
        """Create the directories of a new store; the caller creates its index.

        This removes the rest of an interrupted attempt.  Raises
        :exc:`~sos.errors.StoreUnusable` if the files may belong to a store that was in use.
        """
        data = self.index / "data.mdb"
        if next(self.files(), None) is not None or (
            data.exists() and not self._new_marker.exists()
        ):
            raise StoreUnusable(
                f"{self.root} holds the files of a store, but its store.json is missing; restore "
                "that file"
            )
        self.index.mkdir(exist_ok=True)
        self.make_missing_directories()
        self.write_marker(id, finished=False)
        for name in ("data.mdb", "lock.mdb"):
            (self.index / name).unlink(missing_ok=True)

    def write_marker(self, id: str, finished: bool = True) -> None:
        """Write the marker of the store *id*; only a *finished* one makes it a store."""
        text = json.dumps({**_MARKER, "id": id})
        if finished:
            self.replace_file(self._marker, text.encode("ascii"))
            return
        self.write_file(self._new_marker, text.encode("ascii"))
        self.sync_directory(self.root)

    def replace_file(self, path: Path, data: bytes) -> None:
        """Replace the contents of *path*, a file directly below the root, atomically."""
        new = path.with_name(path.name + ".new")
        self.write_file(new, data)
        new.rename(path)
        self.sync_directory(self.root)

    def unusable(self, error: Exception) -> StoreUnusable:
        """Return a StoreUnusable that gives *error* as the reason."""
        if self.root.exists() and not self.root.is_dir():
            return StoreUnusable(f"{self.root} cannot be used as a store: it is not a directory")
        reason = str(error)
        if isinstance(error, OSError) and error.strerror:
            place = "" if error.filename is None else f"{error.filename}: "
            reason = place + error.strerror
        return StoreUnusable(f"{self.root} cannot be used as a store: {reason}")

    def lock(self, may_create: bool) -> int:
        """Lock the directory for this process, and return the lock's descriptor.

        :param may_create: whether to accept a directory that is no store yet, and to create a
            missing one.
        :raises StoreUnusable: if another process has the lock, or there is no store.
        """
        try:
            self.refuse_unfinished_backup()
            if not may_create and not self.is_store:
                raise StoreUnusable(
                    f"{self.root} is not a store: it has no {MARKER}; is its disk mounted?"
                )
            if not self.root.exists():
                self.make()
            self._refuse_foreign()
        except (OSError, SyncFailed, NoSpace) as error:
            raise self.unusable(error) from error
        return self.take_lock()

    def refuse_unfinished_backup(self) -> None:
        """Raise StoreUnusable for an unfinished backup: it may lack bodies that its index has."""
        if (self.root / BACKUP_MARKER).exists() and not self.is_store:
            raise StoreUnusable(f"{self.root} is an unfinished backup; run sos backup again")

    def take_lock(self, create: bool = True) -> int:
        """Lock the directory without looking at its contents; return the lock's descriptor.

        :param create: whether to open the lock file for writing, and create a missing one.
        :raises StoreUnusable: if another process has the lock.
        """
        try:
            flags = os.O_RDWR | os.O_CREAT if create and not self.readonly else os.O_RDONLY
            descriptor = open_lock(self.root, flags)
        except OSError as error:
            raise self.unusable(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise self.unusable(error) from error
            raise StoreUnusable(
                f"{self.root} is in use by another process; stop that first"
            ) from None
        return descriptor

    def make(self) -> None:
        """Create the directory.  Raises StoreUnusable if its parent does not exist."""
        parent = self.root.parent
        if not parent.exists():
            raise StoreUnusable(
                f"cannot create {self.root}: {parent} does not exist; is its disk mounted?"
            )
        self.root.mkdir()
        self.sync_directory(parent)

    def _refuse_foreign(self) -> None:
        # The names that an interrupted creation of a store leaves, and those on a new disk.
        ours = {"lock", "index", "bodies", "incoming", "quarantine", "store.json.new", "lost+found"}
        found = {entry.name for entry in self.root.iterdir()}
        if "store.json" not in found and not found <= ours:
            raise StoreUnusable(
                f"{self.root} is neither a store nor empty: it contains {min(found - ours)}; "
                "choose a new directory"
            )

    def foreign(self) -> list[str]:
        """Return the names in the directory that do not belong to a store."""
        return [self.name(path) for path in sorted(self.root.iterdir()) if not _is_known(path)]

    def name(self, path: Path) -> str:
        """Return *path* relative to the directory, as printable text."""
        return os.fsencode(path.relative_to(self.root)).decode("utf-8", "backslashreplace")

    def files(self) -> Iterator[Path]:
        """Yield everything below ``bodies/`` that is no directory."""
        if not self.bodies.exists():
            return
        for entry in below(self.bodies, _raise):
            yield Path(entry.path)

    def body(self, id: str) -> Path:
        """Return the path of the body of *id*, if it is in a file."""
        spread = id if ids.algorithm(id) else sha1(id.encode("ascii")).hexdigest()
        return self.bodies / spread[:2] / spread[2:4] / id

    def place(self, incoming: Path, id: str) -> None:
        """Link the finished file *incoming* to its place as the body of *id*.

        It replaces any file there in one step, so that a crash leaves one of the two.  The
        caller holds the index's write lock and knows that the old file was left by a crash,
        or is an unreadable copy of the same body.
        """
        target = self.body(id)
        self.make_directories(target.parent)
        second = incoming.with_name(incoming.name + ".second")
        second.unlink(missing_ok=True)
        os.link(incoming, second)
        os.replace(second, target)
        second.unlink(missing_ok=True)  # a rename to another link of the same file keeps both
        self.sync_directory(target.parent)

    def hold(self, id: str, incoming: Path) -> None:
        """Link the body of *id*, which is about to lose its record, into ``incoming/`` as well.

        After a crash, the next start finds it there and removes both names.
        """
        with suppress(FileExistsError):  # made by a transaction that was not committed
            os.link(self.body(id), incoming)
        self.sync_directory(self.incoming)

    def withdraw(self, incoming: Path, id: str) -> None:
        """Remove the body of *id*, if it is the same file as *incoming*.

        The caller holds the index's write lock and knows that no record of *id* has
        its body in a file.
        """
        target = self.body(id)
        if target.exists() and target.samefile(incoming):
            target.unlink()
            self.sync_directory(target.parent)

    def make_directories(self, directory: Path) -> None:
        """Create *directory*, two levels below ``bodies/``, durably."""
        if directory in self._made:
            return
        for step in (directory.parent, directory):
            step.mkdir(exist_ok=True)
            self.sync_directory(step.parent)
        self._made.add(directory)

    def note_quarantine(self, id: str, reason: str) -> Path:
        """Write why *id* is quarantined, and return the path to move its body to."""
        kept = self.quarantine / f"{id}.{time.time_ns()}"
        note = {"id": id, "reason": reason, "quarantined_at": time.time()}
        self.write_file(kept.with_name(kept.name + ".json"), json.dumps(note).encode())
        return kept

    def write_file(self, path: Path, data: bytes) -> None:
        """Write and sync the whole file *path*; the caller syncs the directory."""
        with open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            write_at(file, data, 0)
            self.sync_file(file.fileno())

    def sync_file(self, descriptor: int) -> None:
        """Return once the open file is on stable storage.

        Raises NoSpace if the disk is full, which some file systems find out only now, and
        SyncFailed for any other error.
        """
        if not self.durable:
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            if is_full(error):
                raise NoSpace(f"the disk is full: {error}") from error
            raise SyncFailed(f"fsync failed: {error}") from error

    def sync_directory(self, directory: Path) -> None:
        """Return once the directory's entries are on stable storage; raise as sync_file does."""
        if not self.durable:
            return
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync_file(descriptor)
        finally:
            os.close(descriptor)


def open_lock(root: Path, flags: int) -> int:
    """Open the lock file of the directory *root*, and return its descriptor."""
    with open_regular(root / "lock", flags) as file:
        return os.dup(file.fileno())


def _is_known(path: Path) -> bool:
    return _NAMES.fullmatch(path.name) is not None


def _raise(error: OSError) -> None:
    raise error


def is_uuid(id: object) -> bool:
    """Return whether *id* can be the id of a store."""
    return isinstance(id, str) and _UUID.fullmatch(id) is not None
