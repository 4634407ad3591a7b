"""The table of blobs: its queries and inserts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from attrs import evolve, frozen
from psycopg.rows import TupleRow

from sos.errors import InvalidId, InvalidMetadata, NotFound, Unavailable
from sos.model import ids
from sos.model import metadata as metadata_format
from sos.model.digest import BlobDigest, PartitionDigest, blob_digest
from sos.model.metadata import DELETED_AT
from sos.stores.engines.postgres.digests import ADD, Digests
from sos.stores.engines.postgres.record import Record
from sos.stores.engines.postgres.schema import Tables
from sos.stores.engines.postgres.session import Session, one, transaction

_GET = """
SELECT size, hash, metadata, {body}, pieces, checksum,
    extract(epoch FROM stored_at)::float8, xmin::text
FROM {{blobs}} WHERE key = %s
"""
_FIND = _GET.format(body="substr(body, 1, 0)")
_READ = _GET.format(body="body")

# Adds blobs. A body in pieces must be whole, because a server that crashed may have lost some;
# and it must not be doomed, because then it is being removed.
_ADD = (
    """
WITH new AS (
    SELECT * FROM unnest(
        %(key)s::text[], %(size)s::bigint[], %(sum)s::text[]::numeric[], %(hash)b::bytea[],
        %(metadata)s::text[], %(checksum)s::bigint[], %(body)b::bytea[], %(pieces)s::bigint[]
    ) AS given (key, size, sum, hash, metadata, checksum, body, pieces)
), own AS (
    SELECT body FROM {loose} WHERE body = ANY(%(pieces)s::bigint[]) AND NOT doomed
    ORDER BY body FOR UPDATE
), whole AS (
    SELECT new.* FROM new WHERE pieces IS NULL OR (
        pieces IN (SELECT body FROM own) AND size =
        (SELECT sum(octet_length(bytes)) FROM {pieces} AS held WHERE held.body = new.pieces)
    )
), added AS (
    INSERT INTO {blobs} (key, size, hash, metadata, checksum, body, pieces)
    SELECT key, size, hash, metadata, checksum, body, pieces FROM whole ORDER BY key
    ON CONFLICT (key) DO NOTHING
    RETURNING key, pieces, extract(epoch FROM stored_at)::float8 AS stored_at
), taken AS (
    DELETE FROM {loose} USING added WHERE {loose}.body = added.pieces
), change AS (
    SELECT left(key, 3) AS partition, count(*) AS count, sum(size) AS bytes,
        mod(sum(sum), 340282366920938463463374607431768211456) AS sum
    FROM added JOIN new USING (key) GROUP BY 1
), counted AS ("""
    + ADD
    + ")\nSELECT key, stored_at FROM added"
)

_TAKE = """
DELETE FROM {loose} WHERE body = %(pieces)s AND NOT doomed AND %(size)s =
    (SELECT sum(octet_length(bytes)) FROM {pieces} AS held WHERE held.body = %(pieces)s)
"""

_REPLACE = """
UPDATE {blobs} SET size = %(size)s, hash = %(hash)s, metadata = %(metadata)s,
    checksum = %(checksum)s, body = %(body)b, pieces = %(pieces)s, stored_at = now()
WHERE key = %(key)s AND xmin::text = %(row)s
RETURNING extract(epoch FROM stored_at)::float8
"""


# The metadata of a deleted object, see sos.model.merge.
_TOMBSTONE = f'^{{"{DELETED_AT}":"[0-9]+"}}$'

# The types of the columns of _GET.
_RECORD = (int, bytes, str, bytes | None, int | None, int, float, str)


@frozen
class Blobs:
    """The blobs of a store."""

    tables: Tables
    digests: Digests

    def find(self, session: Session, id: str) -> Record:
        """Return the record of *id*, with an empty inline body if any; raises NotFound."""
        return self._get(session, _FIND, id)

    def lock(self, session: Session, id: str) -> Record:
        """Return the same, and lock the row until the end of the transaction."""
        return self._get(session, _FIND + "FOR UPDATE", id)

    def get(self, session: Session, id: str) -> Record:
        """Return the record of *id* with its inline body; raises NotFound."""
        return self._get(session, _READ, id)

    def _get(self, session: Session, asked: str, id: str) -> Record:
        asked_for = self.tables.sql(asked), (ids.sort_key(id),)
        found = session.rows(*asked_for, *_RECORD, binary=True)
        if not found:
            raise NotFound(f"there is no blob {id}")
        return _record(id, one(found))

    def page(
        self, session: Session, after: str | None, limit: int, partition: str | None
    ) -> list[str]:
        """List at most *limit* ids after *after*; of one partition, or of all if it is None.

        Those of deleted objects are omitted.
        """
        asked = (
            "SELECT key FROM {blobs} WHERE key > %s AND key >= %s AND key < %s"
            " AND metadata !~ %s ORDER BY key LIMIT %s"
        )
        start = "" if after is None else ids.sort_key(after)
        part = partition or ""
        rows = session.rows(
            self.tables.sql(asked), (start, part, part + "~", _TOMBSTONE, limit), str
        )
        return [_listed(key) for (key,) in rows]

    def blob_digests(self, session: Session, partition: str) -> dict[str, BlobDigest]:
        """Return the digest of each blob of a partition, by id."""
        asked = "SELECT key, size, metadata, hash FROM {blobs} WHERE key >= %s AND key < %s"
        values = partition, partition + "~"
        rows = session.rows(self.tables.sql(asked), values, str, int, str, bytes)
        try:
            return {
                id: blob_digest(id, size, metadata_format.decode(metadata.encode()), hash)
                for key, size, metadata, hash in rows
                if (id := _listed(key))
            }
        except InvalidMetadata as error:
            raise Unavailable(
                f"the metadata of a blob in {partition} is damaged: {error}"
            ) from error

    def add(self, session: Session, new: Sequence[Record]) -> dict[str, float]:
        """Store those whose ids are free; return the times of storing, by id.

        A record whose pieces are missing or doomed is not stored either. All ids must differ.
        """
        values = {
            "writer": self.digests.writer,
            "key": [each.key for each in new],
            "size": [each.size for each in new],
            "sum": [str(each.sum) for each in new],
            "hash": [each.hash for each in new],
            "metadata": [each.metadata for each in new],
            "checksum": [each.checksum for each in new],
            "body": [each.body for each in new],
            "pieces": [each.pieces for each in new],
        }
        rows = session.rows(self.tables.sql(_ADD), values, str, float)
        return {key[3:]: stored_at for key, stored_at in rows}

    def replace(self, session: Session, held: Record, new: Record) -> Record | None:
        """Replace *held* by *new*; return None if *held* has changed meanwhile."""
        with transaction(session):
            return self.replace_within(session, held, new)

    def replace_within(self, session: Session, held: Record, new: Record) -> Record | None:
        """Do the same within a transaction."""
        values = {
            "key": new.key,
            "row": held.row,
            "size": new.size,
            "hash": new.hash,
            "metadata": new.metadata,
            "checksum": new.checksum,
            "body": new.body,
            "pieces": new.pieces,
        }
        if new.pieces is not None:
            taken = session.execute(self.tables.sql(_TAKE), values)
            if not taken.rowcount:
                raise Unavailable(
                    f"part of the body of {new.id} was lost before it was stored; send it again"
                )
        stored = session.rows(self.tables.sql(_REPLACE), values, float)
        if not stored:
            if new.pieces is not None:
                self.let_go(session, new.pieces)
            return None
        if held.pieces is not None:
            self.let_go(session, held.pieces)
        change = PartitionDigest().with_blob(new.size, new.sum)
        self.digests.change(session, new.id, change.without_blob(held.size, held.sum))
        return evolve(new, stored_at=one(stored)[0])

    def let_go(self, session: Session, pieces: int) -> None:
        """Make the body *pieces* loose, to be removed when nobody reads it any more."""
        session.execute(self.tables.sql("INSERT INTO {loose} (body) VALUES (%s)"), (pieces,))


def _listed(key: str) -> str:
    """Return the id whose sort key is *key*; raises Unavailable if there is none."""
    with suppress(InvalidId):
        if ids.sort_key(id := ids.check(key[3:])) == key:
            return id
    raise Unavailable(f"the table of blobs contains an invalid id: {key!a:.100}")


def _record(id: str, row: TupleRow) -> Record:
    size, hash, metadata, body, pieces, checksum, stored_at, version = row
    return Record(id, size, hash, metadata, body, pieces, checksum, stored_at, version)
