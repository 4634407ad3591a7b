"""Ids of requests, which connect the log lines of several servers about one request.

A client may choose the id, with ``X-Request-Id``.  An API server sends the id of its
client's request to the blob servers.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from itertools import count

#: The header with the id, in lower case.
HEADER = b"x-request-id"

#: The id of the request that the current code works for; None for background work.
CURRENT: ContextVar[bytes | None] = ContextVar("request_id", default=None)

# A token (RFC 9110, 5.6.2): logs can contain it unchanged, quoted or not.
_SANE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")

# A counter costs less than a random number for each.
_PROCESS = secrets.token_hex(6).encode("ascii")
_numbers = count(1)


def request_id(given: bytes | None) -> bytes:
    """Return the id that a client has *given* if it is valid, else a new one."""
    if given is not None and _SANE.fullmatch(given) is not None:
        return given
    return b"%s-%x" % (_PROCESS, next(_numbers))
