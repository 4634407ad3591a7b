"""A body on its way from one place into a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from sos.interfaces import BlobInfo, IBlobWriter, Pieces


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


async def one_piece(body: bytes) -> AsyncGenerator[bytes, None]:
    """Give *body*, which is not empty, as pieces are given."""
    yield body
