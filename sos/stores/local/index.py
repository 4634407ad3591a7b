"""The LMDB environment: every blob's record, inline bodies, and digests.

The records are in the order of listings.  Bodies lie apart from them, in the
order in which they came: what is stored together is on the disk together, and
a listing does not wade through them.
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
from sos.stores.local.progress import Progress, Reached
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

#: Bytes that an index can take of the address space, not of the disk: its file grows with use.
MAP_SIZE = 1 << 40 if sys.maxsize > 1 << 32 else 1 << 30
# Bytes free below which a write that came out short is put down to that.
_CRAMPED = 1 << 20
_DATABASES = (b"records", b"bodies", b"lease", b"digests", b"identity", b"lost")
# Those that older versions had not.
_LATER = (b"identity", b"lost")
# Two that tell where everything is, at the beginning of the file.
_META_PAGES = 2
# The one key of its database.
_IDENTITY = b"id"
# What LMDB fails with when it is asked for too much; all else that a reader meets is damage.
_BUSY = (lmdb.ReadersFullError, lmdb.TlsFullError, lmdb.MemoryError, lmdb.MapResizedError)
# What is damage when it is met while writing, too.
_DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError)

P = ParamSpec("P")
T = TypeVar("T")


def _reads(method: Callable[P, T]) -> Callable[P, T]:
    """Raise Unavailable in place of LMDB's errors, wherever in *method* they are met."""

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
    """Records by id.  Reading is safe on any thread, at any time.

    :param durable: whether a committed transaction is on stable storage.
    :param readonly: whether nothing can be written, no lock either.
    :param map_size: in bytes, how large the index can become before
        :meth:`grow` is called.
    :ivar progress: notes what each transaction has reached.
    :ivar damaged: called with the reason, on any thread, when damage is met.
    """

    def __init__(
        self, directory: Path, durable: bool, readonly: bool = False, map_size: int = MAP_SIZE
    ) -> None:
        self.directory = str(directory)
        self.progress: Progress | None = None
        self.damaged: Callable[[str], None] = lambda reason: None
        self._damage: str | None = None
        self._doubted: dict[str, Encoded] = {}
        self._writing = Lock()
        self._readonly = readonly
        options = {"readonly": True, "lock": False} if readonly else {}
        self._open(map_size=map_size, sync=durable, metasync=durable, **options)

    def _open(self, **options: Any) -> None:
        self._environment = lmdb.open(
            self.directory, mode=0o640, max_dbs=len(_DATABASES), **options
        )
        self._pad()
        # What a process that was killed was reading would keep its pages from
        # being used again for as long as another has the index open.
        self._environment.reader_check()
        databases = [self._database(name) for name in _DATABASES]
        self._records, self._bodies, self._lease, digests, self._identity, self._lost = databases
        self._databases = [each for each in databases if each is not None]
        self._log = DigestLog(digests)
        self.digests()  # from here on there is little of the log to read

    def _database(self, name: bytes) -> Any:
        """Open a database; None for one that an older version had not, where none can be made."""
        try:
            return self._environment.open_db(name, create=not self._readonly)
        except lmdb.NotFoundError:
            if name not in _LATER:
                raise
            return None

    def _pad(self) -> None:
        # Reading past the end of a mapped file kills the process (SIGBUS).  LMDB may leave out
        # pages at the end that it freed before it wrote them; of any other missing page it
        # reports the zeros as damage.
        pages = self._environment.info()["last_pgno"] + 1
        size = pages * self._environment.stat()["psize"]
        if self.reached.size < size:
            if self._readonly:
                raise Unavailable(
                    f"it is shorter than the {size} bytes that it tells of; mount it writable "
                    "once, so that it can be completed"
                )
            os.truncate(self._file, size)

    @property
    def _file(self) -> str:
        return os.path.join(self.directory, "data.mdb")

    @property
    def reached(self) -> Reached:
        """How far it has come."""
        number = self._environment.info()["last_txnid"]
        return Reached(number, os.stat(self._file).st_size)

    @property
    def identity(self) -> str | None:
        """The id of the store that it is of, None if it has not been told."""
        if self._identity is None:
            return None
        with self._environment.begin(self._identity) as transaction:
            id = transaction.get(_IDENTITY)
        return None if id is None else id.decode("ascii", "replace")

    def identify(self, id: str) -> None:
        """Make it the index of the store *id*."""
        with self._environment.begin(self._identity, write=True) as transaction:
            transaction.put(_IDENTITY, id.encode("ascii"))

    @_reads
    def reusable(self) -> int:
        """Return the bytes of the file that hold nothing, and will be used before it grows."""
        information = self._environment.info()
        with self._reading() as transaction:
            used = [self._environment.stat(), *map(transaction.stat, self._databases)]
        pages = sum(
            each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"] for each in used
        )
        free: int = information["last_pgno"] + 1 - _META_PAGES - pages
        return max(free, 0) * int(used[0]["psize"])

    def check_in_place(self) -> None:
        """Raise SyncFailed when other files, or none, are where those of the store were."""
        if self.progress is not None:
            self.progress.check_in_place()

    def is_cramped(self) -> bool:
        """Tell whether there is so little free that a full disk explains a failure."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize < _CRAMPED

    def is_dead(self) -> bool:
        """Tell whether LMDB refuses to go on, as it does after a failed write of its meta page."""
        try:
            self._environment.begin().abort()
        except lmdb.PanicError:
            return True
        return False

    def reopen_to_read(self) -> None:
        """Open what is on the disk anew, to read from it; nothing may be reading or writing."""
        map_size = self._environment.info()["map_size"]
        self._environment.close()
        self._open(map_size=map_size, readonly=True)

    def note_damage(self, error: lmdb.Error) -> None:
        """From now on say nothing of what is there as a whole: some of it cannot be found."""
        self._damage = f"the index {self.directory} is damaged: {error}"
        self.damaged(self._damage)

    def doubt(self, id: str, encoded: Encoded) -> None:
        """Say nothing of what is there as a whole: *id* counts as a copy, and is none.

        :param encoded: its record; the doubt ends when it has another.
        """
        self._doubted[id] = encoded

    def trust(self, id: str) -> None:
        """End the doubt about *id*, if there is one."""
        self._doubted.pop(id, None)

    def doubts(self, id: str) -> bool:
        """Tell whether there is a doubt about *id*."""
        return id in self._doubted

    def _check_sound(self) -> None:
        if self._damage is not None:
            raise Unavailable(self._damage)

    def _check_whole(self) -> None:
        self._check_sound()
        for id, encoded in list(self._doubted.items()):
            if self.get(id) != encoded:
                self.trust(id)
        if self._doubted:
            raise Unavailable(
                f"{len(self._doubted)} blobs are damaged or cannot be read, and could not be "
                f"marked as such, {min(self._doubted)} among them"
            )

    def _reading(self, **options: Any) -> lmdb.Transaction:
        try:
            return self._environment.begin(self._records, **options)
        except lmdb.MapResizedError:
            with self._writing:  # for no transaction may be open
                self.follow()
            return self._environment.begin(self._records, **options)

    def close(self) -> None:
        """Close the environment; nothing may be reading or writing."""
        self._environment.close()

    def grow(self) -> None:
        """Double the map; no transaction may be open in this process."""
        self._environment.set_mapsize(2 * self._environment.info()["map_size"])

    def follow(self) -> None:
        """Take over the map that another process has grown; as for :meth:`grow`."""
        self._environment.set_mapsize(0)

    @_reads
    def get(self, id: str) -> Encoded | None:
        """Return the encoded record of *id*, or None."""
        with self._reading() as transaction:
            return find(transaction, self._bodies, id)

    @_reads
    def listing(self, after: str | None, limit: int, partition: str | None) -> list[str]:
        """Return up to *limit* ids in order, from behind *after*, of one partition or all.

        Those that are marked as unreadable are left out.
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
                marked = records.is_marked(split_row(cursor.value())[1])
                if not marked and (after is None or key > start):
                    page.append(key[3:].decode("ascii"))
        return page

    @_reads
    def places(self, after: str | None, limit: int) -> dict[str, int]:
        """Return up to *limit* ids from behind *after*, and where their bodies lie.

        That is a number which is the higher the later an inline body was stored, and 0 for a
        body with a file of its own.
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
        """Return how many blobs were held, and cannot be given any more, and *limit* of them.

        They are damaged or cannot be read, and were not stored anew nor dropped since.
        """
        if self._lost is None:
            return 0, ()
        with self._reading() as transaction, transaction.cursor(self._lost) as cursor:
            ids = (bytes(key).decode("ascii") for key in cursor.iternext(values=False))
            count: int = transaction.stat(self._lost)["entries"]
            return count, tuple(islice(ids, limit))

    @_reads
    def digests(self) -> Mapping[str, PartitionDigest]:
        """Return the digest of every partition that holds anything, by its name.

        It is the same object until they change.
        """
        self._check_whole()
        with self._reading() as transaction:
            return self._log.named(transaction)

    @_reads
    def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        """Return what each blob of *partition* is, by id.

        What is damaged, or marked as unreadable, is none.
        """
        self._check_whole()
        with self._reading() as transaction:
            return {
                id: digest
                for id, head in heads_of(transaction, partition.encode("ascii"))
                if (digest := judged(records.told, id, head)) is not None
            }

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        """Begin the one write transaction, waiting for any other to end.

        It is committed at the end of the block, unless that raises.
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
