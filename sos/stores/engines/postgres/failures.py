"""What PostgreSQL and the way to it say when something is wrong, in the words of a store."""

from __future__ import annotations

import re

from psycopg import Error, errors

from sos.errors import NoSpace, ReadOnly, SOSError, StoreUnusable, Unavailable, printable

#: What goes away by itself when the transaction is run again.
AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)

# What a new connection may not meet, for behind the address there may be another server by
# now: a master that became a standby, what its roles may do, what it had to end.
_ELSEWHERE = re.compile("25006|42501|53300|57P0[1-5]|28...|08...")

# A connection that is refused has no SQLSTATE in libpq, only this.
_REFUSED = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|"
    '(role|database) ".*" (does not exist|is not permitted)|permission denied for database'
)


def meaning(error: Error, name: str) -> SOSError:
    """Return what *error*, of the store *name*, means."""
    said = f"{name}: {_text(error)}"
    match error:
        case errors.DiskFull():
            return NoSpace(said)
        case errors.ReadOnlySqlTransaction():
            return ReadOnly(said)
    return Unavailable(said)


def is_elsewhere(error: Error) -> bool:
    """Tell whether a new connection might not meet *error*: then this one is of no more use."""
    return _ELSEWHERE.fullmatch(error.sqlstate or "") is not None


def refusal(error: Error, name: str) -> SOSError:
    """Return what an *error* while connecting means."""
    if _REFUSED.search(str(error)) or isinstance(error, errors.InvalidAuthorizationSpecification):
        return StoreUnusable(f"{name}: {_text(error)}")
    return Unavailable(f"{name}: {_text(error)}")


def primary(error: Error) -> str:
    """Return what the server says of *error* in short, as logs may tell it."""
    return printable((error.diag.message_primary or "")[:500])


def _text(error: Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0][:500]) if lines else type(error).__name__
