"""Bodies as streams of pieces: read ahead, cut evenly, hold the last back until all are right."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred

from sos.aio.tasks import unwanted

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Asynchronous iterator over the results of *reads*, in their order.

    The next reads run while the caller handles a result.

    :param reads: begins a read each time it is advanced.
    :param most: most reads in progress.
    :param cancel: whether :meth:`aclose` cancels the reads in progress.
    """

    def __init__(
        self,
        reads: Iterator[Coroutine[Any, Any, T] | Deferred[T]],
        most: int = 1,
        cancel: bool = False,
    ) -> None:
        self._reads = reads
        self._most = most
        self._cancel = cancel
        self._ahead: deque[Deferred[T]] = deque()
        self._begin()

    def _begin(self) -> None:
        while len(self._ahead) < self._most and (read := next(self._reads, None)) is not None:
            self._ahead.append(ensureDeferred(read))

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if not self._ahead:
            raise StopAsyncIteration
        result = await self._ahead.popleft()
        self._begin()
        return result

    async def aclose(self) -> None:
        """Give up the reads in progress."""
        for read in self._ahead:
            read.addErrback(unwanted)
            if self._cancel:
                read.cancel()
        self._ahead.clear()
        self._reads = iter(())


async def even_pieces(
    pieces: AsyncGenerator[bytes, None], size: int
) -> AsyncGenerator[bytes, None]:
    """Cut *pieces* into pieces of *size* bytes; the last may be smaller. Close them at the end."""
    gathered = bytearray()
    async with aclosing(pieces):
        async for piece in pieces:
            gathered += piece
            while len(gathered) >= size:
                even = bytes(gathered[:size])
                del gathered[:size]
                yield even
    if gathered:
        yield bytes(gathered)


async def hold_last(
    pieces: AsyncGenerator[bytes, None],
    update: Callable[[bytes], Awaitable[object]],
    verify: Callable[[], Awaitable[object]],
) -> AsyncGenerator[bytes, None]:
    """Yield *pieces*, the last one only when all of them are verified; close them at the end.

    :param update: called with each piece.
    :param verify: called after the last; raises unless the pieces are right.
    """
    held = b""
    async with aclosing(pieces):
        async for piece in pieces:
            await update(piece)
            if held:
                yield held
            held = piece
    await verify()
    yield held
