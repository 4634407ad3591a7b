"""The tables of a store, which the first process that opens it makes.

=============== =====================================================================
``sos``         one row a blob, in the order of listings; a small body is in it
``sos_pieces``  larger bodies, in pieces, by a number of their own
``sos_loose``   bodies that are no blob's: not yet, or not any more
``sos_digests`` what each partition holds; the sum of the rows that there are of it
``sos_damaged`` blobs that were not what had been stored
``sos_state``   one row: the version of all this, and the lease
=============== =====================================================================
"""

from __future__ import annotations

from functools import cache

from attrs import frozen
from psycopg import errors

from sos.errors import StoreUnusable, Unavailable
from sos.stores.postgres.session import Session, transaction

_VERSION = 1
#: Bytes of each piece of a body, but for the last. It is a part of the format.
PIECE_SIZE = 256 * 1024

# Bodies are what is compressed already, or what does not matter.
_CREATE = """
CREATE TABLE {state} (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sos_version integer NOT NULL,
    lease text,
    lease_until timestamptz
);
CREATE TABLE {blobs} (
    key text COLLATE "C" PRIMARY KEY,
    size bigint NOT NULL,
    hash bytea NOT NULL,
    metadata text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    checksum bigint NOT NULL,
    body bytea,
    pieces bigint
);
ALTER TABLE {blobs} ALTER body SET STORAGE EXTERNAL;
CREATE TABLE {pieces} (
    body bigint,
    number integer,
    bytes bytea NOT NULL,
    PRIMARY KEY (body, number)
);
ALTER TABLE {pieces} ALTER bytes SET STORAGE EXTERNAL;
CREATE TABLE {loose} (
    body bigint PRIMARY KEY,
    seen timestamptz NOT NULL DEFAULT now(),
    doomed boolean NOT NULL DEFAULT false
);
CREATE TABLE {digests} (
    partition text COLLATE "C",
    writer integer,
    count bigint NOT NULL,
    bytes bigint NOT NULL,
    sum numeric(39) NOT NULL,
    PRIMARY KEY (partition, writer)
) WITH (fillfactor = 50);
CREATE TABLE {damaged} (
    LIKE {blobs},
    damaged_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL
);
"""


@frozen
class Tables:
    """The tables that begin with the name *table*."""

    table: str

    def sql(self, text: str) -> bytes:
        """Return the statement *text*, in which ``{pieces}`` is the name of that table."""
        return _named(text, self.table)

    def prepare(self, session: Session) -> None:
        """Make the tables, or see that they are those of this version.

        :raises StoreUnusable: when they are not.
        :raises Unavailable: when they are not there, and cannot be made now.
        """
        try:
            with transaction(session):
                # Several processes may be started at once.
                lock = "SELECT pg_advisory_xact_lock(hashtext(%s))"
                session.execute(lock, (f"sos {self.table}",))
                version = self._version(session)
                if version is None:
                    session.execute(self.sql(_CREATE))
                    made = self.sql("INSERT INTO {state} (sos_version) VALUES (%s)")
                    session.execute(made, (_VERSION,))
        except errors.ReadOnlySqlTransaction as error:
            raise Unavailable("it is read-only, and has no tables of a store yet") from error
        except (errors.DuplicateTable, errors.InsufficientPrivilege) as error:
            raise StoreUnusable(
                f"the tables cannot be made: {error.diag.message_primary}"
            ) from error
        if version not in (None, _VERSION):
            raise StoreUnusable(
                f"the tables {self.table} are of version {version}; this program knows {_VERSION}"
            )

    def _version(self, session: Session) -> int | None:
        there = session.execute(
            "SELECT to_regclass(%s) IS NOT NULL, to_regclass(%s) IS NOT NULL",
            (f"{self.table}_state", self.table),
        ).fetchone()
        if there == (False, False):
            return None
        if there != (True, True):
            raise StoreUnusable(f"there is a table {self.table} that is not of a store")
        try:
            row = session.execute(self.sql("SELECT sos_version FROM {state}")).fetchone()
        except (errors.UndefinedColumn, errors.InsufficientPrivilege) as error:
            raise StoreUnusable(
                f"the table {self.table}_state cannot be read: {error.diag.message_primary}"
            ) from error
        if row is None:
            raise StoreUnusable(f"the table {self.table}_state is empty")
        return row[0]


@cache  # there are a few dozen
def _named(text: str, table: str) -> bytes:
    # A name of letters, digits and "_" can be quoted so; see address.py.
    kinds = ("state", "pieces", "loose", "digests", "damaged")
    names = {kind: f'"{table}_{kind}"' for kind in kinds}
    return text.format(blobs=f'"{table}"', **names).encode()
