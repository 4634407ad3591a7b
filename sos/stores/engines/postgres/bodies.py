"""Larger bodies in pieces: writing, reading and garbage collection.

A body is *loose* until a transaction makes it the body of a blob, and again after the blob is
dropped. A process marks the loose bodies that it writes or reads as used. Any process removes a
loose body that has not been used for long. First it *dooms* the body, in a separate transaction:
a doomed body cannot become the body of a blob.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from attrs import frozen

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
_FIRST = f"""
WITH new AS (INSERT INTO {{loose}} (body) VALUES (%(body)s) RETURNING body)
INSERT INTO {{pieces}} (body, number, bytes)
SELECT new.body, %(number)s, %(bytes)b FROM new, {_HURRY}
"""
_NEXT = f"""
WITH own AS (UPDATE {{loose}} SET seen = now() WHERE body = %(body)s AND NOT doomed RETURNING body)
INSERT INTO {{pieces}} (body, number, bytes)
SELECT own.body, %(number)s, %(bytes)b FROM own, {_HURRY}
"""
_PIECE = "SELECT substr(bytes, %s, %s) FROM {pieces} WHERE body = %s AND number = %s"
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


@frozen
class Bodies:
    """The bodies in pieces of a store."""

    tables: Tables

    def add(self, session: Session, body: int, number: int, piece: bytes) -> None:
        """Store piece *number*, from 0, of a loose *body*."""
        asked = self.tables.sql(_NEXT if number else _FIRST)
        values = {"body": body, "number": number, "bytes": piece}
        if not session.execute(asked, values).rowcount:
            raise Unavailable(
                "the part of the body that had arrived was deleted as abandoned; send it again"
            )

    def piece(self, session: Session, body: int, start: int, stop: int) -> bytes:
        """Return the bytes from *start* to *stop*, or to the end of the piece; empty if missing."""
        number, first = divmod(start, PIECE_SIZE)
        size = min(stop - start, PIECE_SIZE - first)
        asked = self.tables.sql(_PIECE)
        rows = session.rows(asked, (first + 1, size, body, number), bytes, binary=True)
        return one(rows)[0] if rows else b""

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
