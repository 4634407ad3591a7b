"""Verification of bodies while they are read from a bucket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from sos.aio.pieces import hold_last
from sos.errors import InvalidRequest, Mismatch
from sos.interfaces import BlobInfo, Pieces
from sos.model.digest import BodyDigest, body_digest
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
            pieces = hold_last(pieces_of(self._pieces), self._check.update, self._verify)
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece
        except Mismatch:
            await self._damaged()
            raise

    async def _verify(self) -> None:
        self._check.finish()

    async def aclose(self) -> None:
        await self._pieces.aclose()


async def verify(pieces: Pieces, check: Check) -> None:
    """Read a body to its end; raises Mismatch, and what its pieces raise."""
    async with aclosing(pieces):
        async for piece in pieces:
            check.update(piece)
    check.finish()
