"""Names of requests, by which what several servers have logged of one can be found.

A client may give its own, in ``X-Request-Id``; so does an API server, to the
servers that it asks for somebody.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from itertools import count

#: The header that carries it, as a request's headers are named.
HEADER = b"x-request-id"

#: The id of the request for which something is done; None of what nobody has asked for.
CURRENT: ContextVar[bytes | None] = ContextVar("request_id", default=None)

# A token (RFC 9110, 5.6.2): it can stand in a log, quoted or not, as it is.
_SANE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")

# To number them costs less than to draw each by lot.
_PROCESS = secrets.token_hex(6).encode("ascii")
_numbers = count(1)


def request_id(given: bytes | None) -> bytes:
    """Return the id that a client has *given*, if it can be one, else a new one."""
    if given is not None and _SANE.fullmatch(given) is not None:
        return given
    return b"%s-%x" % (_PROCESS, next(_numbers))
