"""The record of one blob, and its encoding in a local store and in Redis."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from attrs import define, evolve, field

from sos.errors import BodyError, InvalidMetadata
from sos.interfaces import BlobInfo
from sos.model import digest, merge, metadata
from sos.model.digest import BlobDigest
from sos.model.metadata import DELETED_AT, Metadata, is_tombstone

# version, flags, length of the hash, size of the body in bytes, time of storing in
# microseconds since the epoch; then, in version 2, _REST; then the hash and the metadata
_HEAD = struct.Struct("<BBHQQ")
# In version 2, two numbers that nothing uses.
_REST = struct.Struct("<QQ")
_CHECKSUM = struct.Struct("<I")
# Version 1 has only the first flag.
_INLINE, _UNREADABLE = 1, 2
# In the metadata of all tombstones, and of few others.
_DELETED_AT = DELETED_AT.encode("ascii")


class Damaged(BodyError):
    """A stored blob differs from the one that was stored; says how."""


@define
class Record:
    """One blob in the index.

    :param size: of the body, in bytes.
    :param hash: of the body, see :func:`sos.model.digest.hash_of`.
    :param metadata: in canonical form.
    :param stored_at: seconds since the epoch.
    :param body: the inline body, or None if it is in a file.
    :param readable: False if the body could not be read: then this does not count as a copy.
    """

    id: str
    size: int
    hash: bytes = field(repr=bytes.hex)
    metadata: bytes
    stored_at: float
    body: bytes | None = field(repr=False)
    readable: bool = True

    def info(self) -> BlobInfo:
        """Return what a store reports about the blob.  Raises Damaged."""
        try:
            found = metadata.decode(self.metadata)
        except InvalidMetadata as error:
            raise Damaged(str(error)) from error
        return BlobInfo(self.id, self.size, found, self.stored_at)

    def live_info(self) -> BlobInfo:
        """Return the same; raise Deleted if the object was deleted."""
        info = self.info()
        if is_tombstone(info.metadata):
            raise merge.deleted(self.id, info.metadata)
        return info

    @property
    def is_tombstone(self) -> bool:
        """Whether the object was deleted, see :mod:`sos.model.merge`.  Raises Damaged."""
        return _DELETED_AT in self.metadata and is_tombstone(self.info().metadata)

    def sum(self) -> int:
        """Return the number that the blob adds to its partition's sum."""
        return digest.record_sum(self.id, self.metadata, self.hash)

    def verify_inline(self) -> None:
        """Raise Damaged unless the inline body, if there is one, matches its hash."""
        if self.body is not None and digest.hash_of(self.id, self.body) != self.hash:
            raise Damaged("the body does not match its hash")


def joined(stored: Record, received: Record, same: bool) -> tuple[Record, bool]:
    """Return the record of a blob after another copy has come, and whether that has the body.

    See :func:`sos.model.merge.join`, also for the errors.
    """
    metadatas = metadata.decode(stored.metadata), metadata.decode(received.metadata)
    kept, takes = merge.join(stored.id, *metadatas, same)
    return evolve(received if takes else stored, metadata=metadata.encode(kept)), takes


def tombstone(id: str, kept: Metadata, stored_at: float) -> Record:
    """Return the tombstone of *id*: a record of its metadata *kept*, with an empty body."""
    hash = digest.hash_of(id, b"")
    return Record(id, 0, hash, metadata.encode(kept), stored_at, b"")


class Encoded(NamedTuple):
    """A record as the index keeps it: a head, and an inline body in another database."""

    head: bytes
    body: bytes | None


def encode(record: Record) -> Encoded:
    """Encode *record*, with a checksum over all but the body, which the hash covers.

    The encoding has the lowest version that can hold the record: older releases do not know
    version 2.
    """
    flags = (_INLINE if record.body is not None else 0) | (0 if record.readable else _UNREADABLE)
    covered = _HEAD.pack(
        1 if record.readable else 2,
        flags,
        len(record.hash),
        record.size,
        round(record.stored_at * 1_000_000),
    )
    if not record.readable:
        covered += _REST.pack(0, 0)
    covered += record.hash + record.metadata
    return Encoded(_CHECKSUM.pack(_checksum(record.id, covered)) + covered, record.body)


def decode(id: str, encoded: Encoded) -> Record:
    """Decode the record of *id*, as :func:`encode` wrote it; raise Damaged for anything else."""
    record, inline = _decode(id, encoded.head)
    if inline:
        if encoded.body is None or len(encoded.body) != record.size:
            raise Damaged("the inline body does not have the size that was stored")
        record.body = encoded.body
    return record


def weigh(id: str, head: bytes) -> tuple[int, int] | None:
    """Return size in bytes and :meth:`~Record.sum` of the blob with this *head*.

    Return None if it is marked as unreadable and so does not count.  Raises Damaged.
    """
    record, _ = _decode(id, head)
    return (record.size, record.sum()) if record.readable else None


def blob_digest(id: str, head: bytes) -> BlobDigest | None:
    """Return the digest of the blob with this *head*; None and Damaged as for :func:`weigh`."""
    record, _ = _decode(id, head)
    if not record.readable:
        return None
    return digest.blob_digest(id, record.size, record.info().metadata, record.hash)


def is_marked(head: bytes) -> bool:
    """Return whether a *head* marks its blob as unreadable, without verifying its checksum."""
    version_and_flags = head[_CHECKSUM.size : _CHECKSUM.size + 2]
    return (
        len(version_and_flags) == 2
        and version_and_flags[0] > 1
        and bool(version_and_flags[1] & _UNREADABLE)
    )


def is_tombstone_head(id: str, head: bytes) -> bool:
    """Return whether a *head* is a tombstone's; False if it is damaged."""
    if _DELETED_AT not in head:
        return False
    try:
        return _decode(id, head)[0].is_tombstone
    except Damaged:
        return False


def has_file(id: str, encoded: Encoded | None) -> bool:
    """Return whether there is a record whose body is in a file, or may be: it is damaged."""
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
        raise Damaged("the index record is truncated")
    if _CHECKSUM.unpack_from(head)[0] != _checksum(id, covered):
        raise Damaged("the index record does not match its checksum")
    version, flags, hash_length, size, stored_at = _HEAD.unpack_from(covered)
    start = _HEAD.size
    if version == 2:
        if len(covered) < start + _REST.size:
            raise Damaged("the index record is truncated")
        start += _REST.size
    elif version != 1:
        raise Damaged(
            f"the index record has version {version}, but this program knows none after 2"
        )
    stop = start + hash_length
    record = Record(
        id,
        size,
        covered[start:stop],
        covered[stop:],
        stored_at / 1_000_000,
        None,
        not flags & _UNREADABLE,
    )
    return record, bool(flags & _INLINE)


def _checksum(id: str, covered: bytes) -> int:
    return zlib.crc32(covered, zlib.crc32(id.encode("ascii")))
