"""The body of a request, which a route reads piece by piece."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

#: Bytes of a body that may wait for the reader before the connection is paused.
HIGH_WATER = 64 * 1024

#: Bytes that a connection reads at once: normally, and in a large body.  A large buffer
#: costs time, which pays off only there.
SMALL_READ = 64 * 1024
LARGE_READ = 256 * 1024


class RequestBody:
    """Asynchronous iterator over a request's body: ``async for piece in request.body``.

    Iterating raises :exc:`~sos.errors.Incomplete` if the connection ended or the framing
    broke before the end of the body, and :exc:`~sos.errors.TooSlow` if the body trickles.

    :param length: in bytes, from the headers; None for a chunked body.
    :param wanted: called when a reader waits for the next piece.
    :param drained: called when the reader has taken all pieces.
    :ivar received: bytes received so far.
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

    def whole(self) -> bytes | None:
        """Return the body if all of it is at hand, and end it; else return None."""
        if not self.complete or self.error is not None:
            return None
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Do nothing: the connection handles the unread rest."""

    @property
    def ended(self) -> bool:
        """Whether the body is complete or has failed."""
        return self.complete or self.error is not None

    @property
    def awaited(self) -> bool:
        """Whether a reader waits for the next piece."""
        return self._reader is not None

    @property
    def full(self) -> bool:
        """Whether the connection should be paused."""
        return self._waiting >= HIGH_WATER

    # Called by the channel.  Only wake() resumes the reader, which may finish the request:
    # that must not happen during a call of the parser.

    def feed(self, piece: bytes) -> None:
        """Take the next *piece* from the wire."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self.received += len(piece)

    def end(self) -> None:
        """Mark the body as complete."""
        self.complete = True

    def fail(self, error: Exception) -> None:
        """Mark the body as failed, unless it has ended already."""
        if not self.ended:
            self.error = error
            self._pieces.clear()

    def wake(self) -> None:
        """Resume a waiting reader, if there is a piece or the body has ended."""
        if self._reader is not None and (self._pieces or self.ended):
            reader, self._reader = self._reader, None
            reader.callback(None)


def _no_one() -> None: ...


#: The body of a request without a body.
NO_BODY = RequestBody(0, _no_one, _no_one)
NO_BODY.complete = True
