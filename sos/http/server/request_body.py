"""The body of a request, as the route that asked for it reads it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

#: Bytes of a body that may wait to be read before the sender is held up.
HIGH_WATER = 64 * 1024

#: Bytes that a connection reads at once, and in a large body.  A large buffer
#: costs time of its own, which only a large body is worth.
SMALL_READ = 64 * 1024
LARGE_READ = 256 * 1024


class RequestBody:
    """The pieces of a request's body: ``async for piece in request.body``.

    Iterating raises what the body failed with: :exc:`~sos.errors.Incomplete`
    when the connection ended or the framing broke before its end.

    :param length: in bytes, as announced; None for a chunked body.
    :param wanted: called when a reader waits for the next piece.
    :param drained: called when what waited has been read.
    :ivar received: bytes that have come.
    """

    def __init__(
        self, length: int | None, wanted: Callable[[], None], drained: Callable[[], None]
    ) -> None:
        self.length = length
        self.received = 0
        self.complete = False
        self.error: Exception | None = None
        self._wanted = wanted
        self._drained = drained
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._reader: Deferred[None] | None = None

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        if not (self._pieces or self.complete or self.error):
            self._reader = Deferred()
            self._wanted()
            await self._reader
        if self.error is not None:
            raise self.error
        if self._pieces:
            pieces, self._pieces, self._waiting = self._pieces, [], 0
            self._drained()
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is held: what is not read stays with the connection."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.complete or self.error is not None

    @property
    def awaited(self) -> bool:
        """Whether a reader waits for the next piece."""
        return self._reader is not None

    @property
    def full(self) -> bool:
        """Whether the sender should be held up."""
        return self._waiting >= HIGH_WATER

    # What the channel calls; a reader goes on when it is told to, for it may
    # end the request, which must not happen in the middle of a parser's call.

    def feed(self, piece: bytes) -> None:
        """Take the next *piece* from the wire."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self.received += len(piece)

    def end(self) -> None:
        """The body has come whole."""
        self.complete = True

    def fail(self, error: Exception) -> None:
        """The body will not come whole."""
        if not self.ended:
            self.error = error
            self._pieces.clear()

    def wake(self) -> None:
        """Let a waiting reader go on, if there is something to tell it."""
        if self._reader is not None and (self._pieces or self.ended):
            reader, self._reader = self._reader, None
            reader.callback(None)


def _no_one() -> None: ...


#: Of a request that has none.
NO_BODY = RequestBody(0, _no_one, _no_one)
NO_BODY.complete = True
