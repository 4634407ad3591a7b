"""A body on its way from one place into a store, or a blob from one store into another."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from sos.interfaces import Blob, BlobInfo, IBlobStore, IBlobWriter, Pieces


async def transfer(body: bytes | Pieces, writer: IBlobWriter) -> BlobInfo:
    """Write *body* and commit it; return what is stored then.

    Whatever goes wrong, reading or writing or by cancellation, the writer is
    aborted and the body closed.
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


async def copy(blob: Blob, target: IBlobStore) -> BlobInfo:
    """Store *blob*, which has been opened for reading, on *target* as well.

    Its body is closed then, whatever goes wrong, also where *target* refuses
    it before any of it is sent.
    """
    info = blob.info
    try:
        writer = target.writer(info.id, info.metadata, info.size)
    except BaseException:
        if not isinstance(blob.body, bytes):
            await blob.body.aclose()
        raise
    return await transfer(blob.body, writer)


async def one_piece(body: bytes) -> AsyncGenerator[bytes, None]:
    """Give *body*, which is not empty, as pieces are given."""
    yield body


async def are_same(one: bytes | Pieces, other: bytes | Pieces) -> bool:
    """Tell whether two bodies are the same bytes, and close both.

    Raises what their pieces raise; where they differ neither is read to its end.
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
    """Give the pieces of *body*, and close it, also where none of them was asked for."""
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
    """Give the pieces of *body*, and close it."""
    if isinstance(body, bytes):
        if body:
            yield body
    else:
        async with aclosing(body):
            async for piece in body:
                yield piece
