"""The record of one blob in Redis, as bytes."""

from __future__ import annotations

import struct

from attrs import frozen
from xxhash import xxh3_128_digest

from sos.model.digest import BlobDigest
from sos.stores import record as records
from sos.stores.block_hashes import HASH_BYTES, Blocks
from sos.stores.record import Damaged, Encoded, Record

#: Bytes of a piece of a larger body. A body up to this size lies beside its head.
PIECE = 512 * 1024

# What the blob adds to the digest of its partition: sum, size in bytes. Scripts read it.
_WEIGHT = struct.Struct(">16sQ")


@frozen
class Held:
    """A blob as stored in Redis: the fields of its hash.

    :param body: the body, if it is up to a piece; otherwise None.
    :param key: the key of its pieces, if it is larger; otherwise None.
    :param hashes: of the pieces, see :attr:`Pieces.sealed`; None if an earlier version stored them.
    """

    head: bytes
    body: bytes | None
    key: bytes | None
    hashes: bytes | None


@frozen
class Pieces:
    """A body in pieces.

    :param key: of its pieces; no other body ever has the same.
    :param hashes: of its pieces, see :meth:`sos.stores.block_hashes.BlockHashes.value`.
    """

    key: str
    hashes: bytes

    @property
    def sealed(self) -> bytes:
        """The hashes, and a hash of the key and them: this proves that they belong to the body.

        An earlier version that replaces a body leaves the hashes of the old one.
        """
        return self.hashes + xxh3_128_digest(self.key.encode("latin-1") + self.hashes)


def encode_head(record: Record) -> bytes:
    """Encode all of *record* but its body."""
    return _weight(record) + records.encode(record).head


def decode(id: str, held: Held) -> Record:
    """Decode the record of *id*, whose body is None if it is in pieces. Raises Damaged."""
    record = records.decode(id, Encoded(held.head[_WEIGHT.size :], held.body))
    if held.head[: _WEIGHT.size] != _weight(record):
        raise Damaged("the counts in the head do not match its record")
    if record.body is None and held.key is None:
        raise Damaged("the body is missing")
    return record


def blocks_of(held: Held) -> Blocks | None:
    """Return the pieces of a body, to verify them; None if their hashes are missing or invalid."""
    if held.key is None or held.hashes is None:
        return None
    pieces = Pieces(held.key.decode("latin-1"), held.hashes[:-HASH_BYTES])
    return Blocks(pieces.hashes, PIECE) if pieces.sealed == held.hashes else None


def blob_digest(id: str, head: bytes) -> BlobDigest:
    """Return the digest of the blob with this *head*; raises Damaged."""
    found = records.blob_digest(id, head[_WEIGHT.size :])
    if found is None:
        raise Damaged("the head marks its body as unreadable")
    return found


def is_tombstone_head(id: str, head: bytes) -> bool:
    """Return whether the *head* is a tombstone's; False if it is damaged."""
    return records.is_tombstone_head(id, head[_WEIGHT.size :])


def pieces_of(size: int) -> int:
    """Return the number of pieces of a body of *size* bytes."""
    return -(-size // PIECE)


def _weight(record: Record) -> bytes:
    return _WEIGHT.pack(record.sum().to_bytes(16, "big"), record.size)
