"""Bodies of requests and of answers, on the client's side, and their failures."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionLost,
)
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from sos.errors import SOSError, Unavailable
from sos.http.client.connection import BadAnswer, ConnectionReclaimed
from sos.http.tls import TLS_ERRORS, tls_cause

#: Timeout in seconds for the head of an answer to a request without a large body.
PROMPT_SECONDS = 10.0
#: Timeout in seconds for the answer to an upload, or for the next piece of a body:
#: a busy disk takes long to sync.
ANSWER_SECONDS = 60.0
#: Least bytes of a body for each second of waiting beyond ANSWER_SECONDS; our server requires
#: the same of clients.
LEAST_RATE = 512
#: Seconds after which a reader that has paused counts as slow: servers do not wait for ever.
SLOW_SECONDS = 10.0


_HIGH_WATER = 256 * 1024

_NETWORK_ERRORS = (
    BadAnswer,
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    OSError,
    PotentialDataLoss,
    *TLS_ERRORS,
)


def is_network_failure(error: BaseException) -> bool:
    """Return whether the network or the server made a request fail.

    Any other error is a bug of ours, and must not open the server's circuit breaker.
    """
    reasons = getattr(error, "reasons", ())
    if reasons:
        return all(is_network_failure(failure.value) for failure in reasons)
    return isinstance(error, _NETWORK_ERRORS)


def cause(error: BaseException | None) -> str:
    """Describe in one line why a request or its answer failed."""
    for failure in getattr(error, "reasons", ()):  # the first of several is the most telling
        return cause(failure.value)
    if isinstance(error, ConnectError) and error.osError:
        return os.strerror(error.osError).lower()
    if isinstance(error, ConnectionLost):
        return "the connection was lost"
    return tls_cause(error) or str(error).rstrip(".") or type(error).__name__


class TimedOut(Unavailable):
    """A server did not answer in time."""


@contextmanager
def network_failures(server: str) -> Iterator[None]:
    """Raise Unavailable in place of what the network or *server* makes a request fail with.

    :raises TimedOut: in place of a TimeoutError.
    """
    try:
        yield
    except (CancelledError, SOSError):
        raise
    except TimeoutError:
        raise TimedOut(f"{server} did not answer in time") from None
    except Exception as error:
        if not is_network_failure(error):
            raise
        raise Unavailable(f"{server} cannot be reached: {cause(error)}") from error


class SlowReader(Unavailable):
    """A body broke off because its reader was slow.

    This is no failure of the server: it gave up, or the pool took its connection back.
    """


class ResponseBody(Protocol):
    """Asynchronous iterator over a response's body: ``async for piece in body``.

    Iterating raises :exc:`~sos.errors.Unavailable` if the body breaks off, if nothing
    arrives for :data:`ANSWER_SECONDS`, or if less than :data:`LEAST_RATE` bytes a second
    arrive for longer than that.  It raises :exc:`SlowReader` if the body broke off under a
    slow reader.
    """

    def __init__(self, response: Any, clock: IReactorTime) -> None:
        self._clock = clock
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._paused_at: float | None = None
        self._was_slow = False
        # Seconds of waiting that are left.
        self._seconds_left = ANSWER_SECONDS
        self._complete = False
        self._error: Exception | None = None
        self._reader: Deferred[None] | None = None
        response.deliverBody(self)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not (self._pieces or self._complete or self._error):
            await self._wait()
        if self._pieces:
            earned = self._waiting / LEAST_RATE
            self._seconds_left = min(ANSWER_SECONDS, self._seconds_left + earned)
            pieces, self._pieces, self._waiting = self._pieces, [], 0
            if self._paused_at is not None:
                self._was_slow = self._is_slow()
                self._paused_at = None
                self._producer().resumeProducing()
            return b"".join(pieces)
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    async def _wait(self) -> None:
        self._reader = Deferred()
        begun = self._clock.seconds()
        try:
            await self._reader.addTimeout(max(self._seconds_left, 0.0), self._clock)
        except TimeoutError:
            raise Unavailable(
                f"the body is too slow: under {LEAST_RATE} bytes per second for "
                f"{ANSWER_SECONDS:.0f} s"
            ) from None
        self._seconds_left -= self._clock.seconds() - begun

    async def aclose(self) -> None:
        """Abort the connection if the body has not ended."""
        if not self._complete and self._error is None:
            self._producer().stopProducing()

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting > _HIGH_WATER and self._paused_at is None:
            self._paused_at = self._clock.seconds()
            self._producer().pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if isinstance(reason.value, ResponseDone):
            self._complete = True
        else:
            held = reason.check(ConnectionReclaimed) or self._is_slow()
            kind = SlowReader if held else Unavailable
            self._error = kind(f"the response was interrupted: {cause(reason.value)}")
        self._wake()

    def _is_slow(self) -> bool:
        """Return whether the reader has paused for long.

        The previous pause counts, too: its effect on the server may show later.
        """
        if self._paused_at is None:
            return self._was_slow
        return self._was_slow or self._clock.seconds() - self._paused_at > SLOW_SECONDS

    def _producer(self) -> Any:
        return self.transport

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)


@implementer(IBodyProducer)
class StreamedBody:
    """Body of a request that is sent piece by piece.

    :param length: in bytes, or None to send it chunked.
    :ivar expects: whether to wait for ``100 Continue`` before sending it, for a limited time
        (RFC 9110, 10.1.1).
    """

    def __init__(self, length: int | None, clock: IReactorTime, expects: bool = False) -> None:
        self.expects = expects
        self.length = UNKNOWN_LENGTH if length is None else length
        self._clock = clock
        self._consumer: IConsumer | None = None
        self._finished: Deferred[None] = Deferred()
        self._stopped = False
        # Fires when the connection is made, or can take more.
        self._held: Deferred[None] | None = Deferred()

    async def write(self, piece: bytes) -> bool:
        """Send the next *piece*; return False if the request has ended.

        Raises :exc:`~sos.errors.Unavailable` if the server reads nothing for
        :data:`ANSWER_SECONDS`.
        """
        if self._held is not None:
            waiter: Deferred[None] = Deferred()
            self._held.addCallback(lambda _: waiter.callback(None))
            try:
                await waiter.addTimeout(ANSWER_SECONDS, self._clock)
            except TimeoutError:
                raise Unavailable(
                    f"timed out: the server read none of the body for {ANSWER_SECONDS:.0f} s"
                ) from None
        if self._stopped or self._consumer is None:
            return False
        self._consumer.write(piece)
        return True

    def replay(self) -> bool:
        """Return whether another request can send it, because none of it has been sent."""
        return self._consumer is None and not self._stopped

    def finish(self) -> None:
        """Mark the body as complete."""
        if not self._finished.called:
            self._finished.callback(None)

    def stop(self) -> None:
        """Mark the body as unwanted, because its request has ended."""
        self._stopped = True
        self._release()

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self._release()
        return self._finished

    def pauseProducing(self) -> None:
        if self._held is None and not self._stopped:
            self._held = Deferred()

    def resumeProducing(self) -> None:
        self._release()

    def stopProducing(self) -> None:
        self.stop()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.callback(None)
