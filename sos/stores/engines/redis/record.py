"""What a Redis holds of one blob, as bytes."""

from __future__ import annotations

import struct

from attrs import frozen

from sos.model.digest import BlobDigest
from sos.stores import record as records
from sos.stores.record import Damaged, Encoded, Record

#: Bytes of a piece of a larger body; one that is not larger lies in its record.
PIECE = 512 * 1024

# What the blob adds to its partition, where scripts find it: sum, size in bytes.
_WEIGHT = struct.Struct(">16sQ")


@frozen
class Held:
    """A blob as it lies in Redis: the fields of its hash."""

    head: bytes
    body: bytes | None
    key: bytes | None


def encode_head(record: Record) -> bytes:
    """Write all of *record* but its body."""
    return _weight(record) + records.encode(record).head


def decode(id: str, held: Held) -> Record:
    """Read what is held of *id*; its body is None when it lies in pieces.  Raises Damaged."""
    record = records.decode(id, Encoded(held.head[_WEIGHT.size :], held.body))
    if held.head[: _WEIGHT.size] != _weight(record):
        raise Damaged("the head does not weigh what it tells of")
    if record.body is None and held.key is None:
        raise Damaged("the body is missing")
    return record


def told(id: str, head: bytes) -> BlobDigest:
    """Return what is told of the blob with this *head*; raises Damaged."""
    found = records.told(id, head[_WEIGHT.size :])
    if found is None:
        raise Damaged("the head is marked as that of an unreadable body")
    return found


def pieces_of(size: int) -> int:
    """Return of how many pieces a body of *size* bytes is."""
    return -(-size // PIECE)


def _weight(record: Record) -> bytes:
    return _WEIGHT.pack(record.sum().to_bytes(16, "big"), record.size)
