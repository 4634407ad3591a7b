"""A body that is read from a bucket, and verified on its way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from sos.errors import InvalidRequest, Mismatch
from sos.interfaces import BlobInfo, Pieces
from sos.model.digest import BodyDigest, body_digest


class Check:
    """The hash of a body as it passes by, against what was stored.

    :param hash: of the body in hex, where neither id nor metadata tell it.
    """

    def __init__(self, info: BlobInfo, hash: str | None) -> None:
        self._id = info.id
        self._hash = hash
        self._digest: BodyDigest = body_digest(info.id, info.metadata, expected_size=info.size)

    def update(self, piece: bytes) -> None:
        """Add the next *piece*; it may raise Mismatch."""
        self._digest.update(piece)

    def finish(self) -> None:
        """Raise Mismatch unless all that has passed is the body."""
        try:
            self._digest.verified_id()
        except (InvalidRequest, Mismatch) as error:
            raise Mismatch(f"the stored copy of {self._id} is damaged: {error}") from None
        if self._hash is not None and self._digest.value().hex() != self._hash:
            raise Mismatch(f"the stored copy of {self._id} is damaged")


class CheckedBody:
    """The pieces of a whole body, of which the last comes only when all of them match.

    :param damaged: called when they do not.
    """

    def __init__(
        self, pieces: Pieces, check: Check, damaged: Callable[[], Awaitable[object]]
    ) -> None:
        self._pieces = pieces
        self._check = check
        self._damaged = damaged

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        held = b""
        try:
            async for piece in self._pieces:
                self._check.update(piece)
                if held:
                    yield held
                held = piece
            self._check.finish()
        except Mismatch:
            await self._damaged()
            raise
        yield held

    async def aclose(self) -> None:
        await self._pieces.aclose()


async def verify(pieces: Pieces, check: Check) -> None:
    """Read a body to its end; raises Mismatch, and what its pieces raise."""
    async with aclosing(pieces):
        async for piece in pieces:
            check.update(piece)
    check.finish()
