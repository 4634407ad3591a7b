"""Redis errors, translated into the errors of a blob store."""

from __future__ import annotations

import re

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable

# The error of a script quotes the error of the command that it called, before or after its own.
_CODE = re.compile(r"\b(OOM|READONLY|MISCONF|LOADING|BUSY|NOPERM|NOAUTH|NOREPLICAS|WRONGTYPE)\b")

_REASONS: dict[str, tuple[type[SOSError], str]] = {
    "OOM": (NoSpace, "Redis is full: it has reached its maxmemory"),
    "READONLY": (ReadOnly, "this Redis is a replica; write to its primary"),
    "MISCONF": (ReadOnly, "Redis cannot write to its disk; see its log"),
    "LOADING": (Unavailable, "Redis is still loading its data; try again"),
    "BUSY": (Unavailable, "Redis is busy with a script; try again"),
    "NOPERM": (Unavailable, "the Redis user lacks the permission for a command or a key"),
    "NOAUTH": (Unavailable, "Redis requires a password"),
    "NOREPLICAS": (ReadOnly, "Redis has fewer replicas than its min-replicas-to-write"),
    "WRONGTYPE": (Unavailable, "a key of the store in Redis has the wrong type"),
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
        return Unavailable(f"Redis rejects a command{shown}; check its version and settings")
    error, reason = _REASONS[code]
    return error(reason)
