"""Verification of bodies while they are read from a bucket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from sos.aio.pieces import even_pieces, hold_last
from sos.errors import InvalidRequest, Mismatch, Unavailable
from sos.interfaces import BlobInfo, Pieces, Span
from sos.model.digest import BodyDigest, body_digest
from sos.stores.block_hashes import BLOCK, BlockHashes
from sos.transfer import pieces_of


class Check:
    """An incremental check of a body against its id, metadata and hash.

    :param hash: the SHA-256 of the body in hex, if the id is not a hash; otherwise None.
    """

    def __init__(self, info: BlobInfo, hash: str | None) -> None:
        self._id = info.id
        self._hash = hash
        self._digest: BodyDigest = body_digest(info.id, info.metadata, expected_size=info.size)

    def update(self, piece: bytes) -> None:
        """Add the next *piece*; it may raise Mismatch."""
        self._digest.update(piece)

    def finish(self) -> None:
        """Raise Mismatch unless the pieces were the whole body."""
        try:
            self._digest.verified_id()
        except (InvalidRequest, Mismatch) as error:
            raise Mismatch(f"the stored copy of {self._id} is damaged: {error}") from None
        if self._hash is not None and self._digest.value().hex() != self._hash:
            raise Mismatch(f"the stored copy of {self._id} is damaged")


class CheckedBody:
    """The pieces of a whole body; the last is yielded only if all of them match.

    :param damaged: called before Mismatch is raised.
    """

    def __init__(
        self, pieces: Pieces, check: Check, damaged: Callable[[], Awaitable[object]]
    ) -> None:
        self._pieces = pieces
        self._check = check
        self._damaged = damaged

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            pieces = hold_last(pieces_of(self._pieces), self._update, self._verify)
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
        except Mismatch:
            await self._damaged()
            raise

    async def _update(self, piece: bytes) -> None:
        self._check.update(piece)

    async def _verify(self) -> None:
        self._check.finish()

    async def aclose(self) -> None:
        await self._pieces.aclose()


class CheckedPart:
    """The pieces of a part of a body; each block is verified before any of it is yielded.

    :param pieces: of the blocks that contain the part, see :func:`whole_blocks`.
    :param verify: called with the position of a block and the block; raises Mismatch if that is
        damaged.
    :param failure: called then; returns the error to raise.
    """

    def __init__(
        self,
        pieces: Pieces,
        span: Span,
        verify: Callable[[int, bytes], None],
        failure: Callable[[Mismatch], Awaitable[Exception]],
    ) -> None:
        self._pieces = pieces
        self._span = span
        self._verify = verify
        self._failure = failure

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        start, stop = self._span
        position, _ = whole_blocks(self._span)
        try:
            async with aclosing(even_pieces(pieces_of(self._pieces), BLOCK)) as blocks:
                async for block in blocks:
                    self._verify(position, block)
                    piece = block[max(start - position, 0) : max(stop - position, 0)]
                    position += len(block)
                    if piece:
                        yield piece
        except Mismatch as error:
            raise await self._failure(error) from error
        if position < stop:
            raise Unavailable(f"the server sent a part that ends {stop - position} bytes early")

    async def aclose(self) -> None:
        await self._pieces.aclose()


def whole_blocks(span: Span) -> Span:
    """Return the span of the blocks that contain *span*; it can end behind the body."""
    start, stop = span
    return start - start % BLOCK, -(-stop // BLOCK) * BLOCK


async def verify(pieces: Pieces, check: Check) -> bytes:
    """Read a body to its end, and return the hashes of its blocks.

    Raises Mismatch, and what its pieces raise.
    """
    hashes = BlockHashes()
    async with aclosing(pieces):
        async for piece in pieces:
            check.update(piece)
            hashes.update(piece)
    check.finish()
    return hashes.value()
