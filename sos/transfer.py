"""Transfers of a body into a store, and copies of a blob from one store to another."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from sos.interfaces import (
    SMALL_BODY,
    Blob,
    BlobInfo,
    IBlobStore,
    IBlobWriter,
    IOneStepStore,
    Pieces,
)
from sos.model.metadata import Metadata


async def transfer(body: bytes | Pieces, writer: IBlobWriter) -> BlobInfo:
    """Write *body* and commit it; return the description of the stored blob.

    On any error or cancellation, abort the writer.  Close the body in any case.
    """
    try:
        if isinstance(body, bytes):
            await writer.write(body)
        else:
            async with aclosing(body):
                async for piece in body:
                    await writer.write(piece)
        return await writer.commit()
    except BaseException:
        writer.abort()
        raise


async def store_bytes(
    target: IBlobStore, id: str | None, metadata: Metadata, body: bytes
) -> BlobInfo:
    """Store *body* on *target*, in one step if both allow that."""
    if len(body) <= SMALL_BODY and IOneStepStore.providedBy(target):
        return await target.put(id, metadata, body)
    return await transfer(body, target.writer(id, metadata, len(body)))


async def copy(blob: Blob, target: IBlobStore) -> BlobInfo:
    """Store *blob*, which is open for reading, on *target* as well.

    Close its body in any case, even if *target* rejects it before any of it is
    sent.
    """
    info = blob.info
    if isinstance(blob.body, bytes):
        return await store_bytes(target, info.id, info.metadata, blob.body)
    try:
        writer = target.writer(info.id, info.metadata, info.size)
    except BaseException:
        await blob.body.aclose()
        raise
    return await transfer(blob.body, writer)


async def one_piece(body: bytes) -> AsyncGenerator[bytes, None]:
    """Yield *body*, which is not empty, as a single piece."""
    yield body


async def cut(body: bytes) -> AsyncGenerator[bytes, None]:
    """Yield *body* in pieces of up to :data:`~sos.interfaces.SMALL_BODY` bytes."""
    for start in range(0, len(body), SMALL_BODY):
        yield body[start : start + SMALL_BODY]


async def are_same(one: bytes | Pieces, other: bytes | Pieces) -> bool:
    """Return whether two bodies are the same bytes, and close both.

    Reading stops at the first difference.  Errors of their pieces propagate.
    """
    async with _opened(one) as ones, _opened(other) as others:
        behind = b""
        async for piece in ones:
            while len(behind) < len(piece):
                more = await anext(others, b"")
                if not more:
                    return False
                behind += more
            if not behind.startswith(piece):
                return False
            behind = behind[len(piece) :]
        return not behind and not await anext(others, b"")


@asynccontextmanager
async def _opened(body: bytes | Pieces) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
    """Yield the pieces of *body*, and close it, even if none of them was read."""
    if isinstance(body, bytes):
        yield pieces_of(body)
        return
    pieces = _each(body)
    try:
        yield pieces
    finally:
        await pieces.aclose()
        await body.aclose()


async def _each(body: Pieces) -> AsyncGenerator[bytes, None]:
    async for piece in body:
        yield piece


async def pieces_of(body: bytes | Pieces) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of *body*, and close it."""
    if isinstance(body, bytes):
        if body:
            yield body
    else:
        async with aclosing(body):
            async for piece in body:
                yield piece
