"""Manifests: which chunks, in which order, a large object consists of.

A manifest is a blob that stands in for another: it is stored under the content
id of the whole object, and one header of its metadata, :data:`MARK`, tells it
from a blob that is the object itself.  Its body is compact JSON::

    {"id":"ID OF THE WHOLE","size":17,"chunks":[["ID OF A CHUNK",10],["...",7]]}

There is one way to write a manifest: a body that :func:`encode` would write
otherwise is none.
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
#: Most bytes of a manifest's body, which are more than :data:`MAX_CHUNKS` take.
MAX_BYTES = 8 * 1024 * 1024

_SIZE = re.compile(r"[1-9][0-9]{0,17}")


class Chunk(NamedTuple):
    """A part of an object, which is a blob of its own.

    :param id: its content id.
    :param size: in bytes.
    """

    id: str
    size: int


@frozen
class Manifest:
    """What an object consists of.

    :param id: the content id of the whole.
    :param size: of the whole, in bytes.
    :param chunks: from the first to the last.
    """

    id: str
    size: int
    chunks: tuple[Chunk, ...]


def encode(manifest: Manifest) -> bytes:
    """Write *manifest* as the body of a blob."""
    fields = {"id": manifest.id, "size": manifest.size, "chunks": manifest.chunks}
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def parse(body: bytes, id: str, mark: str) -> Manifest:
    """Return the manifest that is stored as *body* under *id*.

    Raises :exc:`~sos.errors.Mismatch` unless it is one, of that object: two or
    more chunks, whose ids are made by the same hash as *id* and whose sizes
    add up to that of the whole, which is what the *mark* tells.
    """
    if len(body) > MAX_BYTES:
        raise Mismatch(f"a manifest of {len(body)} bytes; at most {MAX_BYTES} are read")
    # What is no manifest could take hundreds of megabytes when it is parsed.
    if body.count(b"[") > MAX_CHUNKS + 1 or body.count(b"{") > 1:
        raise _refusal(id, f"has over {MAX_CHUNKS} chunks, or is not written as one")
    try:
        manifest = _read(json.loads(body))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _refusal(id, "is not written as one") from None
    _check(manifest, id)
    if mark != str(manifest.size):
        raise _refusal(id, f"is of {manifest.size} bytes, and marked with {mark[:20]!a}")
    if encode(manifest) != body:
        raise _refusal(id, "is not in its canonical form")
    return manifest


def marked_size(mark: str) -> int:
    """Return the size of the whole, in bytes, that a *mark* tells; raises Mismatch."""
    if _SIZE.fullmatch(mark) is None:
        raise Mismatch(f"{mark[:20]!a} does not mark a manifest: it is not a size")
    return int(mark)


def _read(document: Any) -> Manifest:
    chunks = tuple(Chunk(id, size) for id, size in document["chunks"])
    return Manifest(document["id"], document["size"], chunks)


def _check(manifest: Manifest, id: str) -> None:
    if manifest.id != id:
        raise _refusal(id, "tells of another object")
    algorithm = ids.algorithm(id)
    if algorithm is None:
        raise _refusal(id, "has no content id")
    # Of a single chunk the id would be that of the whole; and a chunk that is
    # shorter than the whole can itself be in chunks, with an end to that.
    if not 2 <= len(manifest.chunks) <= MAX_CHUNKS:
        raise _refusal(id, f"has {len(manifest.chunks)} chunks, not 2 to {MAX_CHUNKS}")
    is_id = re.compile(f"[0-9a-f]{{{ids.ALGORITHMS[algorithm]}}}").fullmatch
    total = 0
    for chunk in manifest.chunks:
        if type(chunk.id) is not str or is_id(chunk.id) is None:
            raise _refusal(id, f"has a chunk whose id is not made by {algorithm}")
        if type(chunk.size) is not int or chunk.size <= 0:
            raise _refusal(id, "has a chunk without a size")
        total += chunk.size
    if type(manifest.size) is not int or manifest.size != total:
        raise _refusal(id, f"has chunks of {total} bytes together, which is not its size")
    marked_size(str(total))


def _refusal(id: str, reason: str) -> Mismatch:
    return Mismatch(f"the manifest of {id} {reason}")
