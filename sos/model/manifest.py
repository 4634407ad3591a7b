"""Manifests: the chunks of a large object, in order.

A manifest is a blob that is stored under the content id of a whole object, in
place of that object.  The header :data:`MARK` in its metadata distinguishes it
from the object itself.  Its body is compact JSON::

    {"id":"ID OF THE WHOLE","size":17,"chunks":[["ID OF A CHUNK",10],["...",7]]}

There is one canonical form: a body that differs from the result of
:func:`encode` is not a manifest.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from attrs import frozen

from sos.errors import Mismatch
from sos.model import ids

#: The header that marks a manifest; its value is the size of the whole object
#: in bytes, in decimal.
MARK = "X-Sos-Manifest"
#: Most chunks of one object.
MAX_CHUNKS = 90_000
#: Most bytes of a manifest's body, more than :data:`MAX_CHUNKS` chunks need.
MAX_BYTES = 8 * 1024 * 1024

_SIZE = re.compile(r"[1-9][0-9]{0,17}")


class Chunk(NamedTuple):
    """A part of an object, stored as a blob.

    :param id: its content id.
    :param size: in bytes.
    """

    id: str
    size: int


@frozen
class Manifest:
    """The list of an object's chunks.

    :param id: the content id of the whole object.
    :param size: of the whole object, in bytes.
    :param chunks: from the first to the last.
    """

    id: str
    size: int
    chunks: tuple[Chunk, ...]


def encode(manifest: Manifest) -> bytes:
    """Encode *manifest* as the body of a blob."""
    fields = {"id": manifest.id, "size": manifest.size, "chunks": manifest.chunks}
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def parse(body: bytes, id: str, mark: str) -> Manifest:
    """Return the manifest that is stored as *body* under *id*.

    Raises :exc:`~sos.errors.Mismatch` unless *body* is the manifest of *id*: two
    or more chunks, whose ids are made by the same hash as *id*, and whose sizes
    add up to the size of the whole in *mark*.
    """
    if len(body) > MAX_BYTES:
        raise Mismatch(f"the manifest has {len(body)} bytes, but at most {MAX_BYTES} are allowed")
    # Parsing other JSON of this size could take hundreds of megabytes.
    if body.count(b"[") > MAX_CHUNKS + 1 or body.count(b"{") > 1:
        raise _refusal(id, f"has over {MAX_CHUNKS} chunks or is malformed")
    try:
        manifest = _read(json.loads(body))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _refusal(id, "is malformed") from None
    _check(manifest, id)
    if mark != str(manifest.size):
        raise _refusal(id, f"says {manifest.size} bytes, but its mark says {mark[:20]!a}")
    if encode(manifest) != body:
        raise _refusal(id, "is not in its canonical form")
    return manifest


def marked_size(mark: str) -> int:
    """Return the size of the whole in bytes from a *mark*, or raise Mismatch."""
    if _SIZE.fullmatch(mark) is None:
        raise Mismatch(f"{mark[:20]!a} is not a valid manifest mark: it is not a size")
    return int(mark)


def _read(document: Any) -> Manifest:
    chunks = tuple(Chunk(id, size) for id, size in document["chunks"])
    return Manifest(document["id"], document["size"], chunks)


def _check(manifest: Manifest, id: str) -> None:
    if manifest.id != id:
        raise _refusal(id, "describes another object")
    algorithm = ids.algorithm(id)
    if algorithm is None:
        raise _refusal(id, "is invalid: its id is not a content id")
    # A single chunk would have the id of the whole.  With two or more, each is shorter
    # than the whole, so chunks that are manifests themselves cannot recur endlessly.
    if not 2 <= len(manifest.chunks) <= MAX_CHUNKS:
        raise _refusal(id, f"has {len(manifest.chunks)} chunks, not 2 to {MAX_CHUNKS}")
    is_id = re.compile(f"[0-9a-f]{{{ids.ALGORITHMS[algorithm]}}}").fullmatch
    total = 0
    for chunk in manifest.chunks:
        if type(chunk.id) is not str or is_id(chunk.id) is None:
            raise _refusal(id, f"has a chunk whose id is not a {algorithm} hash")
        if type(chunk.size) is not int or chunk.size <= 0:
            raise _refusal(id, "has a chunk without a valid size")
        total += chunk.size
    if type(manifest.size) is not int or manifest.size != total:
        raise _refusal(id, f"has chunks of {total} bytes in total, which is not its size")
    marked_size(str(total))


def _refusal(id: str, reason: str) -> Mismatch:
    return Mismatch(f"the manifest of {id} {reason}")
