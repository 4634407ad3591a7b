"""A connection to a cache, and the bounds of what may come from there."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as Connection

from sos.interfaces import SMALL_BODY
from sos.stores.cache.sealed_blob import OVERHEAD

T = TypeVar("T")

#: Bytes of one answer of a cache at most: a small blob.
LONGEST_ANSWER = SMALL_BODY + OVERHEAD


class Refused(Exception):
    """The server does not do what it was asked to; its text is ours."""


class ILine(Protocol):
    """A connection to a cache that is ready for requests."""

    @property
    def lost(self) -> bool:
        """Whether it has ended."""

    def get(self, key: bytes) -> Awaitable[bytes | None]:
        """Return the value of *key*; fails in any way."""

    def set(self, key: bytes, value: bytes) -> Awaitable[None]:
        """Let *key* have *value*; fails in any way."""

    def close(self) -> None:
        """End it at once, and what was asked of it."""


class Bounded(Connection):
    """To be mixed into a client's protocol: ends it when what comes is no answer.

    What nobody asked for, more than :attr:`longest_answer` bytes for an
    answer, and what the protocol fails at end the connection, and with it all
    requests that wait.
    """

    lost = False
    longest_answer = LONGEST_ANSWER
    _unanswered = 0
    _received = 0

    def expect(self, answer: Deferred[T]) -> Deferred[T]:
        """Count *answer*, to a request that has been sent, as one that may come."""
        self._unanswered += 1
        return answer.addBoth(self._answered)

    def _answered(self, result: T) -> T:
        self._unanswered -= 1
        self._received = max(0, self._received - self.longest_answer)
        return result

    def dataReceived(self, data: bytes, *rest: Any) -> None:
        if self.lost:
            return
        if not rest:  # else Redis's protocol gives itself what it has put off
            self._received += len(data)
        if self._received > self._unanswered * self.longest_answer:
            self.close()
            return
        try:
            super().dataReceived(data, *rest)
        except Exception:  # whatever the protocol makes of junk
            self.close()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True
        super().connectionLost(reason)

    def close(self) -> None:
        self.lost = True
        self.transport.abortConnection()  # type: ignore[union-attr]
