"""Reading and verifying bodies that are stored in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from sos.aio.pieces import ReadAhead
from sos.errors import Mismatch, Replaced, Unavailable
from sos.interfaces import Span
from sos.model.digest import BodyDigest
from sos.stores.block_hashes import BlockHashes
from sos.stores.engines.redis.blobs import Blobs, check_body
from sos.stores.engines.redis.record import PIECE, Held, blocks_of, pieces_of
from sos.stores.record import Damaged, Record


async def stored_pieces(
    blobs: Blobs, held: Held, record: Record, span: Span | None
) -> AsyncGenerator[bytes, None]:
    """Yield the body of *record*, or the part *span* of it, in pieces.

    Each piece is verified by its hash before any of it is yielded. The last piece of a whole body
    is yielded only if all pieces match the hash of the body. A body of an earlier version has no
    hashes of its pieces: the pieces of a part are checked for their size only, and the body gets
    the hashes when it is read whole. The next piece is read while the caller sends one.
    """
    start, stop = span or (0, record.size)
    numbers = range(start // PIECE, pieces_of(stop)) if start < stop else range(0)
    digest, hashes, blocks = BodyDigest(record.id), BlockHashes(PIECE), blocks_of(held)

    async def read(number: int) -> bytes:
        assert held.key is not None
        key = held.key.decode("latin-1")
        try:
            piece = await blobs.piece(key, number)
        except Unavailable:  # retry once: the caller may have sent half of the body
            piece = await blobs.piece(key, number)
        if piece is None or len(piece) != min(PIECE, record.size - number * PIECE):
            raise Damaged(f"piece {number} of the body is missing or has the wrong size")
        if blocks is not None:
            blocks.verify(number * PIECE, piece)
        return piece

    begun = start - start % PIECE
    try:
        async with aclosing(ReadAhead(read(number) for number in numbers)) as pieces:
            async for piece in pieces:
                if span is None:
                    digest.update(piece)
                    hashes.update(piece)
                    if digest.size == record.size:
                        check_body(digest, record)
                        if blocks is None:
                            await blobs.add_hashes(record.id, held, hashes.value())
                yield piece[max(start - begun, 0) : stop - begun]
                begun += len(piece)
                del piece  # else it stays in memory while the next one is awaited
    except Damaged as damage:
        current = await blobs.find(record.id)
        if current is None or current.key != held.key:
            raise Replaced(record.id) from damage
        await blobs.quarantine(record.id, current.head, str(damage))
        raise Mismatch(f"the stored copy of {record.id} is damaged") from damage
