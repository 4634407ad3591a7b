"""Larger bodies in pieces: writing, reading and garbage collection.

A body is *loose* until a transaction makes it the body of a blob, and again after the blob is
dropped. A process marks the loose bodies that it writes or reads as used. Any process removes a
loose body that has not been used for long. First it *dooms* the body, in a separate transaction:
a doomed body cannot become the body of a blob.

Each piece has a hash in its row, with which a part of the body can be verified without the rest.
The hash is missing if an earlier version stored the piece, or if the table has no column for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from attrs import frozen
from xxhash import xxh3_128_digest

from sos.errors import Unavailable
from sos.stores.engines.postgres.schema import PIECE_SIZE, Tables
from sos.stores.engines.postgres.session import Session, one

# Seconds after the last use from which a loose body counts as abandoned.
_ABANDONED_SECONDS = 900
# Most pieces that one statement removes, because statements time out.
_CLEARED_TOGETHER = 256

# These inserts need not wait for the disk: they are not acknowledged. The commit that is
# acknowledged flushes all before it, and finds out if a crash has lost pieces.
_HURRY = "(SELECT set_config('synchronous_commit', 'off', true)) AS hurry"
_FIRST = "WITH own AS (INSERT INTO {loose} (body) VALUES (%(body)s) RETURNING body)"
_NEXT = """
WITH own AS (UPDATE {loose} SET seen = now() WHERE body = %(body)s AND NOT doomed RETURNING body)
"""
_WITH_HASH = f"""
INSERT INTO {{pieces}} (body, number, bytes, hash)
SELECT own.body, %(number)s, %(bytes)b, %(hash)b FROM own, {_HURRY}
"""
_WITHOUT_HASH = f"""
INSERT INTO {{pieces}} (body, number, bytes)
SELECT own.body, %(number)s, %(bytes)b FROM own, {_HURRY}
"""
# If the table has no column "hash", the name refers to the column of "absent".
_PIECE = """
SELECT CASE WHEN held.hash IS NULL THEN substr(bytes, %s, %s) ELSE bytes END, held.hash
FROM (SELECT NULL::bytea AS hash) AS absent, LATERAL (
    SELECT bytes, hash FROM {pieces} WHERE body = %s AND number = %s
) AS held
"""
_SAME = """
SELECT one.bytes = other.bytes FROM {pieces} AS one, {pieces} AS other
WHERE one.body = %s AND other.body = %s AND one.number = %s AND other.number = one.number
"""
_DOOM = "UPDATE {loose} SET doomed = true WHERE body = %s"
_CLEAR = """
DELETE FROM {pieces} WHERE body = %(body)s AND number IN (
    SELECT number FROM {pieces} WHERE body = %(body)s LIMIT %(limit)s
) AND EXISTS (SELECT FROM {loose} WHERE body = %(body)s AND doomed)
"""
_CLEARED = """
WITH cleared AS (
    DELETE FROM {loose} WHERE body = %(body)s AND doomed
    AND NOT EXISTS (SELECT FROM {pieces} WHERE body = %(body)s) RETURNING body
)
SELECT FROM {loose} WHERE body = %(body)s AND doomed AND body NOT IN (SELECT body FROM cleared)
"""
_SEEN = """
WITH used AS (
    SELECT body FROM {loose} WHERE body = ANY(%s) ORDER BY body FOR UPDATE SKIP LOCKED
)
UPDATE {loose} SET seen = now() FROM used WHERE {loose}.body = used.body
"""
_ABANDONED = """
UPDATE {loose} SET doomed = true WHERE body = (
    SELECT body FROM {loose} WHERE doomed OR seen < now() - make_interval(secs => %(age)s) LIMIT 1
) AND (doomed OR seen < now() - make_interval(secs => %(age)s))
RETURNING body
"""


def new_body() -> int:
    """Return a random number for a body; a sequence could repeat numbers after a crash."""
    return secrets.randbits(63)


def _hash(body: int, number: int, piece: bytes) -> bytes:
    """Return the hash of a piece, an XXH3-128; its seed binds it to the place of the piece."""
    return xxh3_128_digest(piece, seed=body + number)


@frozen
class Bodies:
    """The bodies in pieces of a store."""

    tables: Tables

    def add(self, session: Session, body: int, number: int, piece: bytes) -> None:
        """Store piece *number*, from 0, of a loose *body*."""
        if session.has_hashes is None:
            session.has_hashes = self.tables.has_hashes(session)
        insert = _WITH_HASH if session.has_hashes else _WITHOUT_HASH
        asked = self.tables.sql((_NEXT if number else _FIRST) + insert)
        hash = _hash(body, number, piece)
        values = {"body": body, "number": number, "bytes": piece, "hash": hash}
        if not session.execute(asked, values).rowcount:
            raise Unavailable(
                "the part of the body that had arrived was deleted as abandoned; send it again"
            )

    def piece(self, session: Session, body: int, start: int, stop: int) -> bytes | None:
        """Return the bytes from *start* to *stop*, or to the end of the piece; empty if missing.

        If the piece has a hash, verify all of it; return None if it does not match.
        """
        number, first = divmod(start, PIECE_SIZE)
        size = min(stop - start, PIECE_SIZE - first)
        asked = self.tables.sql(_PIECE)
        values = first + 1, size, body, number
        rows = session.rows(asked, values, bytes, bytes | None, binary=True)
        if not rows:
            return b""
        piece, hash = one(rows)
        if hash is None:
            return piece
        return piece[first : first + size] if _hash(body, number, piece) == hash else None

    def is_same_piece(self, session: Session, one: int, other: int, number: int) -> bool | None:
        """Return whether a piece of two bodies is the same; None if one is missing."""
        rows = session.rows(self.tables.sql(_SAME), (one, other, number), bool)
        return rows[0][0] if rows else None

    def doom(self, session: Session, body: int) -> None:
        """Doom *body*, if it is loose."""
        session.execute(self.tables.sql(_DOOM), (body,))

    def abandoned(self, session: Session) -> int | None:
        """Doom an abandoned body, and return its number; None if there is none."""
        values = {"age": _ABANDONED_SECONDS}
        rows = session.rows(self.tables.sql(_ABANDONED), values, int)
        return rows[0][0] if rows else None

    def clear(self, session: Session, body: int) -> bool:
        """Remove some pieces of a doomed body; return whether there may be more."""
        # Count nothing here: other processes may remove pieces of the same body.
        session.execute(self.tables.sql(_CLEAR), {"body": body, "limit": _CLEARED_TOGETHER})
        return bool(session.execute(self.tables.sql(_CLEARED), {"body": body}).rowcount)

    def use(self, session: Session, bodies: Collection[int]) -> None:
        """Mark those of *bodies* that are loose as used now."""
        session.execute(self.tables.sql(_SEEN), (list(bodies),))
