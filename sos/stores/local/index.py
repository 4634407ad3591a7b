"""The LMDB environment: every blob's record, inline bodies, and digests.

Records are in listing order.  Inline bodies are in a database of their own, in
order of arrival: bodies stored together lie together on the disk, and a listing
does not have to read past them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast

import lmdb

from sos.errors import Unavailable
from sos.model.digest import BlobDigest, PartitionDigest
from sos.stores import record as records
from sos.stores.local.partition_digests import DigestLog
from sos.stores.local.progress import HighWaterMark, Progress
from sos.stores.local.transaction import (
    Transaction,
    find,
    heads_of,
    judged,
    key_of,
    rows_from,
    split_row,
)
from sos.stores.record import Encoded

#: Bytes of address space (not disk) that an index reserves: its file grows with use.
MAP_SIZE = 1 << 40 if sys.maxsize > 1 << 32 else 1 << 30
# With fewer bytes free than this, a short write is taken for a full disk.
_CRAMPED = 1 << 20
_DATABASES = (b"records", b"bodies", b"lease", b"digests", b"identity", b"lost")
# Databases that older versions did not have.
_LATER = (b"identity", b"lost")
# LMDB's meta pages, at the beginning of the file.
_META_PAGES = 2
# The only key in the identity database.
_IDENTITY = b"id"
# LMDB's errors for exhausted resources.  Any other error of a reader means damage.
_BUSY = (lmdb.ReadersFullError, lmdb.TlsFullError, lmdb.MemoryError, lmdb.MapResizedError)
# Errors that mean damage in a write transaction as well.
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError)

P = ParamSpec("P")
T = TypeVar("T")


def _reads(method: Callable[P, T]) -> Callable[P, T]:
    """Wrap *method* so that it raises Unavailable in place of LMDB's errors."""

    @wraps(method)
    def reading(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except lmdb.Error as error:
            if not isinstance(error, _BUSY):
                cast(Index, args[0]).note_damage(error)
            raise Unavailable(f"the index cannot be read: {error}") from error

    return reading


class Index:
    """Records by id.  Read on the thread that grows it, or by :meth:`read_in_thread`.

    :param durable: whether to sync each transaction to stable storage.
    :param readonly: open for reading only, and take no lock.
    :param map_size: bytes that the index can reach before :meth:`grow` is called.
    :ivar progress: if set, records how far the index is after each transaction.
    :ivar damaged: called with the reason, on any thread, when damage is found.
    """

    def __init__(
        self, directory: Path, durable: bool, readonly: bool = False, map_size: int = MAP_SIZE
    ) -> None:
        self.directory = str(directory)
        self.progress: Progress | None = None
        self.damaged: Callable[[str], None] = lambda reason: None
        self._damage: str | None = None
        self._suspect: dict[str, Encoded] = {}
        self._writing = Lock()
        self._mapping = Lock()  # held while another thread reads, and while the map moves
        self._readonly = readonly
        options = {"readonly": True, "lock": False} if readonly else {}
        self._open(map_size=map_size, sync=durable, metasync=durable, **options)

    def _open(self, **options: Any) -> None:
        self._environment = lmdb.open(
            self.directory, mode=0o640, max_dbs=len(_DATABASES), **options
        )
        self._pad()
        # Clear the reader slots of killed processes: LMDB cannot reuse the pages that
        # those were reading while any process has the index open.
        self._environment.reader_check()
        databases = [self._database(name) for name in _DATABASES]
        self._records, self._bodies, self._lease, digests, self._identity, self._lost = databases
        self._databases = [each for each in databases if each is not None]
        self._log = DigestLog(digests)
        self.digests()  # reads the whole log now; later calls read only new rows

    def _database(self, name: bytes) -> Any:
        """Open a database; return None if an older version lacks it and the index is read-only."""
        try:
            return self._environment.open_db(name, create=not self._readonly)
        except lmdb.NotFoundError:
            if name not in _LATER:
                raise
            return None

    def _pad(self) -> None:
        # Reading past the end of a mapped file kills the process (SIGBUS).  So extend the file
        # with zeros.  LMDB may leave out freed pages at the end; if any other page is missing,
        # it reports the zeros as damage.
        pages = self._environment.info()["last_pgno"] + 1
        size = pages * self._environment.stat()["psize"]
        if self.reached.size < size:
            if self._readonly:
                raise Unavailable(
                    f"its file is shorter than the {size} bytes of its pages; mount it writable "
                    "once, so that the daemon can extend it"
                )
            os.truncate(self._file, size)

    @property
    def _file(self) -> str:
        return os.path.join(self.directory, "data.mdb")

    @property
    def reached(self) -> HighWaterMark:
        """The number of the last transaction, and the size of the file in bytes."""
        number = self._environment.info()["last_txnid"]
        return HighWaterMark(number, os.stat(self._file).st_size)

    @property
    def identity(self) -> str | None:
        """The id of the store that the index belongs to, None if it has none."""
        if self._identity is None:
            return None
        with self._environment.begin(self._identity) as transaction:
            id = transaction.get(_IDENTITY)
        return None if id is None else id.decode("ascii", "replace")

    def identify(self, id: str) -> None:
        """Record that the index belongs to the store *id*."""
        with self._environment.begin(self._identity, write=True) as transaction:
            transaction.put(_IDENTITY, id.encode("ascii"))

    def copy(self, directory: Path) -> None:
        """Copy the index to an empty *directory*, without its free pages."""
        self._environment.copy(str(directory), compact=True)

    @_reads
    def rows(self) -> list[int]:
        """Return the number of rows of each database."""
        with self._reading() as transaction:
            return [transaction.stat(each)["entries"] for each in self._databases]

    @_reads
    def reusable(self) -> int:
        """Return the number of free bytes in the file, which LMDB uses before the file grows."""
        information = self._environment.info()
        with self._reading() as transaction:
            used = [self._environment.stat(), *map(transaction.stat, self._databases)]
        pages = sum(
            each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"] for each in used
        )
        free: int = information["last_pgno"] + 1 - _META_PAGES - pages
        return max(free, 0) * int(used[0]["psize"])

    def check_in_place(self) -> None:
        """Raise SyncFailed if the store's files were removed or replaced."""
        if self.progress is not None:
            self.progress.check_in_place()

    def is_nearly_full(self) -> bool:
        """Return whether so little space is free that a full disk explains a failed write."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize < _CRAMPED

    def has_panicked(self) -> bool:
        """Return whether LMDB refuses all work, as it does after a failed meta page write."""
        try:
            self._environment.begin().abort()
        except lmdb.PanicError:
            return True
        return False

    def reopen_to_read(self) -> None:
        """Close the environment, once reads in other threads have ended; open it read-only."""
        with self._mapping:
            map_size = self._environment.info()["map_size"]
            self._environment.close()
            self._open(map_size=map_size, readonly=True)

    def note_damage(self, error: lmdb.Error) -> None:
        """Refuse listings and digests from now on: the index cannot find all of its records."""
        self._damage = f"the index {self.directory} is damaged: {error}; see sos rebuild"
        self.damaged(self._damage)

    def mark_suspect(self, id: str, encoded: Encoded) -> None:
        """Refuse listings and digests: they include *id*, whose body is bad.

        :param encoded: the record of *id*; that ends when another record replaces it.
        """
        self._suspect[id] = encoded

    def clear_suspect(self, id: str) -> None:
        """Clear the suspicion of *id*, if there is one."""
        self._suspect.pop(id, None)

    def is_suspect(self, id: str) -> bool:
        """Return whether *id* is suspect."""
        return id in self._suspect

    def _check_sound(self) -> None:
        if self._damage is not None:
            raise Unavailable(self._damage)

    def _check_whole(self) -> None:
        self._check_sound()
        for id, encoded in list(self._suspect.items()):
            if self.get(id) != encoded:
                self.clear_suspect(id)
        if self._suspect:
            raise Unavailable(
                f"{len(self._suspect)} blobs are damaged or unreadable and could not be marked as "
                f"such, {min(self._suspect)} among them"
            )

    def _reading(self, **options: Any) -> lmdb.Transaction:
        try:
            return self._environment.begin(self._records, **options)
        except lmdb.MapResizedError:
            with self._writing:  # no transaction may be open
                self.follow()
            return self._environment.begin(self._records, **options)

    def close(self) -> None:
        """Close the environment; no transaction may be open."""
        self._environment.close()

    def grow(self) -> None:
        """Double the map, once reads in other threads have ended."""
        with self._mapping:
            self._environment.set_mapsize(2 * self._environment.info()["map_size"])

    def follow(self) -> None:
        """Adopt the map size that another process has set; no transaction may be open here."""
        self._environment.set_mapsize(0)

    def read_in_thread(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``read(*args)``; meanwhile :meth:`grow` waits.

        Growing ends all transactions in this process: a read in progress would fail as if the
        index were damaged.
        """
        with self._mapping:
            return read(*args, **kwargs)

    @_reads
    def get(self, id: str) -> Encoded | None:
        """Return the encoded record of *id*, or None."""
        with self._reading() as transaction:
            return find(transaction, self._bodies, id)

    @_reads
    def listing(self, after: str | None, limit: int, partition: str | None) -> list[str]:
        """Return up to *limit* ids after *after*, in order, of one partition or of all.

        Ids that are marked as unreadable, and those of deleted objects, are omitted.
        """
        self._check_whole()
        prefix = (partition or "").encode("ascii")
        start = max(prefix, b"" if after is None else key_of(after))
        page: list[str] = []
        with self._reading(buffers=True) as transaction:
            for cursor in rows_from(transaction, start):
                key = bytes(cursor.key())
                if len(page) == limit or not key.startswith(prefix):
                    break
                id, head = key[3:].decode("ascii"), split_row(cursor.value())[1]
                hidden = records.is_marked(head) or records.is_tombstone_head(id, head)
                if not hidden and (after is None or key > start):
                    page.append(id)
        return page

    @_reads
    def places(self, after: str | None, limit: int) -> dict[str, int]:
        """Return up to *limit* ids after *after*, each with the position of its body.

        The positions of inline bodies ascend in the order of storing.  A body in a file has
        position 0.
        """
        self._check_sound()
        found: dict[str, int] = {}
        start = b"" if after is None else key_of(after) + b"\0"
        with self._reading(buffers=True) as transaction:
            for cursor in rows_from(transaction, start):
                if len(found) == limit:
                    break
                id = bytes(cursor.key())[3:].decode("ascii")
                number, _ = split_row(cursor.value())
                found[id] = int.from_bytes(number, "big")
        return found

    @_reads
    def lost(self, limit: int) -> tuple[int, tuple[str, ...]]:
        """Return the number of lost blobs, and up to *limit* of their ids.

        A blob is lost if its copy here was damaged or unreadable, and it has been neither
        stored again nor dropped since.
        """
        if self._lost is None:
            return 0, ()
        with self._reading() as transaction, transaction.cursor(self._lost) as cursor:
            ids = (bytes(key).decode("ascii") for key in cursor.iternext(values=False))
            count: int = transaction.stat(self._lost)["entries"]
            return count, tuple(islice(ids, limit))

    @_reads
    def digests(self) -> Mapping[str, PartitionDigest]:
        """Return the digests of all partitions that hold blobs, by name.

        The mapping is the same object until the digests change.
        """
        self._check_whole()
        with self._reading() as transaction:
            return self._log.named(transaction)

    @_reads
    def totals(self) -> tuple[int, int]:
        """Return the number of blobs, and the bytes of their bodies, suspect ones included."""
        with self._reading() as transaction:
            digests = self._log.named(transaction).values()
        return sum(each.count for each in digests), sum(each.bytes for each in digests)

    @_reads
    def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        """Return the digest of each blob in *partition*, by id.

        Damaged records, and blobs marked as unreadable, are omitted.
        """
        self._check_whole()
        with self._reading() as transaction:
            return {
                id: digest
                for id, head in heads_of(transaction, partition.encode("ascii"))
                if (digest := judged(records.blob_digest, id, head)) is not None
            }

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Wait for any other write transaction to end, and begin one.

        The transaction commits at the end of the block, and aborts if the block raises.
        """
        try:
            with self._writing, self._environment.begin(self._records, write=True) as transaction:
                changes = Transaction(
                    transaction,
                    self._bodies,
                    self._lease,
                    self._lost,
                    self._log.read(transaction),
                )
                yield changes
                number = self._log.append(transaction, changes.digests) if changes.digests else 0
        except _DAMAGE as error:
            self.note_damage(error)
            raise
        self._log.committed(number, changes.digests)
        self.check_in_place()
        if self.progress is not None:
            self.progress.note(self.reached)
