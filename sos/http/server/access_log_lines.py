"""Lines of an access log, in the combined format or as JSON, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from twisted.web.http import datetimeToLogString

from sos.http.server.request import Request

#: Formats the line for a request, its duration in seconds, and the current time in seconds
#: since the epoch.
Line = Callable[[Request, float, float], str]

# Names of query arguments whose values are secret.
_SECRET = re.compile(
    rb"sig$|signature|token|secret|passw|credential|auth|key|session", re.IGNORECASE
)
_HIDDEN = b"***"
# Characters that would end a quoted field or a line, or that a terminal could interpret.
_UNPRINTABLE = re.compile(r'["\\\x00-\x1f\x7f-\xff]')

_encode = json.JSONEncoder(separators=(",", ":")).encode


def combined(request: Request, seconds: float, now: float) -> str:
    """Return the line in Apache's combined format, followed by the request's id."""
    target = _quoted(without_secrets(request, request.uri))
    headers = request.headers
    referrer = hide_secrets(headers.get(b"referer", b"-"))
    return (
        f"{peer(request) or '-'} - - {_log_time(int(now))} "
        f'"{_quoted(request.method)} {target} {_quoted(request.clientproto)}" '
        f"{request.code} {request.sentLength or '-'} "
        f'"{_quoted(referrer)}" "{_quoted(headers.get(b"user-agent", b"-"))}" '
        f'"{request.id.decode("ascii")}"'
    )


def as_json(request: Request, seconds: float, now: float) -> str:
    """Return the line as a JSON object."""
    agent = request.headers.get(b"user-agent")
    return _encode(
        {
            "time": timestamp(now),
            "request_id": request.id.decode("ascii"),
            "peer": peer(request),
            "method": request.method.decode("latin-1"),
            "path": without_secrets(request, request.uri).decode("latin-1"),
            "route": request.route,
            "status": request.code,
            "bytes": request.sentLength,
            "bytes_in": request.body.received,
            "seconds": round(seconds, 6),
            "user_agent": None if agent is None else agent.decode("latin-1"),
            "id": request.blob,
        }
    )


def timestamp(now: float) -> str:
    """Format a time, in seconds since the epoch, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def peer(request: Request) -> str | None:
    """Return the client's address; None if it has none, as over a Unix socket."""
    return getattr(request.getClientAddress(), "host", None)


def hide_secrets(target: bytes) -> bytes:
    """Return a request's target, or a whole URL, with the secrets in its query masked."""
    path, mark, query = target.partition(b"?")
    if not mark:
        return target
    return path + mark + b"&".join(map(_hidden, query.split(b"&")))


def _hidden(argument: bytes) -> bytes:
    name, mark, _ = argument.partition(b"=")
    secret = mark and _SECRET.search(unquote_to_bytes(name))
    return name + mark + _HIDDEN if secret else argument


def without_secrets(request: Request, target: bytes) -> bytes:
    """Return *target*, the request's or a part of it, with its secrets masked for logs."""
    target = hide_secrets(target)
    if request.route.endswith("/<token>"):
        path, mark, query = target.partition(b"?")
        return path.rpartition(b"/")[0] + b"/" + _HIDDEN + mark + query
    return target


def _quoted(value: bytes) -> str:
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", value.decode("latin-1"))


@lru_cache(maxsize=4)  # many requests end in the same second
def _log_time(now: int) -> str:
    return datetimeToLogString(now)
