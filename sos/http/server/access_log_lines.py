"""Lines of an access log, in the combined format or as JSON, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from twisted.web.http import datetimeToLogString

from sos.errors import InvalidId
from sos.http.server.request import Request
from sos.model import ids

#: Formats the line for a request, its duration in seconds, and the current time in seconds
#: since the epoch.
LineFormat = Callable[[Request, float, float], str]

# Names of query arguments whose values are secret.
_SECRET = re.compile(
    rb"sig$|signature|token|secret|passw|credential|auth|key|session", re.IGNORECASE
)
_HIDDEN = b"***"


def _encoded(text: str) -> str:
    """Return a pattern of *text*, in which each character can be percent-encoded, even twice."""
    return "".join(
        f"(?:{each}|%(?:25)*(?:{ord(each):02x}|{ord(each.upper()):02x}))" for each in text
    )


# The beginning of a path that ends in a token of an unfinished upload or of a lease.  It is found
# whether or not a route matches: a preflight, a wrong method or another path has the token, too.
_BEFORE_TOKEN = re.compile(
    f".*?{_encoded('/')}(?:{_encoded('tus')}|{_encoded('lease')}){_encoded('/')}+(?=.)".encode(),
    re.IGNORECASE | re.DOTALL,
)
# Characters that would end a quoted field or a line, or that a terminal could interpret.
_UNPRINTABLE = re.compile(r'["\\\x00-\x1f\x7f-\xff]')

_encode = json.JSONEncoder(separators=(",", ":")).encode


def combined(request: Request, seconds: float, now: float) -> str:
    """Return the line in Apache's combined format, followed by the request's id."""
    target = _quoted(hide_secrets(request.uri))
    headers = request.headers
    referrer = hide_secrets(headers.get(b"referer", b"-"))
    return (
        f"{peer(request) or '-'} - {request.user or '-'} {_log_time(int(now))} "
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
            "token": request.user,
            "method": request.method.decode("latin-1"),
            "path": hide_secrets(request.uri).decode("latin-1"),
            "route": request.route,
            "status": request.code,
            "bytes": request.sentLength,
            "bytes_in": request.body.received,
            "seconds": round(seconds, 6),
            "user_agent": None if agent is None else agent.decode("latin-1"),
            "id": request.blob,
        }
    )


def deletion(request: Request, seconds: float, now: float) -> str:
    """Return the line of an audit log for a *request* to delete an object, as a JSON object."""
    return _encode(
        {
            "time": timestamp(now),
            "token": request.user,
            "peer": peer(request),
            "id": _id(request.path.rpartition(b"/")[2].decode("latin-1")),
            "status": request.code,
            "request_id": request.id.decode("ascii"),
        }
    )


def _id(text: str) -> str | None:
    """Return *text* if it is an id, else None: it can be anything, such as a token."""
    try:
        return ids.check(text)
    except InvalidId:
        return None


def timestamp(now: float) -> str:
    """Format a time, in seconds since the epoch, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def peer(request: Request) -> str | None:
    """Return the client's address; None if it has none, as over a Unix socket."""
    return getattr(request.getClientAddress(), "host", None)


def hide_secrets(target: bytes) -> bytes:
    """Return a request's target, or a whole URL, with its secrets masked for logs.

    Secrets are the values of some arguments of the query, and the tokens of unfinished uploads
    and of leases, which are in the path.
    """
    path, mark, query = target.partition(b"?")
    before = _BEFORE_TOKEN.match(path)
    if before is not None:
        path = before[0] + _HIDDEN
    if mark:
        query = b"&".join(map(_hidden, query.split(b"&")))
    return path + mark + query


def _hidden(argument: bytes) -> bytes:
    name, mark, _ = argument.partition(b"=")
    secret = mark and _SECRET.search(unquote_to_bytes(name))
    return name + mark + _HIDDEN if secret else argument


def _quoted(value: bytes) -> str:
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", value.decode("latin-1"))


@lru_cache(maxsize=4)  # many requests end in the same second
def _log_time(now: int) -> str:
    return datetimeToLogString(now)
