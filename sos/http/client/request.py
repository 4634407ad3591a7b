"""Requests, on the client's side."""

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
        """Abort the connection."""
        ...


class Call:
    """Request in flight, up to the head of its answer.

    :param head: its first line and its headers, each with a line end, without the headers
        for the size of its body.
    :param body: the whole body, or its producer; None for no body.
    :param bodiless: whether the answer has no body, whatever its headers say.
    :param sign: returns another header line, made anew each time the request is sent.
    :ivar answered: fires with the answer when its head has arrived, or fails; cancel it to
        give the request up.
    :ivar connection: the connection on which it was sent.
    :ivar connecting: the attempt to make a connection for it.
    :ivar is_retry: whether it has been sent before.
    """

    __slots__ = (
        "_deadlines",
        "answered",
        "bodiless",
        "body",
        "connecting",
        "connection",
        "head",
        "is_retry",
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
        self.is_retry = False
        self._deadlines: Deadlines | None = None

    def set_timeout(self, seconds: float, deadlines: Deadlines) -> None:
        """Make the request fail with a TimeoutError if it is not answered in *seconds*."""
        self._deadlines = deadlines
        deadlines.set(self, seconds)

    def end(self, outcome: Response | Failure) -> None:
        """Fire :attr:`answered` with *outcome*, unless the request has been given up."""
        if not self.answered.called:
            if self._deadlines is not None:
                self._deadlines.clear(self)
            # From here on, only the body can be given up.
            self.connection = None
            self.answered.callback(outcome)

    def replay(self) -> bool:
        """Return whether the request can be sent once more, and prepare for that."""
        if self.body is None or isinstance(self.body, bytes):
            return True
        replay = getattr(self.body, "replay", None)
        return replay is not None and bool(replay())

    def on_deadline(self) -> None:
        """Give the request up with a TimeoutError."""
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
