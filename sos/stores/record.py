"""What a local store and a Redis hold of one blob, as bytes."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from attrs import define, field

from sos.errors import InvalidMetadata
from sos.interfaces import BlobInfo
from sos.model import digest, metadata
from sos.model.digest import BlobDigest

# version, flags, length of the hash, size of the body in bytes, time of storing in
# microseconds since the epoch; behind it the rest of version 2, if it is one, the hash and the
# metadata
_HEAD = struct.Struct("<BBHQQ")
# the stamp, and the milliseconds since the epoch at which the blob expires
_REST = struct.Struct("<QQ")
_CHECKSUM = struct.Struct("<I")
# Version 1 knows the first flag alone.
_INLINE, _UNREADABLE, _PART = 1, 2, 4


class Damaged(Exception):
    """A stored blob is not what was stored; says how that shows."""


@define
class Record:
    """One blob in the index.

    What stands behind the body has room in version 2 alone, and is what version 1 means.

    :param hash: of the body, see :func:`sos.model.digest.hash_of`.
    :param metadata: in canonical form.
    :param body: the body itself, or None when it has a file of its own.
    :param readable: False when the body could not be read: then this is no copy.
    :param root: False for what is a part of an object, and nothing by itself.
    :param stamp: orders what was said of the blob; 0 comes before all.
    :param expires_at: milliseconds since the epoch, 0 for never.
    """

    id: str
    size: int
    hash: bytes = field(repr=bytes.hex)
    metadata: bytes
    stored_at: float
    body: bytes | None = field(repr=False)
    readable: bool = True
    root: bool = True
    stamp: int = 0
    expires_at: int = 0

    def info(self) -> BlobInfo:
        """Describe the blob.  Raises Damaged."""
        try:
            found = metadata.decode(self.metadata)
        except InvalidMetadata as error:
            raise Damaged(str(error)) from error
        return BlobInfo(self.id, self.size, found, self.stored_at)

    def sum(self) -> int:
        """Return what the blob adds to its partition's sum."""
        return digest.record_sum(self.id, self.metadata, self.hash)

    def verify_inline(self) -> None:
        """Raise Damaged unless the inline body is the one that was stored."""
        if self.body is not None and digest.hash_of(self.id, self.body) != self.hash:
            raise Damaged("the body does not match its hash")


class Encoded(NamedTuple):
    """A record as the index keeps it: the inline body, if there is one, lies apart."""

    head: bytes
    body: bytes | None


def encode(record: Record) -> Encoded:
    """Write *record*, with a checksum over all but the body, which has its hash.

    It is of the first version that can hold it, for others may not know the next.
    """
    flags = (
        (_INLINE if record.body is not None else 0)
        | (0 if record.readable else _UNREADABLE)
        | (0 if record.root else _PART)
    )
    more = flags & ~_INLINE or record.stamp or record.expires_at
    covered = _HEAD.pack(
        2 if more else 1,
        flags,
        len(record.hash),
        record.size,
        round(record.stored_at * 1_000_000),
    )
    if more:
        covered += _REST.pack(record.stamp, record.expires_at)
    covered += record.hash + record.metadata
    return Encoded(_CHECKSUM.pack(_checksum(record.id, covered)) + covered, record.body)


def decode(id: str, encoded: Encoded) -> Record:
    """Read what :func:`encode` wrote for *id*; raises Damaged for anything else."""
    record, inline = _decode(id, encoded.head)
    if inline:
        if encoded.body is None or len(encoded.body) != record.size:
            raise Damaged("the inline body is not of the size that was stored")
        record.body = encoded.body
    return record


def weigh(id: str, head: bytes) -> tuple[int, int] | None:
    """Return size and sum, see :meth:`Record.sum`, of the blob with this *head*.

    None if it is marked as unreadable, and so counts for nothing.  Raises Damaged.
    """
    record, _ = _decode(id, head)
    return (record.size, record.sum()) if record.readable else None


def told(id: str, head: bytes) -> BlobDigest | None:
    """Return what is told of the blob with this *head*; None and Damaged as for :func:`weigh`."""
    record, _ = _decode(id, head)
    if not record.readable:
        return None
    return digest.blob_digest(id, record.size, record.info().metadata, record.hash)


def is_marked(head: bytes) -> bool:
    """Tell whether a *head* marks its blob as unreadable, without looking whether it is sound."""
    told = head[_CHECKSUM.size : _CHECKSUM.size + 2]
    return len(told) == 2 and told[0] > 1 and bool(told[1] & _UNREADABLE)


def has_file(id: str, encoded: Encoded | None) -> bool:
    """Tell whether there is a record, and its body may be the file of *id*."""
    if encoded is None:
        return False
    try:
        return decode(id, encoded).body is None
    except Damaged:
        return True


def _decode(id: str, head: bytes) -> tuple[Record, bool]:
    """Return the record without its body, and whether that is inline."""
    covered = head[_CHECKSUM.size :]
    if len(covered) < _HEAD.size:
        raise Damaged("the index record is cut short")
    if _CHECKSUM.unpack_from(head)[0] != _checksum(id, covered):
        raise Damaged("the index record does not match its checksum")
    version, flags, hash_length, size, stored_at = _HEAD.unpack_from(covered)
    stamp = expires_at = 0
    start = _HEAD.size
    if version == 2:
        if len(covered) < start + _REST.size:
            raise Damaged("the index record is cut short")
        stamp, expires_at = _REST.unpack_from(covered, start)
        start += _REST.size
    elif version != 1:
        raise Damaged(f"the index record is of version {version}, and 2 is the latest known")
    stop = start + hash_length
    record = Record(
        id,
        size,
        covered[start:stop],
        covered[stop:],
        stored_at / 1_000_000,
        None,
        not flags & _UNREADABLE,
        not flags & _PART,
        stamp,
        expires_at,
    )
    return record, bool(flags & _INLINE)


def _checksum(id: str, covered: bytes) -> int:
    return zlib.crc32(covered, zlib.crc32(id.encode("ascii")))
