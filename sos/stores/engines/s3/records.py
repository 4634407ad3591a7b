"""The format of a store in a bucket: its keys and their contents.

A blob is a body, whose object fields hold the metadata, and a *marker*: an empty object whose
key contains what listings and digests need::

    blobs/PPP/ID                        the body; fields sos-0, sos-1... hold its metadata,
                                        sos-hashes-0... the hashes of its blocks
    index/PPP/ID/SIZE-VERSION-SUM       its marker; of an opaque name SIZE-VERSION-SUM-HASH;
                                        then the times that there are, -sSTOREDpPARTdDELETEDeEND
    metadata/PPP/ID/VERSION             a sidecar: metadata that are too long for fields
    metadata/PPP/ID/hashes-SUM          a sidecar: block hashes that are too long for fields
    quarantine/PPP/ID-TIME              a damaged body
    lease/NUMBER                        the lease, which allows drops
    store.json                          the format and the id of the store

The body is authoritative; the marker only repeats what the body says. A blob without a marker
can be read but is not listed. Storing it again adds the marker.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from uuid import UUID

from attrs import astuple, frozen
from xxhash import xxh3_128_hexdigest

from sos.errors import InvalidRequest, Unavailable
from sos.model import ids
from sos.model import metadata as metadata_format
from sos.model.digest import BlobDigest, blob_digest, record_sum
from sos.model.merge import STORED_ONCE, Times
from sos.model.metadata import DELETED_AT, PART_AT, STORED_AT, Metadata
from sos.stores.block_hashes import BLOCK, HASH_BYTES, Blocks

#: The key of the document that identifies the store.
STORE_KEY = "store.json"
_STORE = {"format": "sos s3 store", "version": 1}
#: The prefix of the keys of markers.
INDEX = "index/"

# S3 allows 2 KiB for all fields, Swift 256 bytes for each.
_ALL_FIELDS_SIZE = 2048
_FIELD_SIZE = 240
_MOST_FIELDS = 7
_ELSEWHERE = "sos-at"
_HASH = "sos-sha256"
_HASHES = "sos-hashes"
_HASHES_ELSEWHERE = "sos-hashes-at"
# Most bytes of block hashes, those of a body of 64 GiB: each read of a part reads the sidecar.
_MOST_HASHES = 4 * 1024 * 1024

_MARKER = re.compile(
    r"index/([0-9a-f]{3})/([0-9a-z]{1,128})/([0-9]{1,19})-([012][0-9a-f]{64})-([0-9a-f]{32})"
    r"(?:-([0-9a-f]{64}))?"
    r"(?:-(?=[spde])(?:s([0-9]{1,15}))?(?:p([0-9]{1,15}))?(?:d([0-9]{1,15}))?(?:e([0-9]{1,15}))?)?"
)
_TIMES = frozenset((STORED_AT, PART_AT, DELETED_AT))
_SHA256 = re.compile("[0-9a-f]{64}")
_VERSION = re.compile("[012][0-9a-f]{64}")
_SUM = re.compile("[0-9a-f]{32}")


def document(id: str) -> bytes:
    """Return the document of the store *id*, a UUID."""
    return json.dumps(_STORE | {"id": id}, separators=(",", ":")).encode("ascii") + b"\n"


def id_in(document: bytes) -> str | None:
    """Return the id in the *document* of a store; None if the store is older than ids.

    Raises ValueError if it is no such document, or of another format.
    """
    try:
        found = json.loads(document)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict) or {name: found.get(name) for name in _STORE} != _STORE:
        raise ValueError("it has another format")
    id = found.get("id")
    if id is None:
        return None
    if not isinstance(id, str):
        raise ValueError("its id is not a string")
    return str(UUID(id))


@frozen
class Marker:
    """A marker, decoded from its key.

    :param size: the size of the body in bytes.
    :param version: the version of the metadata, see :func:`sos.model.metadata.version`.
    :param sum: see :func:`sos.model.digest.record_sum`.
    :param hash: the hash of the body, see :class:`sos.model.digest.BlobDigest`.
    :param times: of the blob, if its metadata has more of them than
        :data:`~sos.model.metadata.SET_AT`.
    """

    id: str
    size: int
    version: str
    sum: int
    hash: str = ""
    times: Times = STORED_ONCE

    @property
    def key(self) -> str:
        """The key of the marker."""
        facts = f"{self.size}-{self.version}-{self.sum:032x}"
        key = f"{markers_of(self.id)}{facts}-{self.hash}".removesuffix("-")
        if self.times == STORED_ONCE:
            return key
        named = zip("spde", astuple(self.times), strict=True)
        return f"{key}-{''.join(f'{name}{time}' for name, time in named if time is not None)}"

    @property
    def digest(self) -> BlobDigest:
        """The digest of the blob."""
        return BlobDigest(self.size, self.version, self.hash, times=self.times)


def marker(id: str, size: int, metadata: Metadata, hash: str | None) -> Marker:
    """Return the marker of a blob.

    :param hash: the SHA-256 of the body in hex, if the id is not a hash.
    """
    known = bytes.fromhex(hash or "")
    digest = blob_digest(id, size, metadata, known)
    sum = record_sum(id, metadata_format.encode(metadata), known)
    # The version covers these times: so equal versions have equal markers.
    times = STORED_ONCE if metadata.keys().isdisjoint(_TIMES) else digest.times
    return Marker(id, size, digest.version, sum, digest.hash, times)


def read_marker(key: str) -> Marker | None:
    """Decode the key of a marker; None if it is not one."""
    match = _MARKER.fullmatch(key)
    if match is None or ids.partition(match[2]) != match[1]:
        return None
    named = [int(time) if time else None for time in match.groups()[6:]]
    times = STORED_ONCE if named == [None] * 4 else Times(*named)
    return Marker(match[2], int(match[3]), match[4], int(match[5], 16), match[6] or "", times)


def body_key(id: str) -> str:
    """Return the key of the body of *id*."""
    return f"blobs/{ids.partition(id)}/{id}"


def markers_of(id: str) -> str:
    """Return the prefix of the keys of the markers of *id*."""
    return f"{INDEX}{ids.partition(id)}/{id}/"


def behind(id: str) -> str:
    """Return a key after all markers of *id* and before those of the next id."""
    return f"{INDEX}{ids.partition(id)}/{id}0"  # "0" follows "/" in ASCII


def sidecar_key(id: str, version: str) -> str:
    """Return the key of the sidecar, for metadata that are too long for fields."""
    return f"metadata/{ids.partition(id)}/{id}/{version}"


def hashes_key(id: str, sum: str) -> str:
    """Return the key of the sidecar for block hashes; *sum* is their XXH3-128 in hex."""
    return sidecar_key(id, f"hashes-{sum}")


def quarantine_key(id: str, now: float) -> str:
    """Return the key for a damaged body; *now* is in seconds since the epoch."""
    return f"quarantine/{ids.partition(id)}/{id}-{int(now * 1000)}"


def to_fields(metadata: Metadata, hash: str | None) -> tuple[dict[str, str], bytes | None]:
    """Return the fields of an object, and the content of its sidecar if it needs one.

    Metadata can be any bytes, but fields are ASCII, and servers may change the case of their
    names: so the fields hold the Base64 of the JSON.

    :param hash: the SHA-256 of the body in hex, if the id is not a hash.
    """
    fields = {} if hash is None else {_HASH: hash}
    if not metadata:
        return fields, None
    encoded = metadata_format.encode(metadata)
    found = _to_numbered("sos", encoded)
    if len(found) > _MOST_FIELDS:
        return fields | {_ELSEWHERE: metadata_format.version(metadata)}, encoded
    return fields | found, None


def hashes_to_fields(hashes: bytes, others: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that hold the block *hashes* of a body, or the sum of their sidecar.

    There are none for a body of one block, which is verified by its id.

    :param others: the other fields of the object.
    """
    if not HASH_BYTES < len(hashes) <= _MOST_HASHES:
        return {}
    fields = _to_numbered(_HASHES, hashes)
    size = sum(len(f"x-amz-meta-{name}{value}") for name, value in {**fields, **others}.items())
    if size <= _ALL_FIELDS_SIZE:
        return fields
    return {_HASHES_ELSEWHERE: xxh3_128_hexdigest(hashes)}


def _to_numbered(name: str, content: bytes) -> dict[str, str]:
    text = b64encode(content).decode("ascii")
    starts = range(0, len(text), _FIELD_SIZE)
    return {f"{name}-{n}": text[start : start + _FIELD_SIZE] for n, start in enumerate(starts)}


def _from_numbered(name: str, fields: Mapping[str, str]) -> bytes:
    """Return what :func:`_to_numbered` was given; raises ValueError if it is malformed."""
    pieces: list[str] = []
    while (piece := fields.get(f"{name}-{len(pieces)}")) is not None:
        pieces.append(piece)
    return b64decode("".join(pieces), validate=True)


def hash_in(fields: Mapping[str, str]) -> str | None:
    """Return the hash that :func:`to_fields` was given; raises Unavailable if it is malformed."""
    return _checked(_SHA256, fields.get(_HASH))


def sidecar_in(fields: Mapping[str, str]) -> str | None:
    """Return the version of the metadata in the sidecar; None if there is no sidecar.

    Raises Unavailable if it is malformed, because it becomes a part of a URL.
    """
    return _checked(_VERSION, fields.get(_ELSEWHERE))


def _checked(form: re.Pattern[str], text: str | None) -> str | None:
    if text is not None and form.fullmatch(text) is None:
        raise Unavailable(f"an object has an invalid hash: {text!a:.80}")
    return text


def metadata_in(id: str, fields: Mapping[str, str], sidecar: bytes | None = None) -> Metadata:
    """Return the metadata that *fields*, or the *sidecar* they name, hold; raises Unavailable."""
    try:
        if (wanted := sidecar_in(fields)) is not None:
            found = metadata_format.decode(sidecar or b"")
            if metadata_format.version(found) != wanted:
                raise ValueError("its sidecar holds another version")
            return found
        return metadata_format.decode(_from_numbered("sos", fields)) if "sos-0" in fields else {}
    except (InvalidRequest, ValueError) as error:
        raise Unavailable(f"the metadata of {id} cannot be read: {error}") from error


def hashes_sidecar_in(fields: Mapping[str, str]) -> str | None:
    """Return the sum of the block hashes in the sidecar; None if there is no valid sum."""
    sum = fields.get(_HASHES_ELSEWHERE, "")
    return sum if _SUM.fullmatch(sum) else None


def blocks_in(size: int, fields: Mapping[str, str], sidecar: bytes | None) -> Blocks | None:
    """Return the blocks of a body of *size* bytes; None unless there are valid hashes of them.

    :param sidecar: the content of the sidecar that *fields* name.
    """
    try:
        hashes = _from_numbered(_HASHES, fields) if sidecar is None else sidecar
    except ValueError:
        return None
    if sidecar is not None and xxh3_128_hexdigest(sidecar) != hashes_sidecar_in(fields):
        return None
    return Blocks(hashes) if len(hashes) == -(-size // BLOCK) * HASH_BYTES else None
