"""The record of one blob in the table of blobs."""

from __future__ import annotations

import zlib

from attrs import evolve, field, frozen

from sos.errors import BodyError, InvalidMetadata
from sos.interfaces import BlobInfo
from sos.model import digest, ids, merge, metadata
from sos.model.metadata import Metadata, is_tombstone


class Damaged(BodyError):
    """The stored blob with this *record* is damaged; the message says how."""

    def __init__(self, record: Record, reason: str) -> None:
        super().__init__(reason)
        self.record = record


@frozen
class Record:
    """The record of one blob.

    :param hash: the hash of the body, see :func:`sos.model.digest.hash_of`.
    :param metadata: in canonical form.
    :param body: the body itself if it is small, otherwise None.
    :param pieces: the number of its body in pieces if that is larger, otherwise None.
    :param checksum: of id, size, hash and metadata.
    :param stored_at: in seconds since the epoch, by the server's clock.
    :param row: the version of the row (``xmin``), which every change changes.
    """

    id: str
    size: int
    hash: bytes = field(repr=bytes.hex)
    metadata: str
    body: bytes | None = field(repr=False)
    pieces: int | None
    checksum: int
    stored_at: float = 0.0
    row: str = ""

    @property
    def key(self) -> str:
        """The primary key, which orders the table."""
        return ids.sort_key(self.id)

    @property
    def sum(self) -> int:
        """The contribution of the blob to the sum of its partition."""
        return digest.record_sum(self.id, self.metadata.encode(), self.hash)

    def info(self) -> BlobInfo:
        """Describe the blob.  Raises Damaged."""
        if self.checksum != checksum(self.id, self.size, self.hash, self.metadata):
            raise Damaged(self, "the record does not match its checksum")
        if (self.body is None) == (self.pieces is None):
            raise Damaged(self, "the record must have exactly one body")
        try:
            found = metadata.decode(self.metadata.encode())
        except InvalidMetadata as error:
            raise Damaged(self, str(error)) from error
        return BlobInfo(self.id, self.size, found, self.stored_at)

    def live_info(self) -> BlobInfo:
        """Describe the blob; raise Deleted if the object was deleted, Damaged."""
        info = self.info()
        if is_tombstone(info.metadata):
            raise merge.deleted(self.id, info.metadata)
        return info

    def with_metadata(self, kept: Metadata) -> Record:
        """Return this record with the metadata *kept*."""
        text = metadata.encode(kept).decode()
        return evolve(self, metadata=text, checksum=checksum(self.id, self.size, self.hash, text))

    def verify_inline(self) -> None:
        """Raise Damaged unless the inline body matches size and hash."""
        assert self.body is not None
        if len(self.body) != self.size or digest.hash_of(self.id, self.body) != self.hash:
            raise Damaged(self, "the body does not match its hash")


def tombstone(id: str, kept: Metadata) -> Record:
    """Return the tombstone of *id*: a record of its metadata *kept*, with an empty body."""
    hash, text = digest.hash_of(id, b""), metadata.encode(kept).decode()
    return Record(id, 0, hash, text, b"", None, checksum(id, 0, hash, text))


def checksum(id: str, size: int, hash: bytes, metadata: str) -> int:
    """Return the checksum of a record with these fields."""
    return zlib.crc32(b"%s %d %s %s" % (id.encode(), size, hash, metadata.encode()))
