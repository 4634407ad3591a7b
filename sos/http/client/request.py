"""A request on the client's side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from sos.aio.timeouts import Deadlines
from sos.http.client.response import Response


class Abortable(Protocol):
    """A connection, as far as giving up a request needs it."""

    def abort(self) -> None:
        """Break it off."""
        ...


class Call:
    """A request on its way, up to the head of its answer.

    :param head: its first line and its headers, each with the end of its line,
        but for those that tell the size of its body.
    :param body: the whole of it, or what will produce it; None for none.
    :param bodiless: whether the answer has no body, whatever its headers say.
    :param sign: returns another header, which is made each time that it is sent.
    :ivar answered: fires with the answer when its head is in, or fails; to
        cancel it is to give the request up.
    :ivar connection: that it was sent on.
    :ivar connecting: the attempt to make one for it.
    :ivar again: whether it has been sent before.
    """

    __slots__ = (
        "_deadlines",
        "again",
        "answered",
        "bodiless",
        "body",
        "connecting",
        "connection",
        "head",
        "sign",
    )

    def __init__(
        self,
        head: bytes,
        body: bytes | IBodyProducer | None,
        bodiless: bool,
        sign: Callable[[], bytes] | None = None,
    ) -> None:
        self.head = head
        self.sign = sign
        self.body = body
        self.bodiless = bodiless
        self.answered: Deferred[Response] = Deferred(self._cancel)
        self.connection: Abortable | None = None
        self.connecting: Deferred[Any] | None = None
        self.again = False
        self._deadlines: Deadlines | None = None

    def hurry(self, seconds: float, deadlines: Deadlines) -> None:
        """Give it up with a TimeoutError if it is not answered in so many *seconds*."""
        self._deadlines = deadlines
        deadlines.set(self, seconds)

    def end(self, outcome: Response | Failure) -> None:
        """Tell who waits for the answer, unless it has been given up."""
        if not self.answered.called:
            if self._deadlines is not None:
                self._deadlines.clear(self)
            # From here on the answer's body is what can be given up.
            self.connection = None
            self.answered.callback(outcome)

    def replay(self) -> bool:
        """Tell whether it can be sent once more, and make ready for that."""
        if self.body is None or isinstance(self.body, bytes):
            return True
        replay = getattr(self.body, "replay", None)
        return replay is not None and bool(replay())

    def late(self) -> None:
        """Its time is over."""
        self._give_up(TimeoutError())

    def _cancel(self, _: object) -> None:
        self._give_up(CancelledError())

    def _give_up(self, error: Exception) -> None:
        connection, connecting = self.connection, self.connecting
        self.end(Failure(error))
        if connection is not None:
            connection.abort()
        elif connecting is not None:
            connecting.cancel()
