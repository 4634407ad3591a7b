"""Bodies, their ids, and how tests put them into stores and read them back."""

from __future__ import annotations

from contextlib import aclosing
from hashlib import sha1, sha256

from sos.interfaces import Blob, BlobInfo, IBlobStore
from sos.model.manifest import MARK, Chunk, Manifest
from sos.model.manifest import encode as encode_manifest
from sos.model.metadata import EMPTY, INTERNAL, Metadata
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
    """Return *metadata* without its times."""
    return {name: value for name, value in metadata.items() if name == MARK or name not in INTERNAL}


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


def colliding(size: int = 320) -> tuple[bytes, bytes]:
    """Return two bodies of *size* bytes, at least 320, that differ and have the same SHA-1.

    They begin as the two documents of the first collision that was published do (Stevens
    et al., The First Collision for Full SHA-1, CRYPTO 2017, https://shattered.io).  Behind
    that any bytes can follow that are the same in both.
    """
    rest = body_of(size - 320)
    return _SHATTERED + _FIRST + rest, _SHATTERED + _SECOND + rest


_SHATTERED = bytes.fromhex(
    "255044462d312e330a25e2e3cfd30a0a0a312030206f626a0a3c3c2f57696474682032203020522f4865696768"
    "742033203020522f547970652034203020522f537562747970652035203020522f46696c746572203620302052"
    "2f436f6c6f7253706163652037203020522f4c656e6774682038203020522f42697473506572436f6d706f6e65"
    "6e7420383e3e0a73747265616d0affd8fffe00245348412d3120697320646561642121212121852fec09233975"
    "9c39b1a1c63c4c97e1fffe01"
)
_FIRST = bytes.fromhex(
    "7346dc9166b67e118f029ab621b2560ff9ca67cca8c7f85ba84c79030c2b3de218f86db3a90901d5df45c14f26"
    "fedfb3dc38e96ac22fe7bd728f0e45bce046d23c570feb141398bb552ef5a0a82be331fea48037b8b5d71f0e33"
    "2edf93ac3500eb4ddc0decc1a864790c782c76215660dd309791d06bd0af3f98cda4bc4629b1"
)
_SECOND = bytes.fromhex(
    "7f46dc93a6b67e013b029aaa1db2560b45ca67d688c7f84b8c4c791fe02b3df614f86db1690901c56b45c1530a"
    "fedfb76038e972722fe7ad728f0e4904e046c230570fe9d41398abe12ef5bc942be33542a4802d98b5d70f2a33"
    "2ec37fac3514e74ddc0f2cc1a874cd0c78305a21566461309789606bd0bf3f98cda8044629a1"
)
