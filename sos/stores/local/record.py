"""What the index holds of one blob, as bytes."""

from __future__ import annotations

import struct
import zlib

from attrs import field, frozen

from sos import digest, metadata
from sos.errors import InvalidMetadata
from sos.interfaces import BlobInfo

_VERSION = 1
# version, inline body or not, length of the hash and of the metadata, size of
# the body in bytes, time of storing in microseconds since the epoch
_HEAD = struct.Struct("<BBHIQQ")
_CHECKSUM = struct.Struct("<I")


class Damaged(Exception):
    """A stored blob is not what was stored; says how that shows."""


@frozen
class Record:
    """One blob in the index.

    :param hash: of the body, see :func:`sos.digest.hash_of`.
    :param metadata: in canonical form.
    :param body: the body itself, or None when it has a file of its own.
    """

    id: str
    size: int
    hash: bytes = field(repr=bytes.hex)
    metadata: bytes
    stored_at: float
    body: bytes | None = field(repr=False)

    def info(self) -> BlobInfo:
        """Describe the blob.  Raises Damaged."""
        try:
            found = metadata.decode(self.metadata)
        except InvalidMetadata as error:
            raise Damaged(str(error)) from error
        return BlobInfo(self.id, self.size, found, self.stored_at)

    def sum(self) -> int:
        """Return what the blob adds to its partition's sum."""
        return digest.record_sum(self.id, self.metadata)

    def verify_inline(self) -> None:
        """Raise Damaged unless the inline body is the one that was stored."""
        if self.body is not None and digest.hash_of(self.id, self.body) != self.hash:
            raise Damaged("the body does not match its hash")


def encode(record: Record) -> bytes:
    """Write *record*, with a checksum over all but the body, which has its hash."""
    head = _HEAD.pack(
        _VERSION,
        record.body is not None,
        len(record.hash),
        len(record.metadata),
        record.size,
        round(record.stored_at * 1_000_000),
    )
    covered = head + record.hash + record.metadata
    checksum = _CHECKSUM.pack(_checksum(record.id, covered))
    return checksum + covered + (record.body or b"")


def decode(id: str, data: bytes) -> Record:
    """Read what :func:`encode` wrote for *id*; raises Damaged for anything else."""
    head_end = _CHECKSUM.size + _HEAD.size
    if len(data) < head_end:
        raise Damaged("the index record is cut short")
    version, inline, hash_length, metadata_length, size, stored_at = _HEAD.unpack_from(
        data, _CHECKSUM.size
    )
    hash_end = head_end + hash_length
    metadata_end = hash_end + metadata_length
    if _CHECKSUM.unpack_from(data)[0] != _checksum(id, data[_CHECKSUM.size : metadata_end]):
        raise Damaged("the index record does not match its checksum")
    if version != _VERSION:
        raise Damaged(f"the index record is of version {version}, not {_VERSION}")
    body = data[metadata_end:] if inline else None
    if len(data) - metadata_end != (size if inline else 0):
        raise Damaged("the inline body is not of the size that was stored")
    return Record(
        id=id,
        size=size,
        hash=data[head_end:hash_end],
        metadata=data[hash_end:metadata_end],
        stored_at=stored_at / 1_000_000,
        body=body,
    )


def _checksum(id: str, covered: bytes) -> int:
    return zlib.crc32(covered, zlib.crc32(id.encode("ascii")))
