"""Reassemble an object from its chunks while it is read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from functools import partial

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.logger import Logger, LogLevel
from xxhash import xxh3_128

from sos.aio.limited_log import LimitedLog
from sos.aio.pieces import hold_last
from sos.errors import NotFound, SOSError, Unavailable
from sos.interfaces import Blob, Pieces, Read
from sos.model.manifest import Chunk
from sos.stores.chunked.presence import check_size, gone
from sos.stores.threaded_digest import ThreadedDigest
from sos.transfer import pieces_of

_log = LimitedLog(Logger())


@frozen
class Part:
    """The part of a chunk to read: the bytes from *start* up to, not including, *stop*."""

    chunk: Chunk
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole chunk."""
        return (self.start, self.stop) == (0, self.chunk.size)


class Passed:
    """The pieces of a chunk that have passed before it broke off.

    They have not been verified.  But if the chunk from its beginning is, and begins with the
    same bytes, they were right.

    :ivar size: of them, in bytes.
    """

    def __init__(self) -> None:
        self.size = 0
        self._hash = xxh3_128()

    def update(self, piece: bytes) -> None:
        """Add the next *piece*."""
        self.size += len(piece)
        self._hash.update(piece)

    async def rest_of(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield what follows them in *pieces*; raise Unavailable if those begin with others."""
        left, expected, found = self.size, self._hash.digest(), xxh3_128()
        async with aclosing(pieces):
            async for piece in pieces:
                if left:
                    found.update(piece[:left])
                    piece, left = piece[left:], max(left - len(piece), 0)
                    if not left and found.digest() != expected:
                        raise Unavailable("a chunk differs from what was read of it before")
                if piece:
                    yield piece


def parts(chunks: Iterable[Chunk], start: int, stop: int) -> Iterator[Part]:
    """Yield the parts of *chunks* that make up the object's bytes from *start* to *stop*."""
    for chunk in chunks:
        if stop <= max(start, 0):
            return
        if start < chunk.size:
            yield Part(chunk, max(start, 0), min(stop, chunk.size))
        start -= chunk.size
        stop -= chunk.size


class AssembledBody:
    """The pieces of an object, or of a part of it; see :class:`sos.interfaces.Pieces`.

    The next chunk is opened while one is read.  A chunk that breaks off is resumed
    once: its server may have failed, or may have timed out because the chunk was
    opened early and the reader is slow.  A whole chunk is then read from its beginning, since
    only a whole one can be verified.

    :param read: opens a chunk.
    :param digest: of the object, if it is read whole and nobody has verified that its chunks
        hash to its id: the last piece is yielded only if all pieces do.
    :param verified: called when they do.
    """

    def __init__(
        self,
        read: Read,
        parts: Iterator[Part],
        digest: ThreadedDigest | None = None,
        verified: Callable[[], object] = lambda: None,
    ) -> None:
        self._read = read
        self._parts = parts
        self._next: tuple[Part, Deferred[Blob]] | None = None
        self._pieces = self._all()
        if digest is not None:
            verify = partial(self._verify, digest, verified)
            self._pieces = hold_last(self._pieces, digest.update, verify)

    async def begin(self) -> None:
        """Open the first chunk, if there is one.  Raises Unavailable."""
        self._open_next()
        if self._next is not None:
            (part, opening), self._next = self._next, None
            self._next = part, succeed(await opening)

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        return self._pieces

    async def aclose(self) -> None:
        await self._pieces.aclose()
        if self._next is not None:
            (_, opening), self._next = self._next, None
            opening.cancel()
            with suppress(SOSError, CancelledError):
                await close((await opening).body)

    async def _verify(self, digest: ThreadedDigest, verified: Callable[[], object]) -> None:
        await digest.verified_id()
        verified()

    async def _all(self) -> AsyncGenerator[bytes, None]:
        while self._next is not None:
            part, opening = self._next
            self._open_next()
            async with aclosing(self._of(part, opening)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _of(self, part: Part, opening: Deferred[Blob]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of *part*; raise Unavailable if they are too long or too short."""
        passed = Passed()
        again = True
        while True:
            try:
                blob = await opening
                pieces = pieces_of(blob.body)
                if part.is_whole and passed.size:
                    pieces = passed.rest_of(pieces)
                async with aclosing(pieces):
                    async for piece in pieces:
                        passed.update(piece)
                        if part.start + passed.size > part.stop:
                            raise Unavailable(
                                f"the chunk {part.chunk.id} is longer than its manifest says"
                            )
                        yield piece
                if part.start + passed.size == part.stop:
                    return
                raise Unavailable(f"the chunk {part.chunk.id} ended early")
            except Unavailable as error:
                rest = evolve(part, start=part.start + passed.size)
                if rest.start >= rest.stop or not again:
                    raise
                format = "resuming the read of a chunk, offset={n}: {error}"
                _log.emit(LogLevel.warn, format, n=rest.start, error=error)
            again = False
            opening = ensureDeferred(self._open(part if part.is_whole else rest))

    def _open_next(self) -> None:
        part = next(self._parts, None)
        self._next = None if part is None else (part, ensureDeferred(self._open(part)))

    async def _open(self, part: Part) -> Blob:
        id = part.chunk.id
        span = None if part.is_whole else (part.start, part.stop)
        try:
            blob = await self._read(id, span)
        except NotFound as error:
            raise gone(part.chunk) from error
        try:
            check_size(part.chunk, blob.info)
        except Unavailable:
            await close(blob.body)
            raise
        return blob


async def gather(body: bytes | Pieces) -> bytes:
    """Read the whole *body*, and close it."""
    async with aclosing(pieces_of(body)) as pieces:
        return b"".join([piece async for piece in pieces])


async def close(body: bytes | Pieces) -> None:
    """Close *body*, unless it is bytes."""
    if not isinstance(body, bytes):
        await body.aclose()
