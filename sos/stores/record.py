"""What a local store and a Redis hold of one blob, as bytes."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from attrs import define, field

from sos import digest, metadata
from sos.digest import BlobDigest
from sos.errors import InvalidMetadata
from sos.interfaces import BlobInfo

_VERSION = 1
# version, inline body or not, length of the hash, size of the body in bytes,
# time of storing in microseconds since the epoch; hash and metadata follow
_HEAD = struct.Struct("<BBHQQ")
_CHECKSUM = struct.Struct("<I")


class Damaged(Exception):
    """A stored blob is not what was stored; says how that shows."""


@define
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
    """Write *record*, with a checksum over all but the body, which has its hash."""
    head = _HEAD.pack(
        _VERSION,
        record.body is not None,
        len(record.hash),
        record.size,
        round(record.stored_at * 1_000_000),
    )
    covered = head + record.hash + record.metadata
    return Encoded(_CHECKSUM.pack(_checksum(record.id, covered)) + covered, record.body)


def decode(id: str, encoded: Encoded) -> Record:
    """Read what :func:`encode` wrote for *id*; raises Damaged for anything else."""
    inline, size, hash, metadata, stored_at = _fields(id, encoded.head)
    if inline and (encoded.body is None or len(encoded.body) != size):
        raise Damaged("the inline body is not of the size that was stored")
    return Record(id, size, hash, metadata, stored_at, encoded.body if inline else None)


def weigh(id: str, head: bytes) -> tuple[int, int]:
    """Return size and sum, see :meth:`Record.sum`, of the blob with this *head*; raises Damaged."""
    _, size, hash, metadata, _ = _fields(id, head)
    return size, digest.record_sum(id, metadata, hash)


def told(id: str, head: bytes) -> BlobDigest:
    """Return what is told of the blob with this *head*; raises Damaged."""
    _, size, hash, encoded, _ = _fields(id, head)
    try:
        return digest.blob_digest(id, size, metadata.decode(encoded), hash)
    except InvalidMetadata as error:
        raise Damaged(str(error)) from error


def has_file(id: str, encoded: Encoded | None) -> bool:
    """Tell whether there is a record, and its body may be the file of *id*."""
    if encoded is None:
        return False
    try:
        return decode(id, encoded).body is None
    except Damaged:
        return True


def _fields(id: str, head: bytes) -> tuple[bool, int, bytes, bytes, float]:
    """Return inline or not, size, hash, metadata, and time of storing."""
    covered = head[_CHECKSUM.size :]
    if len(covered) < _HEAD.size:
        raise Damaged("the index record is cut short")
    if _CHECKSUM.unpack_from(head)[0] != _checksum(id, covered):
        raise Damaged("the index record does not match its checksum")
    version, inline, hash_length, size, stored_at = _HEAD.unpack_from(covered)
    if version != _VERSION:
        raise Damaged(f"the index record is of version {version}, not {_VERSION}")
    hash_end = _HEAD.size + hash_length
    return inline, size, covered[_HEAD.size : hash_end], covered[hash_end:], stored_at / 1_000_000


def _checksum(id: str, covered: bytes) -> int:
    return zlib.crc32(covered, zlib.crc32(id.encode("ascii")))
