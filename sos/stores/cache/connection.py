"""A connection to a cache, with limits on its answers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as Connection

from sos.interfaces import SMALL_BODY
from sos.stores.cache.sealed_blob import OVERHEAD

T = TypeVar("T")

#: Most bytes of one answer of a cache: a small blob.
LONGEST_ANSWER = SMALL_BODY + OVERHEAD


class CacheRefused(Exception):
    """The cache refuses a request or violates the protocol; the text is ours, not the server's."""


class IConnection(Protocol):
    """A connection to a cache that is ready for requests."""

    @property
    def lost(self) -> bool:
        """Whether the connection is closed."""

    def get(self, key: bytes) -> Awaitable[bytes | None]:
        """Return the value of *key*, None if there is none; may raise any exception."""

    def set(self, key: bytes, value: bytes) -> Awaitable[None]:
        """Store *value* under *key*; may raise any exception."""

    def add(self, key: bytes, value: bytes) -> Awaitable[None]:
        """Store *value* under *key* unless that has a value; may raise any exception."""

    def close(self) -> None:
        """Close the connection at once; requests in flight fail."""


class Bounded(Connection):
    """A mixin for a client's protocol that limits what the server can send.

    Data without a request, more than :attr:`longest_answer` bytes for a request, or data
    on which the protocol raises an exception close the connection, and all requests in flight
    fail.
    """

    lost = False
    longest_answer = LONGEST_ANSWER
    _unanswered = 0
    _received = 0

    def expect(self, answer: Deferred[T]) -> Deferred[T]:
        """Count *answer* as outstanding: its request has been sent."""
        self._unanswered += 1
        return answer.addBoth(self._answered)

    def _answered(self, result: T) -> T:
        self._unanswered -= 1
        self._received = max(0, self._received - self.longest_answer)
        return result

    def dataReceived(self, data: bytes, *rest: Any) -> None:
        if self.lost:
            return
        if not rest:  # else txredisapi passes itself data that has been counted
            self._received += len(data)
        if self._received > self._unanswered * self.longest_answer:
            self.close()
            return
        try:
            super().dataReceived(data, *rest)
        except Exception:  # the protocol can raise anything on junk
            self.close()

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True
        super().connectionLost(reason)

    def close(self) -> None:
        self.lost = True
        self.transport.abortConnection()  # type: ignore[union-attr]
