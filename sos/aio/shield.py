"""Changes that run to their end even if their callers are cancelled."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred

from sos.aio.threads import shielded

T = TypeVar("T")


class Underway:
    """The set of changes in progress."""

    def __init__(self) -> None:
        self._works: set[Deferred[Any]] = set()

    def to_its_end(self, change: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Carry out *change*; cancelling the returned Deferred does not cancel it."""
        work = ensureDeferred(change)
        self._works.add(work)
        result = shielded(work)
        work.addBoth(lambda _: self._works.discard(work))
        return result

    async def finish(self) -> None:
        """Wait until all changes have ended, also those that begin meanwhile."""
        while self._works:
            await DeferredList(list(self._works))
