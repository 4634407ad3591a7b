"""The digest of every partition: in memory, and in the index as a log.

Each transaction appends one row with the digests that it changes.  That writes one
page for each transaction; a row for each partition would write one page for nearly
every blob.  When the log is long, one row with all partitions replaces it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any

import lmdb

from sos.errors import Unavailable
from sos.model.digest import PartitionDigest

# Most rows of the log, all of which are read when a store is opened.
_MOST_ROWS = 256
_KEY = struct.Struct(">Q")
# partition, number of blobs, bytes of their bodies, sum
_ENTRY = struct.Struct(">3sQQ16s")


class DigestLog:
    """The digests by partition, as the last transaction left them.

    :param database: of the log.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self._lock = Lock()
        self._newest = 0
        self._digests: dict[bytes, PartitionDigest] = {}
        self._named: tuple[int, Mapping[str, PartitionDigest]] = 0, {}

    def read(self, transaction: lmdb.Transaction) -> dict[bytes, PartitionDigest]:
        """Return the digests that *transaction* sees, or newer ones.

        This is always the same mapping, which changes.  Raises Unavailable if the log is
        damaged.
        """
        with self._lock, transaction.cursor(self._database) as log:
            if log.set_range(_KEY.pack(self._newest + 1)):
                for key, row in log.iternext():
                    self._digests.update(unpack(bytes(row)))
                    (self._newest,) = _KEY.unpack(key)
        return self._digests

    def named(self, transaction: lmdb.Transaction) -> Mapping[str, PartitionDigest]:
        """Return the digests of all partitions that hold blobs, by name.

        This is the same mapping until the digests change, then another.
        """
        self.read(transaction)
        with self._lock:
            if self._named[0] != self._newest:
                held = {name.decode(): each for name, each in self._digests.items() if each.count}
                self._named = self._newest, held
            return self._named[1]

    def append(self, transaction: lmdb.Transaction, changed: dict[bytes, PartitionDigest]) -> int:
        """Log the *changed* digests in *transaction*, and return the row's number."""
        number = self._newest + 1
        row = changed
        if transaction.stat(self._database)["entries"] >= _MOST_ROWS:
            transaction.drop(self._database, delete=False)
            row = self._digests | changed
        transaction.put(_KEY.pack(number), _pack(row), db=self._database, append=True)
        return number

    def committed(self, number: int, changed: Mapping[bytes, PartitionDigest]) -> None:
        """Adopt the *changed* digests: the transaction with the row *number* has committed."""
        with self._lock:
            if number == self._newest + 1:  # else a reader has adopted the row already
                self._digests.update(changed)
                self._newest = number


def _pack(digests: Mapping[bytes, PartitionDigest]) -> bytes:
    return b"".join(
        _ENTRY.pack(name, digest.count, digest.bytes, digest.sum.to_bytes(16, "big"))
        for name, digest in digests.items()
    )


def unpack(row: bytes) -> Iterator[tuple[bytes, PartitionDigest]]:
    """Yield the partitions and digests in a *row* of the log.  Raises Unavailable for damage."""
    if len(row) % _ENTRY.size:
        raise Unavailable("the log of partition digests in the index is damaged")
    for name, count, size, sum in _ENTRY.iter_unpack(row):
        if not name.isalnum():
            raise Unavailable("the log of partition digests in the index is damaged")
        yield name, PartitionDigest(count, size, int.from_bytes(sum, "big"))
