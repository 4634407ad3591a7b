"""Receiving blobs in requests, and sending them in responses."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import lru_cache
from typing import Any, cast

from twisted.web.http import datetimeToString
from werkzeug.http import parse_etags, parse_range_header

from sos.errors import TooLarge, Unsatisfiable
from sos.http.dates import seconds
from sos.http.server.request import Request
from sos.interfaces import (
    SMALL_BODY,
    BlobInfo,
    FilePieces,
    IBlobStore,
    IObjectStore,
    IOneStepStore,
    IPromptStore,
    Pieces,
    Span,
)
from sos.model.expiry import seconds_left
from sos.model.metadata import EXPIRES_AT, Metadata
from sos.transfer import pieces_of, transfer
from sos.web import digest_fields
from sos.web.content_security import policy
from sos.web.digest_fields import CONTENT_DIGEST, CONTENT_MD5, REPR_DIGEST, WANT_REPR_DIGEST
from sos.web.filenames import EXTENDED_NAME, NAME, disposition

#: Converts metadata to headers.
Spelling = Callable[[Metadata], list[tuple[bytes, bytes]]]
#: The body of an answer, or a coroutine that returns it, or None when it has written it.
Answer = bytes | Coroutine[Any, Any, bytes | None]

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
#: For how long caches may keep an answer by default, in seconds: the bytes of an id never change.
YEAR = 365 * 86_400


@lru_cache(maxsize=2)
def _caching(max_age: int) -> Mapping[bool, bytes]:
    """Return the line ``Cache-Control``, keyed by whether the answer is private."""
    rest = b"max-age=%d%b\r\n" % (max_age, b", immutable" if max_age >= YEAR else b"")
    return {
        private: b"Cache-Control: %b, %b" % (b"private" if private else b"public", rest)
        for private in (False, True)
    }


# Headers that make the answer depend on more than the id; _STATES need a complete blob.
_STATES = frozenset({b"if-none-match", b"if-modified-since"})
_CONDITIONS = _STATES | {b"range"}


async def store_body(
    request: Request, store: IBlobStore, id: str | None, max_size: int | None, metadata: Metadata
) -> BlobInfo:
    """Store the request's body with *metadata*.

    A digest in the headers is verified: see :mod:`sos.web.digest_fields`.

    :param id: to store it under, or None for its content id.
    :param max_size: most bytes that the body may have, None for no limit.
    """
    request.blob = id
    body, length = received_body(request, max_size), request.body.length
    is_small = body is request.body and length is not None and length <= SMALL_BODY
    if is_small and IOneStepStore.providedBy(store):
        whole = request.body.whole()
        if whole is not None:
            return await store.put(id, metadata, whole)
    return await transfer(body, store.writer(id, metadata, length))


async def whole_body(request: Request, max_size: int) -> bytes:
    """Read the request's body, of up to *max_size* bytes, verified as by :func:`store_body`."""
    return b"".join([piece async for piece in received_body(request, max_size)])


def received_body(request: Request, max_size: int | None = None) -> Pieces:
    """Return the body of *request*, of up to *max_size* bytes, verified against its digests."""
    length = request.body.length
    if max_size is not None and length is not None and length > max_size:
        raise TooLarge(f"the body has {length} bytes, which exceeds the limit of {max_size}")
    body: Pieces = request.body
    if max_size is not None and length is None:
        body = _limited(body, max_size)
    # Three look-ups cost less than iterating over the headers.
    headers = request.headers
    if REPR_DIGEST in headers or CONTENT_DIGEST in headers or CONTENT_MD5 in headers:
        claimed = digest_fields.claims(headers)
        if claimed:
            return digest_fields.checked(body, claimed)
    return body


def answer_stored(request: Request, info: BlobInfo, more: bytes = b"") -> bytes:
    """Return the body of the answer to an upload that is stored as *info*.

    :param more: other members of the JSON object, each preceded by a comma.
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
            raise TooLarge(f"the body exceeds the limit of {max_size} bytes")
        yield piece


def describe(request: Request, info: BlobInfo, to_headers: Spelling, max_age: int = YEAR) -> None:
    """Set the headers of an answer with the blob *info*, or of an answer to HEAD.

    :param to_headers: converts its metadata, as :func:`sos.model.metadata.to_server`.
    :param max_age: seconds for which caches may keep it.
    """
    media_type = _DEFAULT_TYPE
    lines = b""
    for name, value in to_headers(info.metadata):
        lines += b"%s: %s\r\n" % (name, value)
        if name == b"X-Mime-Type" and is_media_type(value):
            media_type = value
    if NAME in info.metadata or EXTENDED_NAME in info.metadata:
        named = disposition(info.metadata)
        if named is not None:
            request.setHeader(b"Content-Disposition", named)
    if info.size is not None:
        request.setHeader(b"Content-Length", b"%d" % info.size)
    if WANT_REPR_DIGEST in request.headers:
        digest = digest_fields.answer(request.headers[WANT_REPR_DIGEST], info.id)
        if digest is not None:
            request.setHeader(b"Repr-Digest", digest)
    if EXPIRES_AT in info.metadata:  # few do: nothing is computed for the others
        max_age = _while_it_lives(info, max_age)
    fixed = _lines(media_type, max_age)[request.private]
    _describe_version(request, info, b"%bContent-Type: %b\r\n%b" % (fixed, media_type, lines))


def _while_it_lives(info: BlobInfo, max_age: int) -> int:
    """Return for how long caches may keep *info*: for *max_age* seconds, until it expires."""
    left = seconds_left(info.metadata, time.time())
    return max_age if left is None else max(min(max_age, int(left)), 0)


@lru_cache(maxsize=256)  # a server sees the same few in all requests
def _lines(media_type: bytes, max_age: int) -> Mapping[bool, bytes]:
    """Return the fixed header lines of *media_type*, keyed by whether the answer is private."""
    guards = _GUARDS % policy(media_type)
    return {private: guards + line for private, line in _caching(max_age).items()}


@lru_cache(maxsize=256)
def is_media_type(value: bytes) -> bool:
    """Return whether *value* is valid as ``Content-Type`` (RFC 9110, 8.3.1)."""
    return _MEDIA_TYPE.fullmatch(value) is not None


def _describe_version(request: Request, info: BlobInfo, lines: bytes) -> None:
    """Set the validators of an answer, after other header *lines*."""
    # The id is the validator as well.
    modified = b"" if info.stored_at is None else _last_modified(int(info.stored_at))
    id = info.id.encode("ascii")
    request.setFixedHeaders(b'%sETag: "%s"\r\n%s' % (lines, id, modified))


@lru_cache(maxsize=1024)
def _last_modified(seconds: int) -> bytes:
    return b"Last-Modified: %s\r\n" % datetimeToString(seconds)


def answer_blob(
    request: Request, store: IBlobStore, id: str, to_headers: Spelling, max_age: int = YEAR
) -> Answer:
    """Answer a GET or HEAD of the blob *id*, or of a range of it (RFC 9110, 13 and 14).

    A small blob that the store has at hand is answered at once, without a coroutine.

    :param to_headers: see :func:`describe`; so is *max_age*.
    """
    request.blob = id
    plain = request.method == b"GET" and _CONDITIONS.isdisjoint(request.headers)
    if plain and IPromptStore.providedBy(store):
        blob = store.peek(id)
        if blob is not None:
            describe(request, blob.info, to_headers, max_age)
            return cast(bytes, blob.body)
    return _answer_read(request, store, id, to_headers, max_age)


async def _answer_read(
    request: Request, store: IBlobStore, id: str, to_headers: Spelling, max_age: int
) -> bytes | None:
    if request.method == b"HEAD" or not _CONDITIONS.isdisjoint(request.headers):
        info = await _describe_stored(request, store, id)
        to_headers(info.metadata)  # raises if clients may not know of the blob
        if _is_current(request, info):
            request.setResponseCode(304)
            age = _while_it_lives(info, max_age)
            _describe_version(request, info, _caching(age)[request.private])
            return None
        describe(request, info, to_headers, max_age)
        if request.method == b"HEAD":
            return None
        span = _span(request, info)
        if span is not None:
            return await _send_part(request, store, info, span)
    blob = await store.read(id)
    try:
        describe(request, blob.info, to_headers, max_age)
    except BaseException:
        await pieces_of(blob.body).aclose()
        raise
    return await _send(request, blob.body)


async def _describe_stored(request: Request, store: IBlobStore, id: str) -> BlobInfo:
    """Describe the blob *id*; check that it is complete unless only a range is requested."""
    asks_state = request.method == b"HEAD" or not _STATES.isdisjoint(request.headers)
    if asks_state or not IObjectStore.providedBy(store):
        return await store.stat(id)
    return await IObjectStore(store).outline(id)


def _is_current(request: Request, info: BlobInfo) -> bool:
    """Return whether the client has the blob already (RFC 9110, 13.2.2)."""
    if b"if-none-match" in request.headers:
        return is_known(request, info.id)
    since = seconds(_header(request, b"if-modified-since"))
    return since is not None and info.stored_at is not None and info.stored_at < since + 1


def is_known(request: Request, etag: str) -> bool:
    """Return whether the request's ``If-None-Match`` contains *etag*."""
    return parse_etags(_header(request, b"if-none-match")).contains_weak(etag)


def _header(request: Request, name: bytes) -> str | None:
    value = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


def _span(request: Request, info: BlobInfo) -> Span | None:
    """Return the range that *request* asks for, None for the whole blob.

    A client gets the whole blob if it asks for several ranges, if the header is
    malformed, or if its ``If-Range`` names another version.
    """
    asked = parse_range_header(_header(request, b"range"))
    condition = _header(request, b"if-range")
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1 or info.size is None:
        return None
    if condition is not None and condition != f'"{info.id}"':
        return None
    start, stop = asked.ranges[0]
    if start < 0:  # the last -start bytes
        start = max(info.size + start, 0)
    if start >= info.size:
        raise Unsatisfiable(info.size)
    return start, min(stop or info.size, info.size)


async def _send_part(
    request: Request, store: IBlobStore, info: BlobInfo, span: Span
) -> bytes | None:
    """Send a part of the blob *info*, whose headers are set."""
    start, stop = span
    blob = await store.read(info.id, span)
    request.setResponseCode(206)
    request.setHeader(b"Content-Range", b"bytes %d-%d/%d" % (start, stop - 1, info.size or 0))
    request.setHeader(b"Content-Length", b"%d" % (stop - start))
    return await _send(request, blob.body)


async def _send(request: Request, body: bytes | Pieces) -> bytes | None:
    """Return a small *body*; send a larger one, no faster than the client reads."""
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
