"""The LMDB environment: every blob's record, and a digest row a partition."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any, cast

import lmdb

from sos import ids
from sos.digest import PartitionDigest
from sos.errors import Unavailable
from sos.stores.local import record as records
from sos.stores.local.record import Damaged, Record

# Address space, not disk: the file grows as it is used.
_MAP_SIZE = 1 << 40 if sys.maxsize > 1 << 32 else 1 << 30
# Bytes free below which a write that came out short is put down to that.
_CRAMPED = 1 << 20
_DIGEST = struct.Struct(">QQ16s")


class Index:
    """Records by id.  Reading is safe on any thread, at any time.

    :param durable: whether a committed transaction is on stable storage.
    :param map_size: in bytes, how large the index can become before
        :meth:`grow` is called.
    """

    def __init__(self, directory: Path, durable: bool, map_size: int = _MAP_SIZE) -> None:
        self._directory = str(directory)
        self._open(map_size=map_size, sync=durable, metasync=durable)

    def _open(self, **options: Any) -> None:
        self._environment = lmdb.open(self._directory, max_dbs=2, **options)
        self._blobs = self._environment.open_db(b"blobs")
        self._digests = self._environment.open_db(b"digests")

    def is_cramped(self) -> bool:
        """Tell whether there is so little free that a full disk explains a failure."""
        disk = os.statvfs(self._directory)
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
        self._open(map_size=map_size, readonly=True, lock=False)

    def _reading(self, database: Any, **options: Any) -> Any:
        try:
            return self._environment.begin(database, **options)
        except lmdb.Error as error:
            raise Unavailable(f"the index cannot be read: {error}") from error

    def close(self) -> None:
        """Close the environment; nothing may be reading or writing."""
        self._environment.close()

    def grow(self) -> None:
        """Double the map; no transaction may be open in this process."""
        self._environment.set_mapsize(2 * self._environment.info()["map_size"])

    def get(self, id: str, transaction: lmdb.Transaction | None = None) -> bytes | None:
        """Return the encoded record of *id*, or None, as *transaction* sees it."""
        if transaction is not None:
            return cast(bytes | None, transaction.get(_key(id), db=self._blobs))
        with self._reading(self._blobs) as reading:
            return cast(bytes | None, reading.get(_key(id)))

    def listing(self, after: str | None, limit: int, partition: str | None) -> list[str]:
        """Return up to *limit* ids in order, from behind *after*, of one partition or all."""
        prefix = (partition or "").encode("ascii")
        start = max(prefix, b"" if after is None else _key(after))
        page: list[str] = []
        with self._reading(self._blobs, buffers=True) as transaction:
            cursor = transaction.cursor()
            if not (cursor.set_range(start) if start else cursor.first()):
                return page
            for view in cursor.iternext(keys=True, values=False):
                key = bytes(view)
                if len(page) == limit or not key.startswith(prefix):
                    break
                if after is None or key > start:
                    page.append(key[3:].decode("ascii"))
        return page

    def digests(self) -> dict[str, PartitionDigest]:
        """Return the digest of every partition that holds anything, by its name."""
        with self._reading(self._digests) as transaction:
            return {
                bytes(key).decode("ascii"): _unpack(row)
                for key, row in transaction.cursor().iternext()
            }

    def begin(self) -> lmdb.Transaction:
        """Begin the one write transaction, waiting for any other to end."""
        return self._environment.begin(write=True)

    def add(self, transaction: lmdb.Transaction, record: Record) -> bool:
        """Add *record*, and tell whether its id had none before; else change nothing."""
        key = _key(record.id)
        if not transaction.put(key, records.encode(record), overwrite=False, db=self._blobs):
            return False
        partition = key[:3]
        row = transaction.get(partition, db=self._digests)
        before = PartitionDigest() if row is None else _unpack(row)
        after = before.with_blob(record.size, record.sum())
        transaction.put(partition, _pack(after), db=self._digests)
        return True

    def remove(self, transaction: lmdb.Transaction, id: str) -> None:
        """Remove the record of *id*, sound or damaged, and count its partition anew."""
        transaction.delete(_key(id), db=self._blobs)
        partition = ids.partition(id).encode("ascii")
        left = PartitionDigest()
        with transaction.cursor(self._blobs) as cursor:
            found = cursor.set_range(partition)
            while found and (key := bytes(cursor.key())).startswith(partition):
                try:
                    record = records.decode(key[3:].decode("ascii"), bytes(cursor.value()))
                    left = left.with_blob(record.size, record.sum())
                except Damaged:
                    pass  # is not a blob any more; it is set aside when it is met
                found = cursor.next()
        if left.count:
            transaction.put(partition, _pack(left), db=self._digests)
        else:
            transaction.delete(partition, db=self._digests)


def _key(id: str) -> bytes:
    return ids.sort_key(id).encode("ascii")


def _pack(digest: PartitionDigest) -> bytes:
    return _DIGEST.pack(digest.count, digest.bytes, digest.sum.to_bytes(16, "big"))


def _unpack(row: bytes | memoryview) -> PartitionDigest:
    count, size, sum = _DIGEST.unpack(row)
    return PartitionDigest(count, size, int.from_bytes(sum, "big"))
