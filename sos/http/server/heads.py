"""Validation of request heads, and formatting of response heads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus

# RFC 3986, 3.2.2 and 3.2.3, without the comma, which separates list items; RFC 6874, 2.
_ZONE = rb"%25(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2}){1,64}"
_HOST = re.compile(
    rb"(\[[0-9A-Fa-f:.]+(?:%b)?\]|([A-Za-z0-9._~!$&'()*+;=-]|%%[0-9A-Fa-f]{2}){0,255})"
    rb"(:[0-9]{0,5})?" % _ZONE
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)

# Twisted's own table lacks the 4xx statuses above 418.
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
}
_STATUS_LINES[460] = b"HTTP/1.1 460 Checksum Mismatch\r\n"  # an invention of tus


class RejectedRequest(Exception):
    """Malformed or unacceptable request, with the status of its answer and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def gather(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return headers by their names in lower case; join the values of one name by a comma.

    RFC 9110, 5.2.
    """
    fields = {name.lower(): value for name, value in headers}
    if len(fields) < len(headers):
        fields.clear()
        for name, value in headers:
            name = name.lower()
            fields[name] = b"%s, %s" % (fields[name], value) if name in fields else value
    return fields


@lru_cache(maxsize=256)  # nearly all requests have the same Host
def split_host(text: bytes) -> tuple[bytes, bytes] | None:
    """Split the value of a Host header into a name or address, and a port.

    The name is in lower case and without a trailing dot.  An IPv6 address is in brackets,
    without its zone, which has a meaning only for the client (RFC 6874, 1).  Either part
    can be empty.  Returns None if *text* is not one host.
    """
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    name = found[1].lower().removesuffix(b".")
    if name[:1] == b"[" and b"%" in name:
        name = name.partition(b"%")[0] + b"]"
    return name, (found[3] or b"")[1:]


def split_target(method: bytes, target: bytes) -> tuple[bytes | None, bytes]:
    """Split a request target into its host, if any, and its path and query.

    RFC 9112, 3.2.  Raises :exc:`RejectedRequest` if the target is malformed.
    """
    host = None
    path = target
    absolute = None if target[:1] == b"/" else _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        host, path = absolute.groups()
        if not host or split_host(host) is None:
            raise RejectedRequest(400, "the host in the request target is not valid")
        if path[:1] != b"/":
            path = b"/" + path
    if method == b"OPTIONS" and path == b"*":
        return host, path  # about the server as a whole
    if path[:1] != b"/" or b"#" in path:
        raise RejectedRequest(400, "the request target is not a path")
    return host, path


def format_error(status: int, reason: str) -> bytes:
    """Format the body of an error response, a JSON object."""
    document = {"error": reason, "status": status}
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def format_head(status: int, fixed: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """Format the status line and the headers of a response.

    :param fixed: header lines that are already formatted.
    """
    lines = [b"%s: %s\r\n" % field for field in headers.items()]
    return b"%s%s%s\r\n" % (_STATUS_LINES[status], fixed, b"".join(lines))
