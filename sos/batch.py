"""Batches of small blobs in one request, because the request is most of a small blob's cost.

A batch is a JSON object: by id, the metadata of each blob, and its body in base64::

    {"a1": {"metadata": {"X-Mime-Type": "text/plain"}, "body": "Ynl0ZXM="}}
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Coroutine, Iterable
from itertools import accumulate
from typing import Any, TypeVar

from sos.aio.gather import together
from sos.errors import InvalidMetadata, InvalidRequest, SOSError
from sos.interfaces import Blob, BlobInfo, IBlobStore
from sos.model import ids
from sos.model import metadata as metadata_format
from sos.transfer import copy

#: Most blobs in one batch.
MOST_BLOBS = 64
#: Most bytes of a body in a batch: for a larger one, the request is not most of the cost.
SMALL = 16 * 1024
#: Bytes of bodies at which a batch is full: a server does nothing else while it parses
#: one, and holds all of it in memory.
FULL = 256 * 1024
#: Most bytes of a document: a full batch, with room for ids and metadata.
MOST_BYTES = 2 * 1024 * 1024

T = TypeVar("T")


def encode(blobs: Iterable[Blob]) -> bytes:
    """Encode *blobs*, whose bodies are bytes, as a batch."""
    document = {}
    for blob in blobs:
        assert isinstance(blob.body, bytes)
        body = b64encode(blob.body).decode("ascii")
        document[blob.info.id] = {"metadata": dict(blob.info.metadata), "body": body}
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def decode(text: bytes) -> list[Blob]:
    """Decode the result of :func:`encode`; raise InvalidRequest for anything else.

    This does not verify the bodies against their ids.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("the batch is not JSON") from None
    if not isinstance(document, dict):
        raise InvalidRequest("the batch is not a JSON object of blobs by id")
    if len(document) > MOST_BLOBS:
        raise InvalidRequest(
            f"the batch has {len(document)} blobs, but at most {MOST_BLOBS} are allowed"
        )
    return [_blob(ids.check(id), entry) for id, entry in document.items()]


def _blob(id: str, entry: Any) -> Blob:
    if not (
        isinstance(entry, dict)
        and entry.keys() == {"metadata", "body"}
        and isinstance(entry["metadata"], dict)
        and isinstance(entry["body"], str)
    ):
        raise InvalidRequest(f"the batch entry {id} is not an object of metadata and body")
    try:
        body = b64decode(entry["body"], validate=True)
    except ValueError:
        raise InvalidRequest(f"the body of the batch entry {id} is not base64") from None
    return Blob(BlobInfo(id, len(body), _metadata(id, entry["metadata"])), body)


def _metadata(id: str, found: dict[str, Any]) -> dict[str, str]:
    try:
        return metadata_format.received(found)
    except InvalidMetadata as error:
        raise InvalidMetadata(f"batch entry {id}: {error}") from None


async def read_from(store: IBlobStore, ids: Iterable[str]) -> list[Blob]:
    """Return the blobs of *ids* that can be read and are small, up to a full batch."""
    found = await _those_of(_read(store, id) for id in ids)
    behind = accumulate(blob.info.size or 0 for blob in found)
    return [blob for blob, size in zip(found, behind, strict=True) if size <= FULL + SMALL]


async def store_in(store: IBlobStore, blobs: Iterable[Blob]) -> list[str]:
    """Store *blobs*; return the ids that are durable now."""
    return await _those_of(_store(store, blob) for blob in blobs)


async def _read(store: IBlobStore, id: str) -> Blob | None:
    blob = await store.read(id)
    if isinstance(blob.body, bytes):
        return blob if len(blob.body) <= SMALL else None
    await blob.body.aclose()
    return None


async def _store(store: IBlobStore, blob: Blob) -> str:
    return (await copy(blob, store)).id


async def _those_of(work: Iterable[Coroutine[Any, Any, T | None]]) -> list[T]:
    found = await together(_or_none(each) for each in work)
    return [each for each in found if each is not None]


async def _or_none(work: Coroutine[Any, Any, T | None]) -> T | None:
    try:
        return await work
    except SOSError:
        return None
