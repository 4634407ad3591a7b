"""Redis errors, translated into the errors of a blob store."""

from __future__ import annotations

import re

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable

# The error of a script quotes the error of the command that it called, before or after its own.
_CODE = re.compile(r"\b(OOM|READONLY|MISCONF|LOADING|BUSY|NOPERM|NOAUTH|NOREPLICAS|WRONGTYPE)\b")

_REASONS: dict[str, tuple[type[SOSError], str]] = {
    "OOM": (NoSpace, "the Redis is full: it has reached its maxmemory"),
    "READONLY": (ReadOnly, "this Redis is a replica of another, to which blobs have to go"),
    "MISCONF": (ReadOnly, "the Redis cannot write to its disk, see its log"),
    "LOADING": (Unavailable, "the Redis is still loading what it holds"),
    "BUSY": (Unavailable, "the Redis is busy with a script"),
    "NOPERM": (Unavailable, "the user of the Redis lacks the permission for a command or a key"),
    "NOAUTH": (Unavailable, "the Redis wants a password"),
    "NOREPLICAS": (ReadOnly, "the Redis has fewer replicas than it is to write with"),
    "WRONGTYPE": (Unavailable, "a key of the store in the Redis is not of its kind"),
}

#: Errors that a new connection may avoid: the address may lead to another server by now, as
#: after a failover that the old master survived, or the permissions may have changed.
ELSEWHERE = frozenset({"READONLY", "NOREPLICAS", "NOPERM", "NOAUTH"})


def code_of(text: str) -> str | None:
    """Return the code in the error message *text*; None if it is unknown."""
    match = _CODE.search(text)
    return None if match is None else match[1]


def refusal(text: str) -> SOSError:
    """Return the error for a Redis error *text*, which can quote a command: do not log it."""
    code = code_of(text)
    if code is None:
        word = text.partition(" ")[0]
        shown = f" ({word})" if word.isupper() and word.isalpha() else ""
        return Unavailable(f"the Redis refuses a command{shown}, see its version and settings")
    error, reason = _REASONS[code]
    return error(reason)
