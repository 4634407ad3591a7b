"""The body of a blob, as a remote server sends it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from sos.aio.pieces import hold_last
from sos.errors import InvalidRequest, Mismatch, SOSError, Unavailable
from sos.http.client.bodies import SlowReader
from sos.interfaces import Pieces
from sos.stores.threaded_digest import ThreadedDigest

#: Opens the rest of a body on another server, given the number of bytes read so far and
#: the error that ended it.
Resume = Callable[[int, Unavailable], Awaitable[Pieces]]


class RemoteBody:
    """Pieces of a larger body, or of a part of one.

    A whole body is verified: its last piece comes only if all bytes match *digest*.

    :param start: the bytes that have been read already.
    :param rest: the other pieces.
    :param digest: None for a part, which cannot be verified.
    :param size: in bytes, None if it is not known.
    :ivar resume: opens the rest on another server when this one breaks off.  Without it or
        the size, the body ends with :exc:`~sos.errors.Unavailable`.
    :ivar failed: called with each failure of the server, even if the body resumes
        elsewhere.  :exc:`~sos.http.client.bodies.SlowReader`, for a slow reader, is none.
    """

    def __init__(
        self,
        start: bytes,
        rest: Pieces,
        digest: ThreadedDigest | None,
        size: int | None,
    ) -> None:
        self.resume: Resume | None = None
        self.failed: Callable[[SOSError], object] = _nobody
        self._start = start
        self._rest = rest
        self._digest = digest
        self._size = size

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        update = _ignore if self._digest is None else self._digest.update
        async with aclosing(hold_last(self._all(), update, self._verify)) as pieces:
            async for piece in pieces:
                yield piece

    async def _all(self) -> AsyncGenerator[bytes, None]:
        """Yield all pieces; resume on another server when one breaks off."""
        start, self._start = self._start, b""
        received = len(start)
        if start:
            yield start
        while True:
            try:
                async for piece in self._rest:
                    received += len(piece)
                    yield piece
                return
            except Unavailable as error:
                if not isinstance(error, SlowReader):
                    self.failed(error)
                if self.resume is None or self._size is None:
                    raise
                await self._rest.aclose()
                if received < self._size:
                    self._rest = await self.resume(received, error)
                elif self._digest is None:  # then nothing proves that the body is complete
                    raise
                else:
                    return

    async def _verify(self) -> None:
        if self._digest is None:
            return
        try:
            await self._digest.verified_id()
        except Mismatch as error:
            self.failed(error)
            raise
        except InvalidRequest as error:
            self.failed(error)
            raise Unavailable(str(error)) from error

    async def aclose(self) -> None:
        await self._rest.aclose()


def _nobody(value: object) -> None: ...


async def _ignore(piece: bytes) -> None: ...
