"""Hashes: of one body against its id, and of a partition as a whole."""

from __future__ import annotations

import hashlib
from functools import partial

from attrs import field, frozen

from sos.errors import Conflict, Incomplete, Mismatch
from sos.model import ids, manifest
from sos.model import metadata as metadata_format
from sos.model.merge import STORED_ONCE, Times, times
from sos.model.metadata import Metadata

# By the name of the algorithm; None for blobs with opaque names, which do not
# say which.
_HASHES = {
    "sha1": partial(hashlib.sha1, usedforsecurity=False),
    "sha256": partial(hashlib.sha256, usedforsecurity=False),
    None: partial(hashlib.sha256, usedforsecurity=False),
}

_SUM_BYTES = 16
_SUM_MODULUS = 1 << (8 * _SUM_BYTES)


class BodyDigest:
    """A running hash and size of a body, piece by piece.

    :param id: the id of the body, or None for its hash.
    :param algorithm: the hash for that (``sha1`` or ``sha256``).
    :param expected_size: in bytes, where it was announced.
    """

    def __init__(
        self,
        id: str | None,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        expected_size: int | None = None,
    ) -> None:
        self._id = id
        self._expected_size = expected_size
        self._by_content = algorithm if id is None else ids.algorithm(id)
        self._hash = _HASHES[self._by_content]()
        self.size = 0

    def update(self, piece: bytes) -> None:
        """Add the next *piece*."""
        self._hash.update(piece)
        self.size += len(piece)

    def value(self) -> bytes:
        """Return the hash of the pieces so far."""
        return self._hash.digest()

    def verified_id(self) -> str:
        """Return the id of the whole body.

        Raises :exc:`~sos.errors.Incomplete` if it does not have the expected
        size, :exc:`~sos.errors.Mismatch` if it does not hash to its id.
        """
        self._check_size()
        if self._id is None:
            return self._hash.hexdigest()
        if self._by_content is not None and self._hash.hexdigest() != self._id:
            raise Mismatch(f"the body hashes to {self._hash.hexdigest()}, not to its id {self._id}")
        return self._id

    def _check_size(self) -> None:
        if self._expected_size not in (None, self.size):
            raise Incomplete(f"{self.size} bytes arrived, but {self._expected_size} were announced")


class ManifestDigest(BodyDigest):
    """A running hash and size of a body that has to be the manifest of the object *id*.

    It buffers the body, because only a whole manifest can be parsed.

    :param mark: the value of the header that marks it, see :mod:`sos.model.manifest`.
    """

    def __init__(
        self, id: str | None, mark: str, algorithm: str, expected_size: int | None
    ) -> None:
        super().__init__(id, algorithm, expected_size)
        self._mark = mark
        self._pieces: list[bytes] = []

    def update(self, piece: bytes) -> None:
        """Add the next *piece*; raise Mismatch if the body is too long for a manifest."""
        super().update(piece)
        if self.size > manifest.MAX_BYTES:
            self._pieces.clear()
            raise Mismatch(f"the manifest is larger than {manifest.MAX_BYTES} bytes")
        self._pieces.append(piece)

    def verified_id(self) -> str:
        """Return the id of the object.

        Raises :exc:`~sos.errors.Incomplete` if the body does not have the
        expected size, :exc:`~sos.errors.Mismatch` if it is not the object's
        manifest.
        """
        self._check_size()
        if self._id is None:
            raise Mismatch("the manifest was sent without the id of its object")
        manifest.parse(b"".join(self._pieces), self._id, self._mark)
        return self._id


def body_digest(
    id: str | None,
    metadata: Metadata,
    algorithm: str = ids.DEFAULT_ALGORITHM,
    expected_size: int | None = None,
) -> BodyDigest:
    """Return a digest to verify a blob's body, as a manifest if *metadata* marks it as one.

    See :class:`BodyDigest` for the arguments.
    """
    mark = metadata.get(manifest.MARK)
    if mark is None:
        return BodyDigest(id, algorithm, expected_size)
    return ManifestDigest(id, mark, algorithm, expected_size)


def hash_of(id: str, body: bytes) -> bytes:
    """Return the hash by which *body*, stored under *id*, is verified."""
    return _HASHES[ids.algorithm(id)](body).digest()


def record_sum(id: str, encoded_metadata: bytes, hash: bytes) -> int:
    """Return the 128-bit number that one blob adds to its partition's sum.

    The time at which metadata was set does not count, because older servers keep none.

    :param encoded_metadata: the canonical form, see :func:`sos.model.metadata.encode`.
    :param hash: of the body, see :func:`hash_of`; it counts for opaque names only.
    """
    data = id.encode("ascii") + b"\0" + metadata_format.untimed(encoded_metadata)
    if ids.algorithm(id) is None:
        data += b"\0" + hash
    return int.from_bytes(hashlib.blake2b(data, digest_size=_SUM_BYTES).digest(), "big")


@frozen
class PartitionDigest:
    """A digest of one partition: equal on two servers when they hold the same blobs.

    :param count: number of blobs.
    :param bytes: size of their bodies together.
    :param sum: sum of their :func:`record_sum`, modulo 2**128.
    """

    count: int = 0
    bytes: int = 0
    sum: int = 0

    def with_blob(self, size: int, sum: int) -> PartitionDigest:
        """Return this digest with one more blob, of *size* bytes and record sum *sum*."""
        return PartitionDigest(self.count + 1, self.bytes + size, (self.sum + sum) % _SUM_MODULUS)

    def without_blob(self, size: int, sum: int) -> PartitionDigest:
        """Return this digest without one of its blobs: the reverse of :meth:`with_blob`."""
        return PartitionDigest(self.count - 1, self.bytes - size, (self.sum - sum) % _SUM_MODULUS)


@frozen
class BlobDigest:
    """A digest of one copy of a blob, to compare with the others.

    :param size: of its body, in bytes.
    :param version: of its metadata, see :func:`sos.model.metadata.version`.
    :param hash: of its body in hex if the id is an opaque name, else empty.
    :param set_at: see :func:`sos.model.metadata.set_at`; it does not count for equality.
    :param times: when it was stored and deleted; they do not count either.
    """

    size: int
    version: str
    hash: str = ""
    set_at: int = field(default=0, eq=False)
    times: Times = field(default=STORED_ONCE, eq=False)

    @property
    def is_manifest(self) -> bool:
        """Whether it is the manifest of an object."""
        return self.version.startswith("1")

    @property
    def is_tombstone(self) -> bool:
        """Whether its object was deleted, and it has no body."""
        return self.version.startswith("2")

    @property
    def order(self) -> tuple[str, int, str]:
        """Its sort key among the blob's copies, see :func:`sos.model.metadata.order`."""
        return metadata_format.order(self.version, self.set_at)


def blob_digest(id: str, size: int, metadata: Metadata, hash: bytes) -> BlobDigest:
    """Return the digest of a blob.

    :param size: of its body, in bytes.
    :param hash: of its body, see :func:`hash_of`.
    """
    return BlobDigest(
        size,
        metadata_format.version(metadata),
        "" if ids.algorithm(id) else hash.hex(),
        metadata_format.set_at(metadata),
        times(metadata),
    )


def check_held(id: str, held: BlobDigest, known: BlobDigest | None) -> None:
    """Raise :exc:`~sos.errors.Conflict` if a blob has changed since it was listed.

    :param held: its digest now.
    :param known: its digest when it was listed; None accepts any.
    """
    if known not in (None, held):
        raise Conflict(f"{id} has changed since it was listed")
