"""Copies of small blobs, many of them by one request."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from sos.batch import MOST_BLOBS
from sos.errors import NotFound, SOSError
from sos.interfaces import IBatchStore, IReplicaStore
from sos.replication.together import within

#: Most bytes of a body that is copied in a batch: what a larger one costs is not
#: its request.
SMALL = 16 * 1024

# Bytes at which a batch is full: a server does nothing else while it goes through one.
_FULL = 256 * 1024
# Batches from one server to another at once: so all have something to do.
_AT_ONCE = 3
# Seconds that one may take.
_SECONDS = 60.0

# What is to be copied: id, bytes, and who waits for it.
_Waiting = tuple[str, int, Deferred[bool]]


class Batches:
    """Copies small blobs between *stores*, by their names."""

    def __init__(self, stores: Mapping[str, IReplicaStore], clock: Any) -> None:
        self._stores = stores
        self._clock = clock
        self._lanes: dict[tuple[str, str], _Lane] = {}

    async def copy(self, id: str, size: int, source: str, target: str) -> bool:
        """Copy a blob of *size* bytes; tell whether it was, or has to be copied by itself."""
        lane = self._lanes.get((source, target))
        if lane is None:
            ends = self._stores[source], self._stores[target]
            lane = self._lanes[source, target] = _Lane(*ends, self._clock)
        return lane.usable and await lane.copy(id, size)

    def stop(self) -> None:
        """Break off those that are under way."""
        for lane in self._lanes.values():
            lane.stop()


class _Lane:
    """The way from *source* to *target*.

    When a batch is through, the next takes along what waits by then: nothing
    is held up for others to come, and the more there are, the more go together.

    :ivar usable: whether both know of batches.
    """

    def __init__(self, source: Any, target: Any, clock: Any) -> None:
        self.usable = all(IBatchStore.providedBy(each) for each in (source, target))
        self._source: IBatchStore = source
        self._target: IBatchStore = target
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[Deferred[frozenset[str]]] = set()

    async def copy(self, id: str, size: int) -> bool:
        copied: Deferred[bool] = Deferred()
        self._waiting.append((id, size, copied))
        self._begin()
        return await copied

    def _begin(self) -> None:
        while self._waiting and len(self._under_way) < _AT_ONCE:
            taken = self._take()
            work = ensureDeferred(self._carry([id for id, _, _ in taken]))
            self._under_way.add(work)
            work.addBoth(partial(self._ended, work, taken))

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        room = _FULL
        while self._waiting and room > 0 and len(taken) < MOST_BLOBS:
            taken.append(self._waiting.popleft())
            room -= taken[-1][1]
        return taken

    async def _carry(self, ids: list[str]) -> frozenset[str]:
        """Copy *ids*, and return those that were copied."""
        try:
            return await within(_SECONDS, self._copied(ids), self._clock)
        except NotFound:  # of the original system, or an older one
            self.usable = False
        except SOSError:
            pass  # it comes again where each is copied by itself, and is told then
        return frozenset()

    async def _copied(self, ids: list[str]) -> frozenset[str]:
        blobs = await self._source.read_batch(ids)
        return await self._target.store_batch(blobs) if blobs else frozenset()

    def _ended(
        self,
        work: Deferred[frozenset[str]],
        taken: list[_Waiting],
        outcome: frozenset[str] | Failure,
    ) -> None:
        self._under_way.discard(work)
        for id, _, copied in taken:
            if isinstance(outcome, Failure):
                copied.errback(outcome)
            else:
                copied.callback(id in outcome)
        self._begin()

    def stop(self) -> None:
        self._waiting.clear()
        for work in list(self._under_way):
            work.cancel()
