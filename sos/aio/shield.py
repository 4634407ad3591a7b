"""Changes that are carried out whatever becomes of those who want them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred

from sos.aio.threads import shielded

T = TypeVar("T")


class Underway:
    """Keeps hold of what has been begun, and has not ended yet."""

    def __init__(self) -> None:
        self._works: set[Deferred[Any]] = set()

    def to_its_end(self, change: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Carry out *change*; cancelling the Deferred that is returned does not end it."""
        work = ensureDeferred(change)
        self._works.add(work)
        result = shielded(work)
        work.addBoth(lambda _: self._works.discard(work))
        return result

    async def finish(self) -> None:
        """Return when every change that has been begun has ended."""
        while self._works:
            await DeferredList(list(self._works))
