"""A connection to PostgreSQL with a deadline for each answer.

The kernel of a server acknowledges TCP segments even if the server process hangs. So neither the
timeouts of the server nor those of TCP end the wait for an answer.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, TypeVar

from psycopg import Connection, DataError, Error, OperationalError, adapters
from psycopg.abc import Params, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types import array, none, numeric, string
from psycopg.types import bool as boolean
from psycopg.waiting import Ready, Wait

from sos.stores.engines.postgres.address import Address

T = TypeVar("T")

# Seconds after which the server cancels a statement, and after which it ends a transaction whose
# client hangs, and so releases its locks.
_STATEMENT_SECONDS = 8
_IDLE_SECONDS = 15

_EVENTS = {
    Wait.R: select.POLLIN,
    Wait.W: select.POLLOUT,
    Wait.RW: select.POLLIN | select.POLLOUT,
}


# Dumpers and loaders for the types that SOS uses. A value of any other type is read as text
# or bytes, and rejected: in psycopg 3.3.4 and older the loader of timestamptz crashes the
# process on a malformed value, which a hostile server can send.
_KINDS = AdaptersMap(types=adapters.types)
for _kind in (string, numeric, boolean, none, array):
    _kind.register_default_adapters(_KINDS)


class NoAnswer(OperationalError):
    """The server did not answer in time; the connection is closed."""


class Session(Connection[TupleRow]):
    """A connection for one thread at a time.

    :ivar deadline: the time by :func:`time.monotonic` at which waiting for an answer ends.
    :ivar weakness: why a crash can lose commits; None if they are durable.
    :ivar has_hashes: whether the table of pieces has a column for hashes; None if not known yet.
    """

    deadline: float = 0.0
    weakness: str | None = None
    has_hashes: bool | None = None

    def wait(self, gen: PQGen[T], *_: Any, **__: Any) -> T:
        """Run *gen* to its end; raises NoAnswer if the deadline passes first."""
        poll = select.poll()
        try:
            wanted = next(gen)
            while True:
                poll.register(self.pgconn.socket, _EVENTS[wanted])
                ready = poll.poll(max(0.0, self.deadline - monotonic()) * 1000)
                if not ready:
                    self.close()
                    raise NoAnswer("the server did not answer in time")
                wanted = gen.send(_ready(ready[0][1], wanted))
        except StopIteration as end:
            return end.value

    def rows(
        self, asked: str | bytes, values: Params | None, *kinds: Any, binary: bool = False
    ) -> list[TupleRow]:
        """Execute *asked*, and return its rows, whose columns must be of the types *kinds*.

        Raises :exc:`psycopg.DataError` for other types: the server at the address can be anything.
        """
        try:
            found = self.cursor(binary=binary).execute(asked, values).fetchall()
        except (ValueError, OverflowError) as error:  # a value that could not be parsed
            raise DataError("the server answered with invalid values") from error
        for row in found:
            if len(row) != len(kinds) or not all(map(isinstance, row, kinds)):
                raise DataError("the server answered with unexpected columns")
        return found

    def is_usable(self) -> bool:
        """Return whether the connection is open, idle and has no unexpected data to read."""
        if self.closed or self.info.transaction_status != TransactionStatus.IDLE:
            return False
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return not poll.poll(0)


@contextmanager
def transaction(session: Session) -> Iterator[None]:
    """Run the block in a transaction; roll back if it raises."""
    session.execute("BEGIN")
    try:
        yield
    except BaseException:
        if not session.closed:
            with suppress(Error):
                session.execute("ROLLBACK")
        raise
    session.execute("COMMIT")


def connect(address: Address) -> Session:
    """Open a connection, and find its weakness; raises :exc:`psycopg.Error`.

    Turns ``synchronous_commit`` on if it is off, unless the address is *relaxed*.
    """
    session = Session.connect(address.conninfo, autocommit=True, context=_KINDS)
    session.deadline = monotonic() + _STATEMENT_SECONDS
    try:
        session.execute(
            # Use UTF-8, whatever the encoding of the database and the options of the URL are.
            "SET client_encoding = 'UTF8'; "
            f"SET statement_timeout = '{_STATEMENT_SECONDS}s'; "
            f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'; "
            "SET default_transaction_isolation = 'read committed'"
        )
        if not address.relaxed:
            session.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        session.weakness = weakness(session)
    except BaseException:
        session.close()
        raise
    return session


def weakness(session: Session) -> str | None:
    """Return why a crash can lose or tear commits; None if they are durable."""
    names = ("fsync", "full_page_writes", "synchronous_commit")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    settings = one(session.rows(f"SELECT {asked}", None, str, str, str))
    off = [name for name, value in zip(names, settings, strict=True) if value == "off"]
    return f"the server runs with {', '.join(f'{name} = off' for name in off)}" if off else None


def one(rows: list[TupleRow]) -> TupleRow:
    """Return the only row; raises :exc:`psycopg.DataError` unless there is exactly one."""
    if len(rows) != 1:
        raise DataError(f"the server answered with {len(rows)} rows instead of one")
    return rows[0]


def _ready(events: int, wanted: Wait) -> Ready:
    # Let libpq find hangups and errors, by the read or write that it wants to do.
    if events & ~(select.POLLIN | select.POLLOUT):
        return Ready(int(wanted))
    return Ready((events & select.POLLIN and Ready.R) | (events & select.POLLOUT and Ready.W))
