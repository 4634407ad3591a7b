"""Reading and verifying bodies that are stored in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from twisted.internet.defer import ensureDeferred

from sos.aio.tasks import unwanted
from sos.errors import Mismatch, Replaced, Unavailable
from sos.interfaces import Span
from sos.model.digest import BodyDigest
from sos.stores.engines.redis.blobs import Blobs, check_body
from sos.stores.engines.redis.record import PIECE, Held, pieces_of
from sos.stores.record import Damaged, Record


async def stored_pieces(
    blobs: Blobs, held: Held, record: Record, span: Span | None
) -> AsyncGenerator[bytes, None]:
    """Yield the body of *record*, or the part *span* of it, in pieces.

    The last piece of a whole body is yielded only if all pieces match the hash. The pieces of a
    part are checked for their size only. The next piece is read while the caller sends one.
    """
    start, stop = span or (0, record.size)
    numbers = range(start // PIECE, pieces_of(stop)) if start < stop else range(0)
    digest = BodyDigest(record.id)

    async def read(number: int) -> bytes:
        assert held.key is not None
        key = held.key.decode("latin-1")
        try:
            piece = await blobs.piece(key, number)
        except Unavailable:  # retry once: the caller may have sent half of the body
            piece = await blobs.piece(key, number)
        if piece is None or len(piece) != min(PIECE, record.size - number * PIECE):
            raise Damaged(f"piece {number} of the body is missing or has the wrong size")
        return piece

    ahead = ensureDeferred(read(numbers[0])) if numbers else None
    try:
        for number in numbers:
            assert ahead is not None
            piece = await ahead
            ahead = ensureDeferred(read(number + 1)) if number + 1 in numbers else None
            if span is None:
                digest.update(piece)
                if ahead is None:
                    check_body(digest, record)
            begun = number * PIECE
            yield piece[max(start - begun, 0) : stop - begun]
            del piece
    except Damaged as damage:
        current = await blobs.find(record.id)
        if current is None or current.key != held.key:
            raise Replaced(record.id) from damage
        await blobs.set_aside(record.id, current.head, str(damage))
        raise Mismatch(f"the stored copy of {record.id} is damaged") from damage
    finally:
        if ahead is not None:
            ahead.addErrback(unwanted)
