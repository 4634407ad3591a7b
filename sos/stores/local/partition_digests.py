"""The digest of every partition: in memory, and in the index as a log.

What a transaction makes of the digests is one row of the log, which costs a
page for each transaction, where a row for each partition would cost one for
nearly every blob.  When the log is long, one row with every partition in it
takes its place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any

import lmdb

from sos.errors import Unavailable
from sos.model.digest import PartitionDigest

# Most rows: what has to be read when a store is opened.
_MOST_ROWS = 256
_KEY = struct.Struct(">Q")
# partition, number of blobs, bytes of their bodies, sum
_ENTRY = struct.Struct(">3sQQ16s")


class DigestLog:
    """The digests by the name of their partition, as the last transaction left them.

    :param database: holds the log.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self._lock = Lock()
        self._newest = 0
        self._digests: dict[bytes, PartitionDigest] = {}
        self._named: tuple[int, Mapping[str, PartitionDigest]] = 0, {}

    def read(self, transaction: lmdb.Transaction) -> dict[bytes, PartitionDigest]:
        """Return the digests that *transaction* sees, or newer ones.

        It is the same mapping each time.  Raises Unavailable when the log is
        damaged.
        """
        with self._lock, transaction.cursor(self._database) as log:
            if log.set_range(_KEY.pack(self._newest + 1)):
                for key, row in log.iternext():
                    self._digests.update(unpack(bytes(row)))
                    (self._newest,) = _KEY.unpack(key)
        return self._digests

    def named(self, transaction: lmdb.Transaction) -> Mapping[str, PartitionDigest]:
        """Return the digests of partitions that hold anything.

        It is another mapping once they have changed, and then alone.
        """
        self.read(transaction)
        with self._lock:
            if self._named[0] != self._newest:
                held = {name.decode(): each for name, each in self._digests.items() if each.count}
                self._named = self._newest, held
            return self._named[1]

    def append(self, transaction: lmdb.Transaction, changed: dict[bytes, PartitionDigest]) -> int:
        """Log that *transaction* makes *changed* of the digests, and return the row's number."""
        number = self._newest + 1
        row = changed
        if transaction.stat(self._database)["entries"] >= _MOST_ROWS:
            transaction.drop(self._database, delete=False)
            row = self._digests | changed
        transaction.put(_KEY.pack(number), _pack(row), db=self._database, append=True)
        return number

    def committed(self, number: int, changed: Mapping[bytes, PartitionDigest]) -> None:
        """Take over *changed*: the row of this *number* is in the index."""
        with self._lock:
            if number == self._newest + 1:  # else it has been read already
                self._digests.update(changed)
                self._newest = number


def _pack(digests: Mapping[bytes, PartitionDigest]) -> bytes:
    return b"".join(
        _ENTRY.pack(name, digest.count, digest.bytes, digest.sum.to_bytes(16, "big"))
        for name, digest in digests.items()
    )


def unpack(row: bytes) -> Iterator[tuple[bytes, PartitionDigest]]:
    """Read a row of the log: digests by partition.  Raises Unavailable when it is damaged."""
    if len(row) % _ENTRY.size:
        raise Unavailable("the log of digests is damaged")
    for name, count, size, sum in _ENTRY.iter_unpack(row):
        if not name.isalnum():
            raise Unavailable("the log of digests is damaged")
        yield name, PartitionDigest(count, size, int.from_bytes(sum, "big"))
