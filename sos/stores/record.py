"""The record of one blob, and its encoding in a local store and in Redis."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from attrs import define, evolve, field

from sos.errors import BodyError, InvalidMetadata
from sos.interfaces import BlobInfo
from sos.model import digest, metadata
from sos.model.digest import BlobDigest
from sos.model.merge import replaces_body

# version, flags, length of the hash, size of the body in bytes, time of storing in
# microseconds since the epoch; then, in version 2, _REST; then the hash and the metadata
_HEAD = struct.Struct("<BBHQQ")
# the stamp, and when the blob expires, in milliseconds since the epoch
_REST = struct.Struct("<QQ")
_CHECKSUM = struct.Struct("<I")
# Version 1 has only the first flag.
_INLINE, _UNREADABLE, _PART = 1, 2, 4


class Damaged(BodyError):
    """A stored blob differs from the one that was stored; says how."""


@define
class Record:
    """One blob in the index.

    Only version 2 of the encoding can hold other values than the defaults.

    :param size: of the body, in bytes.
    :param hash: of the body, see :func:`sos.model.digest.hash_of`.
    :param metadata: in canonical form.
    :param stored_at: seconds since the epoch.
    :param body: the inline body, or None if it is in a file.
    :param readable: False if the body could not be read: then this does not count as a copy.
    :param root: False for a part of an object, which is no object itself.
    :param stamp: orders the changes to this id; 0 comes first.  Nothing sets it yet.
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
        """Return what a store reports about the blob.  Raises Damaged."""
        try:
            found = metadata.decode(self.metadata)
        except InvalidMetadata as error:
            raise Damaged(str(error)) from error
        return BlobInfo(self.id, self.size, found, self.stored_at)

    def sum(self) -> int:
        """Return the number that the blob adds to its partition's sum."""
        return digest.record_sum(self.id, self.metadata, self.hash)

    def verify_inline(self) -> None:
        """Raise Damaged unless the inline body, if there is one, matches its hash."""
        if self.body is not None and digest.hash_of(self.id, self.body) != self.hash:
            raise Damaged("the body does not match its hash")


def successor(stored: Record, received: Record) -> Record | None:
    """Return the record that replaces *stored*, None if *stored* stays.

    :param received: the record of another body with the same id; the successor has its body.
    :raises Conflict: if neither body is a manifest, or the id says nothing about the body.
    """
    metadatas = metadata.decode(stored.metadata), metadata.decode(received.metadata)
    kept = replaces_body(stored.id, *metadatas)
    return None if kept is None else evolve(received, metadata=metadata.encode(kept))


class Encoded(NamedTuple):
    """A record as the index keeps it: a head, and an inline body in another database."""

    head: bytes
    body: bytes | None


def encode(record: Record) -> Encoded:
    """Encode *record*, with a checksum over all but the body, which the hash covers.

    The encoding has the lowest version that can hold the record: older releases do not know
    version 2.
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
    stamp = expires_at = 0
    start = _HEAD.size
    if version == 2:
        if len(covered) < start + _REST.size:
            raise Damaged("the index record is truncated")
        stamp, expires_at = _REST.unpack_from(covered, start)
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
        not flags & _PART,
        stamp,
        expires_at,
    )
    return record, bool(flags & _INLINE)


def _checksum(id: str, covered: bytes) -> int:
    return zlib.crc32(covered, zlib.crc32(id.encode("ascii")))
