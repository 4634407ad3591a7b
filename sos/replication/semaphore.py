"""So many at a time."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred


class Places:
    """Lets *count* in at a time: ``async with places:``.

    A DeferredSemaphore lets the next in before it returns to who leaves.  Where
    hundreds wait, and each leaves as soon as it is let in, that goes too deep.
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
        """Let nobody in any more who waits."""
        self._closed = True
