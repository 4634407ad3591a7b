"""What a Redis refuses, in the words of a blob store."""

from __future__ import annotations

import re

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable

# A script that was refused quotes the refusal of what it has called, on one side or other.
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

#: What a new connection may not meet: behind the address there may be another server by now,
#: as after a failover that the old master has outlived, or other permissions.
ELSEWHERE = frozenset({"READONLY", "NOREPLICAS", "NOPERM", "NOAUTH"})


def code_of(text: str) -> str | None:
    """Return the code of the error that is described by *text*; None for an unknown one."""
    match = _CODE.search(text)
    return None if match is None else match[1]


def refusal(text: str) -> SOSError:
    """Return what Redis has refused with *text*, which itself can quote what was sent."""
    code = code_of(text)
    if code is None:
        word = text.partition(" ")[0]
        shown = f" ({word})" if word.isupper() and word.isalpha() else ""
        return Unavailable(f"the Redis refuses a command{shown}, see its version and settings")
    error, reason = _REASONS[code]
    return error(reason)
