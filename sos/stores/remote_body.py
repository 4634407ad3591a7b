"""A body as a server sends it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from sos.errors import InvalidRequest, Unavailable
from sos.interfaces import Pieces
from sos.stores.verifier import Verifier

#: Opens the rest of a body elsewhere: given how much of it has been read, and
#: the error that it ended with.
Resume = Callable[[int, Unavailable], Awaitable[Pieces]]


class RemoteBody:
    """The pieces of a larger body, or of a part of it.

    The whole is verified: its last piece comes only when *verifier* is content.

    :param start: what has been read of it.
    :param rest: its other pieces.
    :param verifier: None for a part, which cannot be verified.
    :param size: in bytes, None where it is not known.
    :ivar resume: how to go on when the server breaks off; without it, and
        where the size is not known, the body ends with
        :exc:`~sos.errors.Unavailable`.
    """

    def __init__(
        self, start: bytes, rest: Pieces, verifier: Verifier | None, size: int | None
    ) -> None:
        self.resume: Resume | None = None
        self._start = start
        self._rest = rest
        self._verifier = verifier
        self._size = size

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        if self._verifier is None:
            async for piece in self._all():
                yield piece
            return
        held = b""
        try:
            async for piece in self._all():
                await self._verifier.update(piece)
                if held:
                    yield held
                held = piece
            await self._verifier.verified_id()
        except InvalidRequest as error:
            raise Unavailable(str(error)) from error
        yield held

    async def _all(self) -> AsyncGenerator[bytes, None]:
        received = len(self._start)
        if self._start:
            start, self._start = self._start, b""
            yield start
            del start
        while True:
            try:
                async for piece in self._rest:
                    received += len(piece)
                    yield piece
                return
            except Unavailable as error:
                if self.resume is None or self._size is None:
                    raise
                await self._rest.aclose()
                if received >= self._size:
                    return
                self._rest = await self.resume(received, error)

    async def aclose(self) -> None:
        await self._rest.aclose()
