"""Blobs in requests and in answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from sos import metadata as metadata_format
from sos.errors import TooLarge
from sos.interfaces import Blob, BlobInfo, IBlobStore, Pieces
from sos.transfer import transfer
from sos.wire.request import Request

_DEFAULT_TYPE = b"application/octet-stream"


async def store_body(
    request: Request, store: IBlobStore, id: str | None, max_size: int | None
) -> BlobInfo:
    """Store the request's body and its X-* headers.

    :param id: to store it under, or None for its content id.
    :param max_size: most bytes that the body may have, None for any.
    """
    length = request.body.length
    if max_size is not None and length is not None and length > max_size:
        raise TooLarge(f"a body of {length} bytes; at most {max_size} are taken")
    metadata = metadata_format.from_headers(request.received_headers)
    writer = store.writer(id, metadata, length)
    body: Pieces = request.body
    if max_size is not None and length is None:
        body = _limited(body, max_size)
    return await transfer(body, writer)


async def _limited(body: Pieces, max_size: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > max_size:
            raise TooLarge(f"a body of over {max_size} bytes")
        yield piece


def describe(request: Request, info: BlobInfo) -> None:
    """Set the headers of an answer that is, or would be, the blob *info*.

    A blob can be anything, a page with scripts as well: a browser is told to
    take it for what it is declared to be, and to let it do nothing.
    """
    headers = request.responseHeaders
    headers.setRawHeaders(b"Content-Type", [_DEFAULT_TYPE])
    for name, value in metadata_format.to_headers(info.metadata):
        headers.setRawHeaders(name, [value])
        if name == b"X-Mime-Type" and value:
            headers.setRawHeaders(b"Content-Type", [value])
    headers.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
    headers.setRawHeaders(b"Content-Security-Policy", [b"sandbox; default-src 'none'"])
    if info.size is not None:
        headers.setRawHeaders(b"Content-Length", [b"%d" % info.size])


async def send_blob(request: Request, blob: Blob) -> None:
    """Send the whole *blob*, no faster than the client takes it."""
    describe(request, blob.info)
    if isinstance(blob.body, bytes):
        request.write(blob.body)
        return
    async with aclosing(blob.body):
        async for piece in blob.body:
            request.write(piece)
            await request.drained()


async def answer_blob(request: Request, store: IBlobStore, id: str) -> None:
    """Answer a GET or HEAD of the blob *id*."""
    if request.method == b"HEAD":
        describe(request, await store.stat(id))
    else:
        await send_blob(request, await store.read(id))
