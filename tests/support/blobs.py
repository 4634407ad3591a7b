"""Bodies, their ids, and how tests put them into stores and read them back."""

from __future__ import annotations

from contextlib import aclosing
from hashlib import sha1, sha256

from sos.interfaces import Blob, BlobInfo, IBlobStore
from sos.manifest import MARK, Chunk, Manifest
from sos.manifest import encode as encode_manifest
from sos.metadata import EMPTY, SET_AT, Metadata
from sos.transfer import transfer


def body_of(size: int, seed: int = 0) -> bytes:
    """Return *size* bytes that differ from place to place, and from seed to seed."""
    block = sha256(str(seed).encode()).digest() + bytes(range(256))
    return (block * (size // len(block) + 1))[:size]


def content_id(body: bytes) -> str:
    """Return the id of *body*: its SHA-1."""
    return sha1(body).hexdigest()


def manifest_of(body: bytes, chunk_size: int) -> tuple[str, bytes, Metadata]:
    """Return id, body and metadata of the manifest of *body*, in chunks of one size."""
    cut = [body[start : start + chunk_size] for start in range(0, len(body), chunk_size)]
    chunks = tuple(Chunk(content_id(chunk), len(chunk)) for chunk in cut)
    whole = Manifest(content_id(body), len(body), chunks)
    return whole.id, encode_manifest(whole), {MARK: str(len(body)), "X-Name": "n"}


def shown(metadata: Metadata) -> Metadata:
    """Return *metadata* without the time at which it was set."""
    return {name: value for name, value in metadata.items() if name != SET_AT}


async def put(
    store: IBlobStore, body: bytes, id: str | None = None, metadata: Metadata = EMPTY
) -> BlobInfo:
    """Store *body*, under its content id unless *id* is given."""
    return await transfer(body, store.writer(id, metadata, len(body)))


async def content(blob: Blob) -> bytes:
    """Return all bytes of *blob*."""
    if isinstance(blob.body, bytes):
        return blob.body
    async with aclosing(blob.body):
        return b"".join([piece async for piece in blob.body])
