"""The rows of the index, and the transaction that reads and changes them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import lmdb

from sos.model import ids
from sos.model.digest import PartitionDigest
from sos.stores import record as records
from sos.stores.record import Damaged, Encoded, Record

# The key of a blob's inline body, which precedes the head in a row; 0 if there is none.
_NUMBER = struct.Struct(">Q")
_NO_NUMBER = _NUMBER.pack(0)
# The only key in the lease database.
_LEASE = b"lease"

T = TypeVar("T")


class Transaction:
    """A write transaction of the index.

    :param before: the digests by partition, before the transaction.
    :ivar digests: the digests that it has changed, by partition.
    :ivar removed: the ids whose records it has removed.
    """

    def __init__(
        self,
        transaction: lmdb.Transaction,
        bodies: Any,
        lease: Any,
        lost: Any,
        before: dict[bytes, PartitionDigest],
    ) -> None:
        self._transaction = transaction
        self._bodies = bodies
        self._lease = lease
        self._lost = lost
        self._has_lost = transaction.stat(lost)["entries"] > 0
        self._before = before
        self.digests: dict[bytes, PartitionDigest] = {}
        self.removed: set[str] = set()
        with transaction.cursor(bodies) as cursor:
            self._newest = _NUMBER.unpack(cursor.key())[0] if cursor.last() else 0

    def get(self, id: str) -> Encoded | None:
        """Return the encoded record of *id*, or None."""
        return find(self._transaction, self._bodies, id)

    def add(self, record: Record) -> bool:
        """Add *record* and return True; if its id has a record, change nothing, return False."""
        key = key_of(record.id)
        head, body = records.encode(record)
        number = _NO_NUMBER if body is None else _NUMBER.pack(self._newest + 1)
        if not self._transaction.put(key, number + head, overwrite=False):
            return False
        if body is not None:
            self._newest += 1
            self._transaction.put(number, body, db=self._bodies, append=True)
        if record.readable:
            self.clear_lost(record.id)
            partition = key[:3]
            self.digests[partition] = self._digest(partition).with_blob(record.size, record.sum())
        else:
            self.mark_lost(record.id)
        return True

    def mark_lost(self, id: str) -> None:
        """Record *id* as lost: the store had the blob, and its copy is damaged or unreadable."""
        self._transaction.put(id.encode("ascii"), b"", db=self._lost)
        self._has_lost = True

    def clear_lost(self, id: str) -> None:
        """Remove *id* from the lost blobs: it is stored again, or was dropped."""
        if self._has_lost:
            self._transaction.delete(id.encode("ascii"), db=self._lost)

    def _digest(self, partition: bytes) -> PartitionDigest:
        return self.digests.get(partition) or self._before.get(partition, PartitionDigest())

    @property
    def lease(self) -> bytes | None:
        """The row of the lease that was granted last."""
        return cast("bytes | None", self._transaction.get(_LEASE, db=self._lease))

    @lease.setter
    def lease(self, row: bytes) -> None:
        self._transaction.put(_LEASE, row, db=self._lease)

    def remove(self, id: str) -> None:
        """Remove the record of *id*, sound or damaged."""
        self.removed.add(id)
        key = key_of(id)
        row = cast(bytes, self._transaction.pop(key))
        self._transaction.delete(row[: _NUMBER.size], db=self._bodies)
        partition = key[:3]
        try:
            weight = records.weigh(id, row[_NUMBER.size :])
        except Damaged:
            self.digests[partition] = self._counted(partition)
        else:
            if weight is not None:
                self.digests[partition] = self._digest(partition).without_blob(*weight)

    def replace(self, record: Record) -> None:
        """Replace the record that the id of *record* has."""
        self.remove(record.id)
        self.add(record)

    def _counted(self, partition: bytes) -> PartitionDigest:
        """Count *partition* anew: how the digest counted a damaged record is unknown."""
        left = PartitionDigest()
        for id, head in heads_of(self._transaction, partition):
            weight = judged(records.weigh, id, head)
            # Another damaged record no longer counts; a read of it will quarantine it.
            left = left if weight is None else left.with_blob(*weight)
        return left


def find(transaction: lmdb.Transaction, bodies: Any, id: str) -> Encoded | None:
    """Return the encoded record of *id*, or None.

    :param transaction: on the database of records.
    :param bodies: the database of inline bodies.
    """
    row: Any = transaction.get(key_of(id))
    if row is None:
        return None
    number, head = split_row(row)
    body: Any = None if number == _NO_NUMBER else transaction.get(number, db=bodies)
    return Encoded(head, body)


def split_row(row: bytes | memoryview) -> tuple[bytes, bytes]:
    """Split a record's *row* into the key of the inline body, zeros for none, and the head."""
    row = bytes(row)
    return row[: _NUMBER.size], row[_NUMBER.size :]


def heads_of(transaction: lmdb.Transaction, partition: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the ids of *partition*, and the heads of their records."""
    for cursor in rows_from(transaction, partition):
        key = bytes(cursor.key())
        if not key.startswith(partition):
            break
        yield key[3:].decode("ascii"), bytes(cursor.value())[_NUMBER.size :]


def rows_from(transaction: lmdb.Transaction, start: bytes) -> Iterator[lmdb.Cursor]:
    """Yield a cursor at each row from *start* on.

    Search for each row instead of stepping to the next: at a damaged page a search raises an
    error, and a step fails an assertion in LMDB, which kills the process.
    """
    with transaction.cursor() as cursor:
        while cursor.set_range(start) if start else cursor.first():
            key = bytes(cursor.key())
            if key < start:
                raise lmdb.CorruptedError("the rows are out of order")
            yield cursor
            start = key + b"\0"


def judged(judge: Callable[[str, bytes], T | None], id: str, head: bytes) -> T | None:
    """Return the result of *judge* for a record's head, None if the head is damaged."""
    try:
        return judge(id, head)
    except Damaged:
        return None


def key_of(id: str) -> bytes:
    return ids.sort_key(id).encode("ascii")
