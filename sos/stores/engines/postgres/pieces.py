"""Reading and verifying a body that is stored in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing

from attrs import define
from twisted.internet.defer import Deferred

from sos.aio.pieces import ReadAhead
from sos.errors import Mismatch
from sos.interfaces import Span
from sos.model.digest import BodyDigest
from sos.stores.engines.postgres.bodies import Bodies
from sos.stores.engines.postgres.connections import Connections
from sos.stores.engines.postgres.garbage_collector import Used
from sos.stores.engines.postgres.record import Damaged, Record
from sos.stores.engines.postgres.schema import PIECE_SIZE
from sos.stores.engines.postgres.session import Session


@define
class StoredPieces:
    """The pieces of the body of a *record*, or of a part of it.

    A piece is yielded only if it matches its hash, and the last piece of a whole body only if all
    pieces match the hash of the body. Pieces that have no hash, in a part, are checked for their
    size only. The next piece is read while the caller sends one.

    :param damaged: called before Mismatch is raised.
    """

    _record: Record
    _body: int
    _span: Span | None
    _bodies: Bodies
    _connections: Connections
    _used: Used
    _damaged: Callable[[Damaged], Awaitable[None]]
    _closed: bool = False

    def __attrs_post_init__(self) -> None:
        self._used.add(self._body)

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        start, stop = self._span or (0, self._record.size)
        digest = None if self._span else BodyDigest(self._record.id)
        reads = (self._read(at, stop, digest) for at in _starts(start, stop))
        try:
            async with aclosing(ReadAhead(reads)) as pieces:
                async for piece in pieces:
                    yield piece
                    del piece  # else it stays in memory while the next one is awaited
        except Damaged as damage:
            await self._damaged(damage)
            raise Mismatch(f"the stored copy of {self._record.id} is damaged") from damage

    def _read(self, start: int, stop: int, digest: BodyDigest | None) -> Deferred[bytes]:
        """Read the piece at *start*; fails at the last one if the whole body does not match."""

        def read(session: Session) -> bytes:
            piece = self._bodies.piece(session, self._body, start, stop)
            if piece is None:
                raise Damaged(self._record, "a piece of the body does not match its hash")
            if len(piece) != min(stop - start, PIECE_SIZE - start % PIECE_SIZE):
                raise Damaged(self._record, "a piece of the body has the wrong size")
            if digest is not None:
                digest.update(piece)
                if digest.size == stop and digest.value() != self._record.hash:
                    raise Damaged(self._record, "the body does not match its hash")
            return piece

        return self._connections.run(read)

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._used.remove(self._body)


def _starts(start: int, stop: int) -> Iterator[int]:
    """Yield where each piece of the bytes from *start* to *stop* begins."""
    while start < stop:
        yield start
        start += PIECE_SIZE - start % PIECE_SIZE
