"""Error responses: the table from exceptions to HTTP statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as RouteNotFound

from sos.aio.limited_log import LimitedLog, kind_of
from sos.errors import (
    Conflict,
    Deleted,
    Forbidden,
    InvalidRequest,
    Locked,
    Misdirected,
    Mismatch,
    NoSpace,
    NotFound,
    ReadOnly,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unavailable,
    Unsatisfiable,
    UnsupportedCoding,
    WrongChecksum,
)
from sos.http.server.access_log_lines import hide_secrets
from sos.http.server.connection import RETRY_SECONDS
from sos.http.server.heads import format_error
from sos.http.server.request import Request
from sos.model.metadata import HEADER, to_header
from sos.web import tus_headers

_STATUSES: dict[type[Exception], int] = {
    InvalidRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    Deleted: 410,  # before NotFound, of which it is a kind
    NotFound: 404,
    TooSlow: 408,
    Conflict: 409,
    TooLarge: 413,
    UnsupportedCoding: 415,
    Unsatisfiable: 416,
    Misdirected: 421,
    Mismatch: 422,
    Locked: 423,
    WrongChecksum: 460,
    ReadOnly: 503,
    Unavailable: 503,
    NoSpace: 507,
}

# json.dumps() would create an encoder for each call.
_encode = json.JSONEncoder(separators=(",", ":")).encode

_log = Logger()


class Asked(Protocol):
    """A request, as far as a log line about its failure needs it."""

    @property
    def id(self) -> bytes: ...

    @property
    def method(self) -> bytes: ...

    @property
    def path(self) -> bytes: ...


def errors_log(clock: Callable[[], float]) -> LimitedLog:
    """Return the rate-limited log for the errors of one server."""
    return LimitedLog(_log, clock)


def answer_error(request: Request, failure: Failure, log: LimitedLog) -> bytes:
    """Answer *request* with *failure*: set status and headers, and return the body.

    Server errors (5xx) go to *log*.  If part of an answer has been sent already, only a broken
    connection can show the client that something is wrong.
    """
    error = failure.value
    status, text = status_and_reason(request, failure, log)
    if request.startedWriting:
        request.setResponseCode(status)  # for metrics and logs
        request.abort()
        return b""
    # The route has set headers for another answer.
    request.clearHeaders()
    request.setResponseCode(status)
    if isinstance(error, Unauthorized):
        request.setHeader(b"WWW-Authenticate", error.challenge.encode("ascii"))
    if isinstance(error, Deleted) and error.metadata:
        request.setHeader(HEADER.encode("ascii"), to_header(error.metadata))
    if isinstance(error, Unsatisfiable):
        request.setHeader(b"Content-Range", b"bytes */%d" % error.size)
    if isinstance(error, UnsupportedCoding):
        accepted = ", ".join(error.accepted) or "identity"
        request.setHeader(b"Accept-Encoding", accepted.encode("ascii"))  # RFC 9110, 12.5.3
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        request.setHeader(b"Allow", ", ".join(sorted(error.valid_methods)).encode("ascii"))
    if status == 503:
        request.setHeader(b"Retry-After", b"%d" % RETRY_SECONDS)
    if request.path.startswith(tus_headers.PATH):
        tus_headers.identify(request)
    request.setHeader(b"Content-Type", b"application/json")
    return format_error(status, text)


def status_and_reason(request: Asked, failure: Failure, log: LimitedLog) -> tuple[int, str]:
    """Return the status and the text for *failure*.  Server errors (5xx) go to *log*."""
    error = failure.value
    assert error is not None
    status, text = _meaning(error, request)
    if status >= 500:
        _log_failure(log, request, failure, status, text)
    return status, text


def _log_failure(log: LimitedLog, request: Asked, failure: Failure, status: int, text: str) -> None:
    asked = f"{request.method.decode('latin-1')} {_shown(request)}"
    id = request.id.decode("ascii")
    if status == 500:
        log.failure(
            "request failed: {asked} request_id={request_id}", failure, asked=asked, request_id=id
        )
    else:
        log.emit(
            LogLevel.warn,
            "request failed: {asked} reason={text} request_id={request_id}",
            kind_of(failure),
            asked=asked,
            text=text,
            request_id=id,
        )


def _shown(request: Asked) -> str:
    return hide_secrets(request.path)[:200].decode("latin-1")


def answer_json(request: Request, document: object) -> bytes:
    """Return *document* as JSON, the body of an answer, and set the ``Content-Type``."""
    body = encode_json(document)
    request.setHeader(b"Content-Type", b"application/json")
    return body


def answer_text(request: Request, text: bytes) -> bytes:
    """Return *text* as the body of an answer, and set the ``Content-Type``."""
    request.setHeader(b"Content-Type", b"text/plain")
    return text


def encode_json(document: object) -> bytes:
    """Encode *document* as compact JSON."""
    return _encode(document).encode("ascii")


def _meaning(error: BaseException, request: Asked) -> tuple[int, str]:
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status, str(error)
    shown = _shown(request)  # a server that asked logs the text, too
    if isinstance(error, RouteNotFound):
        return 404, f"there is nothing at {shown}"
    if isinstance(error, MethodNotAllowed):
        return 405, f"{shown} does not support the method {request.method.decode('latin-1')}"
    if isinstance(error, HTTPException) and error.code is not None:
        return error.code, error.description or error.name
    return 500, "internal error; the server's log has the details"
