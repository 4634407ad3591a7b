"""Larger bodies, in pieces: on their way in, read, and cleared away.

A body that comes in is *loose* until the transaction that makes a blob of it,
and that of a dropped blob is loose again.  What is loose for long, because the
process is gone that wrote it or read it, is cleared away by whoever sees it.
Before the first piece of it goes it is *doomed*, in a transaction of its own:
from then on nothing can make a blob of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from attrs import frozen

from sos.errors import Unavailable
from sos.stores.engines.postgres.schema import PIECE_SIZE, Tables
from sos.stores.engines.postgres.session import Session, one

# Seconds after which a body that nobody has claimed to use is cleared away.
_ABANDONED_SECONDS = 900
# Pieces that are removed at once: a statement has little time.
_CLEARED_TOGETHER = 256

# Nothing of these is acknowledged: the commit that is waits for all before it, and
# misses what a crash has lost of them.
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
    """Return a number that no other body ever has, whatever a crash made PostgreSQL forget."""
    return secrets.randbits(63)


@frozen
class Bodies:
    """The bodies of a store that are in pieces."""

    tables: Tables

    def add(self, session: Session, body: int, number: int, piece: bytes) -> None:
        """Store the next *piece* of a body: the *number*-th, from 0."""
        asked = self.tables.sql(_NEXT if number else _FIRST)
        values = {"body": body, "number": number, "bytes": piece}
        if not session.execute(asked, values).rowcount:
            raise Unavailable("what came of the body was cleared away; send it again")

    def piece(self, session: Session, body: int, start: int, stop: int) -> bytes:
        """Return what there is from byte *start* to *stop*, or to the end of a piece."""
        number, first = divmod(start, PIECE_SIZE)
        size = min(stop - start, PIECE_SIZE - first)
        asked = self.tables.sql(_PIECE)
        rows = session.rows(asked, (first + 1, size, body, number), bytes, binary=True)
        return one(rows)[0] if rows else b""

    def is_same_piece(self, session: Session, one: int, other: int, number: int) -> bool | None:
        """Tell whether a piece of two bodies is the same; None when one of them is not there."""
        rows = session.rows(self.tables.sql(_SAME), (one, other, number), bool)
        return rows[0][0] if rows else None

    def doom(self, session: Session, body: int) -> None:
        """Let nothing become of *body* any more, if it is loose."""
        session.execute(self.tables.sql(_DOOM), (body,))

    def abandoned(self, session: Session) -> int | None:
        """Doom a body that has been loose for long, and return it; None if there is none."""
        values = {"age": _ABANDONED_SECONDS}
        rows = session.rows(self.tables.sql(_ABANDONED), values, int)
        return rows[0][0] if rows else None

    def clear(self, session: Session, body: int) -> bool:
        """Remove some of a body that is doomed; tell whether there may be more of it."""
        # Others may be at it, too: how much was removed here says nothing.
        session.execute(self.tables.sql(_CLEAR), {"body": body, "limit": _CLEARED_TOGETHER})
        return bool(session.execute(self.tables.sql(_CLEARED), {"body": body}).rowcount)

    def use(self, session: Session, bodies: Collection[int]) -> None:
        """Claim that *bodies* are used, those of them that are loose."""
        session.execute(self.tables.sql(_SEEN), (list(bodies),))
