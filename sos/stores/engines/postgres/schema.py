"""The tables of a store; the first process that opens the store creates them.

=============== =====================================================================
``sos``         one row for each blob, in the order of listings, with its small body
``sos_pieces``  larger bodies, in pieces, by the number of the body
``sos_loose``   bodies that do not belong to a blob: not yet, or no longer
``sos_digests`` the digests of the partitions, each of which is the sum of its rows
``sos_damaged`` quarantined blobs
``sos_state``   one row: the version of the tables, the id of the store, and the lease
=============== =====================================================================
"""

from __future__ import annotations

from functools import cache
from uuid import uuid4

from attrs import frozen
from psycopg import ProgrammingError, errors
from twisted.logger import Logger

from sos.errors import StoreUnusable, Unavailable, printable
from sos.stores.engines.postgres.failures import primary
from sos.stores.engines.postgres.session import Session, one, transaction

_VERSION = 1
#: Bytes of each piece of a body except the last. This is part of the format.
PIECE_SIZE = 256 * 1024

# Bodies are stored uncompressed: the large ones are mostly compressed already.
_CREATE = """
CREATE TABLE {state} (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sos_version integer NOT NULL,
    store_id text,
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
    hash bytea,
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


# A store that is older than ids has no column store_id.
_STATE = "SELECT sos_version, to_jsonb(held) ->> 'store_id' FROM {state} AS held"
_ADOPT = """
ALTER TABLE {state} ADD COLUMN IF NOT EXISTS store_id text;
UPDATE {state} SET store_id = '%s' WHERE store_id IS NULL;
"""
# A store that is older than hashes of pieces has no column hash. All others that use the table
# wait while this statement waits for its lock.
_ADD_HASHES = """
SET LOCAL lock_timeout = '1s';
ALTER TABLE {pieces} ADD COLUMN IF NOT EXISTS hash bytea;
"""
_HAS_HASHES = """
SELECT EXISTS (SELECT FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attname = 'hash' AND NOT attisdropped)
"""
_ELSEWHERE = """
SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON relnamespace = pg_namespace.oid
WHERE relname = %s AND relkind = 'r'
"""

_log = Logger()


@frozen
class Tables:
    """The tables of a store, whose names begin with *table*."""

    table: str

    def sql(self, text: str) -> bytes:
        """Return the statement *text* with the table names filled in, as for ``{pieces}``."""
        return _named(text, self.table)

    def prepare(self, session: Session, name: str, require: bool) -> str | None:
        """Return the id of the store in the tables; create the tables if there are none.

        A store without an id gets one; the result is None if the server does not allow that. A
        store without a column for the hashes of pieces gets one, if the server allows that.

        :param name: the name of the store, for the log.
        :param require: whether the store must exist already.
        :raises StoreUnusable: if there is no store and none can be made or *require* forbids it,
            or if the tables are not usable.
        :raises Unavailable: if there are no tables, and the server is read-only.
        """
        try:
            with transaction(session):
                self._lock(session)
                held = self._held(session)
                if held is None:
                    id = self._create(session, require)
        except errors.ReadOnlySqlTransaction as error:
            raise Unavailable(
                "the server is read-only, and the store has no tables there yet"
            ) from error
        except (errors.DuplicateTable, errors.InsufficientPrivilege) as error:
            raise StoreUnusable(f"cannot create the tables: {primary(error)}") from error
        if held is None:
            _log.info("created a new store in {store}, id={id}", store=name, id=id)
            return id
        version, known = held
        if version != _VERSION:
            raise StoreUnusable(
                f"the tables {self.table} have version {version}, this program knows {_VERSION}"
            )
        self._add_hashes(session, name)
        return known or self._adopt(session, name)

    def identity(self, session: Session) -> str | None:
        """Return the id of the store at the other end of *session*; None if there is none."""
        held = self._held(session)
        return None if held is None else held[1]

    def has_hashes(self, session: Session) -> bool:
        """Return whether the table of pieces has a column for their hashes."""
        return one(session.rows(_HAS_HASHES, (f"{self.table}_pieces",), bool))[0]

    def _lock(self, session: Session) -> None:
        """Lock out other processes that open the store at the same time."""
        lock = "SELECT pg_advisory_xact_lock(hashtext(%s))"
        session.execute(lock, (f"sos {self.table}",))

    def _create(self, session: Session, require: bool) -> str:
        state = f"{self.table}_state"
        elsewhere = session.rows(_ELSEWHERE, (state,), str)
        if elsewhere:
            schema = printable(elsewhere[0][0])
            raise StoreUnusable(
                f"the tables {self.table} are in the schema {schema}, which is not in the "
                "search_path or not permitted: correct that, or name other tables with ?table="
            )
        if require:
            raise StoreUnusable(
                f"there are no tables {self.table}, and --require-store forbids creating a store"
            )
        session.execute(self.sql(_CREATE))
        made = self.sql("INSERT INTO {state} (sos_version, store_id) VALUES (%s, %s)")
        id = str(uuid4())
        session.execute(made, (_VERSION, id))
        return id

    def _adopt(self, session: Session, name: str) -> str | None:
        try:
            with transaction(session):
                self._lock(session)
                session.execute(self.sql(_ADOPT % uuid4()))
        except (errors.ReadOnlySqlTransaction, errors.InsufficientPrivilege) as error:
            reason = primary(error)
            _log.warn("cannot give an id to the store {store}: {reason}", store=name, reason=reason)
            return None
        id = self.identity(session)
        _log.info("gave an id to the store {store}, id={id}", store=name, id=id)
        return id

    def _add_hashes(self, session: Session, name: str) -> None:
        if self.has_hashes(session):
            return  # without the lock that IF NOT EXISTS takes all the same
        try:
            with transaction(session):
                session.execute(self.sql(_ADD_HASHES))
        except (
            ProgrammingError,  # above all InsufficientPrivilege
            errors.ReadOnlySqlTransaction,
            errors.LockNotAvailable,
            errors.DiskFull,
        ) as error:
            _log.warn(
                "cannot add a column for hashes of pieces, store={store}: {reason}",
                store=name,
                reason=primary(error),
            )
        else:
            _log.info("added a column for hashes of pieces, store={store}", store=name)

    def _held(self, session: Session) -> tuple[int, str | None] | None:
        """Return the version of the tables and the id of the store; None if there are none."""
        there = one(
            session.rows(
                "SELECT to_regclass(%s) IS NOT NULL, to_regclass(%s) IS NOT NULL",
                (f"{self.table}_state", self.table),
                bool,
                bool,
            )
        )
        if there == (False, False):
            return None
        if there != (True, True):
            raise StoreUnusable(
                f"there is a table {self.table} that does not belong to a store; choose another "
                "?table="
            )
        try:
            rows = session.rows(self.sql(_STATE), None, int, str | None)
        except (errors.UndefinedColumn, errors.InsufficientPrivilege) as error:
            raise StoreUnusable(
                f"the table {self.table}_state cannot be read: {primary(error)}"
            ) from error
        if not rows:
            raise StoreUnusable(
                f"the table {self.table}_state is empty: restore the tables from a backup"
            )
        version, id = one(rows)
        return version, None if id is None else printable(id[:100])


@cache  # a few dozen statements
def _named(text: str, table: str) -> bytes:
    # Quoting needs no escapes: address.py admits only letters, digits and "_".
    kinds = ("state", "pieces", "loose", "digests", "damaged")
    names = {kind: f'"{table}_{kind}"' for kind in kinds}
    return text.format(blobs=f'"{table}"', **names).encode()
