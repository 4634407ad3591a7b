"""How a blob is kept in a bucket: which keys it has, and what is written under them.

A blob is a body, with its metadata among the fields of the object, and behind
it a *marker*, an empty object whose key says what listings have to tell::

    blobs/PPP/ID                        the body; fields sos-0, sos-1... hold its metadata
    index/PPP/ID/SIZE-VERSION-SUM       its marker; of an opaque name SIZE-VERSION-SUM-HASH
    metadata/PPP/ID/VERSION             its metadata, where they are too long for fields
    quarantine/PPP/ID-TIME              a body that was found damaged
    lease/NUMBER                        the right to drop
    store.json                          what this is, and the id of the store

The body says what is the case, and the marker repeats it: a blob without a
marker can be read, and whoever stores it again completes it.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from uuid import UUID

from attrs import frozen

from sos.errors import InvalidRequest, Unavailable
from sos.model import ids
from sos.model import metadata as metadata_format
from sos.model.digest import BlobDigest, blob_digest, record_sum
from sos.model.metadata import Metadata

#: The key of the document that says what is kept here.
STORE_KEY = "store.json"
_STORE = {"format": "sos s3 store", "version": 1}
#: What the keys of markers begin with.
INDEX = "index/"

# S3 allows 2 KiB of fields, Swift 256 bytes in one of them.
_FIELD_SIZE = 240
_MOST_FIELDS = 7
_ELSEWHERE = "sos-at"
_HASH = "sos-sha256"

_MARKER = re.compile(
    r"index/([0-9a-f]{3})/([0-9a-z]{1,128})/([0-9]{1,19})-([01][0-9a-f]{64})-([0-9a-f]{32})"
    r"(?:-([0-9a-f]{64}))?"
)
_SHA256 = re.compile("[0-9a-f]{64}")
_VERSION = re.compile("[01][0-9a-f]{64}")


def document(id: str) -> bytes:
    """Return the document of the store *id*, a UUID."""
    return json.dumps(_STORE | {"id": id}, separators=(",", ":")).encode("ascii") + b"\n"


def id_in(document: bytes) -> str | None:
    """Return the id in the *document* of a store; None in one from before stores had ids.

    Raises ValueError for what is no document, or one of another format.
    """
    try:
        found = json.loads(document)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict) or {name: found.get(name) for name in _STORE} != _STORE:
        raise ValueError("it is of another format")
    id = found.get("id")
    if id is None:
        return None
    if not isinstance(id, str):
        raise ValueError("its id is no text")
    return str(UUID(id))


@frozen
class Marker:
    """What the key of a marker says.

    :param size: of the body, in bytes.
    :param version: of the metadata, see :func:`sos.model.metadata.version`.
    :param sum: see :func:`sos.model.digest.record_sum`.
    :param hash: of the body, see :class:`sos.model.digest.BlobDigest`.
    """

    id: str
    size: int
    version: str
    sum: int
    hash: str = ""

    @property
    def key(self) -> str:
        """Where it is."""
        told = f"{self.size}-{self.version}-{self.sum:032x}"
        return f"{markers_of(self.id)}{told}-{self.hash}".removesuffix("-")

    @property
    def digest(self) -> BlobDigest:
        """What is told of the blob."""
        return BlobDigest(self.size, self.version, self.hash)


def marker(id: str, size: int, metadata: Metadata, hash: str | None) -> Marker:
    """Return the marker of a blob.

    :param hash: of the body by SHA-256 in hex, where the id does not tell one.
    """
    known = bytes.fromhex(hash or "")
    told = blob_digest(id, size, metadata, known)
    sum = record_sum(id, metadata_format.encode(metadata), known)
    return Marker(id, size, told.version, sum, told.hash)


def read_marker(key: str) -> Marker | None:
    """Read the key of a marker; None for a key that is none."""
    match = _MARKER.fullmatch(key)
    if match is None or ids.partition(match[2]) != match[1]:
        return None
    return Marker(match[2], int(match[3]), match[4], int(match[5], 16), match[6] or "")


def body_key(id: str) -> str:
    """Return the key of the body of *id*."""
    return f"blobs/{ids.partition(id)}/{id}"


def markers_of(id: str) -> str:
    """Return what the keys of the markers of *id* begin with."""
    return f"{INDEX}{ids.partition(id)}/{id}/"


def behind(id: str) -> str:
    """Return a key behind the markers of *id*, and before those of any id that follows."""
    return f"{INDEX}{ids.partition(id)}/{id}0"  # the character behind a slash


def sidecar_key(id: str, version: str) -> str:
    """Return the key of metadata that are too long for fields."""
    return f"metadata/{ids.partition(id)}/{id}/{version}"


def quarantine_key(id: str, now: float) -> str:
    """Return where a damaged body goes."""
    return f"quarantine/{ids.partition(id)}/{id}-{int(now * 1000)}"


def to_fields(metadata: Metadata, hash: str | None) -> tuple[dict[str, str], bytes | None]:
    """Return the fields of an object, and what has to be in a sidecar, if anything has.

    Metadata can be any bytes; fields are ASCII, and any case may become of
    their names: so it is the Base64 of the JSON.

    :param hash: of the body by SHA-256 in hex, where the id does not tell one.
    """
    fields = {} if hash is None else {_HASH: hash}
    if not metadata:
        return fields, None
    encoded = metadata_format.encode(metadata)
    text = b64encode(encoded).decode("ascii")
    if len(text) > _FIELD_SIZE * _MOST_FIELDS:
        return fields | {_ELSEWHERE: metadata_format.version(metadata)}, encoded
    starts = range(0, len(text), _FIELD_SIZE)
    return fields | {
        f"sos-{n}": text[start : start + _FIELD_SIZE] for n, start in enumerate(starts)
    }, None


def hash_in(fields: Mapping[str, str]) -> str | None:
    """Return the hash that :func:`to_fields` was given; raises Unavailable for what is none."""
    return _checked(_SHA256, fields.get(_HASH))


def sidecar_in(fields: Mapping[str, str]) -> str | None:
    """Return the version of the metadata that is in a sidecar; None when none is.

    Raises Unavailable for what is none: it becomes part of an URL.
    """
    return _checked(_VERSION, fields.get(_ELSEWHERE))


def _checked(form: re.Pattern[str], told: str | None) -> str | None:
    if told is not None and form.fullmatch(told) is None:
        raise Unavailable(f"an object has {told!a:.80} for a hash")
    return told


def metadata_in(id: str, fields: Mapping[str, str], sidecar: bytes | None = None) -> Metadata:
    """Return the metadata that *fields*, or the *sidecar* they name, hold; raises Unavailable."""
    try:
        if (wanted := sidecar_in(fields)) is not None:
            found = metadata_format.decode(sidecar or b"")
            if metadata_format.version(found) != wanted:
                raise ValueError("its sidecar holds another version")
            return found
        pieces: list[str] = []
        while (piece := fields.get(f"sos-{len(pieces)}")) is not None:
            pieces.append(piece)
        return metadata_format.decode(b64decode("".join(pieces), validate=True)) if pieces else {}
    except (InvalidRequest, ValueError) as error:
        raise Unavailable(f"the metadata of {id} cannot be read: {error}") from error
