"""Heads: what a request may begin with, and how a response does."""

from __future__ import annotations

import re
from http import HTTPStatus

from twisted.web.http_headers import Headers

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=:\[\]%-]{0,255}")  # RFC 3986, 3.2.2, no comma

# Those that Twisted keeps end before 422.
_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


class Refused(Exception):
    """A request that cannot be understood: its status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def body_length(method: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return the length of a request's body, None for a chunked one.

    Raises :exc:`Refused` when the headers are not those of one clear request;
    conflicting lengths and most transfer codings llhttp has refused already.
    """
    if version not in ("1.0", "1.1"):
        raise Refused(505, f"HTTP/{version} is not spoken here, HTTP/1.1 is")
    if method == b"CONNECT":
        raise Refused(400, "CONNECT is for proxies")
    length: int | None = 0
    hosts = 0
    for name, value in headers:
        name = name.lower()
        if name == b"host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                raise Refused(400, "the Host header is not a host")
        elif name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise Refused(400, "the only transfer coding understood is chunked")
            if version == "1.0":
                raise Refused(400, "HTTP/1.0 has no transfer codings")
            length = None
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise Refused(400, f"a request has one Host header, this one has {hosts}")
    return length


def format_head(status: int, headers: Headers) -> bytes:
    """Write the status line and the headers of a response."""
    lines = [b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES[status])]
    for name, values in headers.getAllRawHeaders():
        lines.extend(b"%s: %s\r\n" % (name, value) for value in values)
    lines.append(b"\r\n")
    return b"".join(lines)
