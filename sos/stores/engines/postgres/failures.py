"""Errors of PostgreSQL and of connecting, translated into the errors of a store."""

from __future__ import annotations

import re

from psycopg import Error, errors

from sos.errors import NoSpace, ReadOnly, SOSError, StoreUnusable, Unavailable, printable

#: Errors that go away when the transaction is retried.
AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)

# SQLSTATEs that a new connection may avoid, because the address may lead to another server by
# now, or to restored tables: a primary that became a standby, missing permissions or columns, too
# many or ended connections.
_ELSEWHERE = re.compile("25006|42501|42703|53300|57P0[1-5]|28...|08...")

# A connection that is refused has no SQLSTATE in libpq, only this.
_REFUSED = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|"
    '(role|database) ".*" (does not exist|is not permitted)|permission denied for database'
)


def meaning(error: Error, name: str) -> SOSError:
    """Return the error of a store for *error*; *name* is the name of the store."""
    message = f"{name}: {_text(error)}"
    match error:
        case errors.DiskFull():
            return NoSpace(message)
        case errors.ReadOnlySqlTransaction():
            return ReadOnly(message)
    return Unavailable(message)


def is_elsewhere(error: Error) -> bool:
    """Return whether a new connection may avoid *error*; then close this one."""
    return _ELSEWHERE.fullmatch(error.sqlstate or "") is not None


def refusal(error: Error, name: str) -> SOSError:
    """Return the error of a store for an *error* while connecting."""
    if _REFUSED.search(str(error)) or isinstance(error, errors.InvalidAuthorizationSpecification):
        return StoreUnusable(f"{name}: {_text(error)}")
    return Unavailable(f"{name}: {_text(error)}")


def primary(error: Error) -> str:
    """Return the primary message of *error*, made printable and cut for the log."""
    return printable((error.diag.message_primary or "")[:500])


def _text(error: Error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0][:500]) if lines else type(error).__name__
