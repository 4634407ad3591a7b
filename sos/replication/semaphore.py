"""A semaphore that many can wait for without deep recursion."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred


class Semaphore:
    """Semaphore with *count* places: ``async with places:``.

    The release of a DeferredSemaphore runs the next waiter before it returns.  With hundreds
    of waiters that leave at once, the recursion gets too deep.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[Deferred[None]] = deque()
        self._letting_in = False
        self._closed = False

    async def __aenter__(self) -> None:
        if self._free:
            self._free -= 1
        else:
            let_in: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(let_in)
            await let_in

    async def __aexit__(self, *error: object) -> None:
        self._free += 1
        if not self._letting_in:
            self._letting_in = True
            while self._free and self._waiting and not self._closed:
                self._free -= 1
                self._waiting.popleft().callback(None)
            self._letting_in = False

    def close(self) -> None:
        """Admit no more waiters."""
        self._closed = True
