"""Blobs in requests and in answers."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import lru_cache

from twisted.web.http import datetimeToString
from werkzeug.http import parse_date, parse_etags, parse_range_header

from sos.errors import TooLarge, Unsatisfiable
from sos.http.server.request import Request
from sos.interfaces import BlobInfo, FilePieces, IBlobStore, IObjectStore, Pieces, Span
from sos.model.metadata import Metadata
from sos.transfer import transfer
from sos.web import digest_fields
from sos.web.content_security import policy
from sos.web.digest_fields import CONTENT_DIGEST, CONTENT_MD5, REPR_DIGEST, WANT_REPR_DIGEST
from sos.web.filenames import EXTENDED_NAME, NAME, disposition

#: Spells metadata as headers.
Spelling = Callable[[Metadata], list[tuple[bytes, bytes]]]

_DEFAULT_TYPE = b"application/octet-stream"
# RFC 9110, 8.3.1 and 5.6.6.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*+"'
_MEDIA_TYPE = re.compile(
    rb"%b/%b(?:[ \t]*+;[ \t]*+(?:%b=(?:%b|%b))?)*+" % (_TOKEN, _TOKEN, _TOKEN, _TOKEN, _QUOTED)
)
_GUARDS = (
    b"X-Content-Type-Options: nosniff\r\nContent-Security-Policy: %b\r\nAccept-Ranges: bytes\r\n"
)
# An id means the same bytes for ever.  By whether the answer is private.
_CACHE_CONTROL = {
    False: b"Cache-Control: public, max-age=31536000, immutable\r\n",
    True: b"Cache-Control: private, max-age=31536000, immutable\r\n",
}


def _lines(media_type: bytes) -> Mapping[bool, bytes]:
    """Return the fixed lines of answers of this type, by whether the answer is private."""
    guards = _GUARDS % policy(media_type)
    return {private: guards + line for private, line in _CACHE_CONTROL.items()}


_OF_DEFAULT_TYPE = _lines(_DEFAULT_TYPE)
# What makes the answer depend on more than the blob's id; the first by whether it is there.
_STATES = frozenset({b"if-none-match", b"if-modified-since"})
_CONDITIONS = _STATES | {b"range"}


async def store_body(
    request: Request, store: IBlobStore, id: str | None, max_size: int | None, metadata: Metadata
) -> BlobInfo:
    """Store the request's body with *metadata*.

    A body that comes with a digest is checked against it: see
    :mod:`sos.web.digest_fields`.

    :param id: to store it under, or None for its content id.
    :param max_size: most bytes that the body may have, None for any.
    """
    request.blob = id
    body = received_body(request, max_size)
    return await transfer(body, store.writer(id, metadata, request.body.length))


async def whole_body(request: Request, max_size: int) -> bytes:
    """Return the request's body, of up to *max_size* bytes, checked as by :func:`store_body`."""
    return b"".join([piece async for piece in received_body(request, max_size)])


def received_body(request: Request, max_size: int | None = None) -> Pieces:
    """Return the body of *request*, of up to *max_size* bytes, checked against its digests."""
    length = request.body.length
    if max_size is not None and length is not None and length > max_size:
        raise TooLarge(f"a body of {length} bytes; at most {max_size} are taken")
    body: Pieces = request.body
    if max_size is not None and length is None:
        body = _limited(body, max_size)
    # Three look-ups cost less than going through the headers.
    headers = request.headers
    if REPR_DIGEST in headers or CONTENT_DIGEST in headers or CONTENT_MD5 in headers:
        claimed = digest_fields.claims(headers)
        if claimed:
            return digest_fields.checked(body, claimed)
    return body


def answer_stored(request: Request, info: BlobInfo, more: bytes = b"") -> bytes:
    """Return the body of the answer to an upload that is stored as *info*.

    :param more: other members of the JSON object, each behind a comma.
    """
    request.setHeader(b"Content-Type", b"application/json")
    request.blob = info.id
    # An id needs no escaping.
    id = info.id.encode("ascii")
    return b'{"id":"%s","size":%d,"status":"OK"%s}' % (id, info.size or 0, more)


async def _limited(body: Pieces, max_size: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in body:
        size += len(piece)
        if size > max_size:
            raise TooLarge(f"a body of over {max_size} bytes")
        yield piece


def describe(request: Request, info: BlobInfo, to_headers: Spelling) -> None:
    """Set the headers of an answer that is, or would be, the blob *info*.

    :param to_headers: spells its metadata: :func:`sos.model.metadata.to_server`, or
        :func:`sos.model.metadata.to_client`.
    """
    request.setHeader(b"Content-Type", _DEFAULT_TYPE)
    fixed = _OF_DEFAULT_TYPE
    for name, value in to_headers(info.metadata):
        request.setHeader(name, value)
        if name == b"X-Mime-Type":
            of_type = _of_type(value)
            if of_type is not None:
                request.setHeader(b"Content-Type", value)
                fixed = of_type
    if NAME in info.metadata or EXTENDED_NAME in info.metadata:
        named = disposition(info.metadata)
        if named is not None:
            request.setHeader(b"Content-Disposition", named)
    _describe_version(request, info, fixed)
    if info.size is not None:
        request.setHeader(b"Content-Length", b"%d" % info.size)
    if WANT_REPR_DIGEST in request.headers:
        digest = digest_fields.answer(request.headers[WANT_REPR_DIGEST], info.id)
        if digest is not None:
            request.setHeader(b"Repr-Digest", digest)


@lru_cache(maxsize=256)  # a server sees the same few in all requests
def _of_type(value: bytes) -> Mapping[bool, bytes] | None:
    """Return the :func:`_lines` of the type *value*, None where it is no media type."""
    return _lines(value) if is_media_type(value) else None


def is_media_type(value: bytes) -> bool:
    """Tell whether *value* can be that of ``Content-Type`` (RFC 9110, 8.3.1)."""
    return _MEDIA_TYPE.fullmatch(value) is not None


def _describe_version(
    request: Request, info: BlobInfo, fixed: Mapping[bool, bytes] = _CACHE_CONTROL
) -> None:
    # Its id is its validator, too.
    request.setHeader(b"ETag", b'"%s"' % info.id.encode("ascii"))
    request.setFixedHeaders(fixed[request.private])
    if info.stored_at is not None:
        request.setHeader(b"Last-Modified", _http_date(int(info.stored_at)))


@lru_cache(maxsize=1024)
def _http_date(seconds: int) -> bytes:
    return datetimeToString(seconds)


async def answer_blob(
    request: Request, store: IBlobStore, id: str, to_headers: Spelling
) -> bytes | None:
    """Answer a GET or HEAD of the blob *id*, or of a part of it (RFC 9110, 13 and 14).

    :param to_headers: see :func:`describe`.
    """
    request.blob = id
    if request.method == b"HEAD" or not _CONDITIONS.isdisjoint(request.headers):
        info = await _describe_stored(request, store, id)
        if _is_current(request, info):
            request.setResponseCode(304)
            _describe_version(request, info)
            return None
        if request.method == b"HEAD":
            describe(request, info, to_headers)
            return None
        span = _span(request, info)
        if span is not None:
            return await _send_part(request, store, info, span, to_headers)
    blob = await store.read(id)
    describe(request, blob.info, to_headers)
    return await _send(request, blob.body)


async def _describe_stored(request: Request, store: IBlobStore, id: str) -> BlobInfo:
    """Describe the blob *id*: as one that is there, unless a part of it is all that is asked."""
    asks_state = request.method == b"HEAD" or not _STATES.isdisjoint(request.headers)
    if asks_state or not IObjectStore.providedBy(store):
        return await store.stat(id)
    return await IObjectStore(store).outline(id)


def _is_current(request: Request, info: BlobInfo) -> bool:
    """Tell whether the client has the blob already (RFC 9110, 13.2.2)."""
    if b"if-none-match" in request.headers:
        return is_known(request, info.id)
    since = _seconds(_header(request, b"if-modified-since"))
    return since is not None and info.stored_at is not None and info.stored_at < since + 1


def _seconds(date: str | None) -> float | None:
    """Return what *date* is in seconds since 1970, None if it is none (RFC 9110, 13.1.3)."""
    try:
        found = parse_date(date)
        return None if found is None else found.timestamp()
    except OverflowError:  # of a number in it that no date has
        return None


def is_known(request: Request, etag: str) -> bool:
    """Tell whether the client has, by its ``If-None-Match``, what is called *etag*."""
    return parse_etags(_header(request, b"if-none-match")).contains_weak(etag)


def _header(request: Request, name: bytes) -> str | None:
    value = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


def _span(request: Request, info: BlobInfo) -> Span | None:
    """Return the part that *request* asks for, None for the whole.

    The whole is what a client gets that asks for several parts, or in a way
    that is not understood, or if another version is meant.
    """
    asked = parse_range_header(_header(request, b"range"))
    condition = _header(request, b"if-range")
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1 or info.size is None:
        return None
    if condition is not None and condition != f'"{info.id}"':
        return None
    start, stop = asked.ranges[0]
    if start < 0:  # so many bytes from the end
        start = max(info.size + start, 0)
    if start >= info.size:
        raise Unsatisfiable(info.size)
    return start, min(stop or info.size, info.size)


async def _send_part(
    request: Request, store: IBlobStore, info: BlobInfo, span: Span, to_headers: Spelling
) -> bytes | None:
    start, stop = span
    blob = await store.read(info.id, span)
    request.setResponseCode(206)
    describe(request, info, to_headers)
    request.setHeader(b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, info.size or 0))
    request.setHeader(b"Content-Length", b"%d" % (stop - start))
    return await _send(request, blob.body)


async def _send(request: Request, body: bytes | Pieces) -> bytes | None:
    """Return a small *body*; send another, no faster than the client takes it."""
    if isinstance(body, bytes):
        return body
    async with aclosing(body):
        if isinstance(body, FilePieces) and request.sends_files:
            async for start, stop in body.spans():
                await request.send_file(body.fileno(), start, stop)
        else:
            async for piece in body:
                request.write(piece)
                await request.drained()
    return None
