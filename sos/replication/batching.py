"""Copies of small blobs in batches, many in one request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from sos.aio.gather import within
from sos.batch import FULL, MOST_BLOBS
from sos.errors import SOSError
from sos.interfaces import IBatchStore, IReplicaStore

# Concurrent batches from one server to another: enough to keep both and this process busy.
_AT_ONCE = 3
# Timeout of a batch, in seconds.
_SECONDS = 15.0


class Batches:
    """Batched copies of small blobs between servers.

    :param stores: the servers by name.
    :param note: called with a line of text when blobs have to be copied one by one.
    """

    def __init__(
        self, stores: Mapping[str, IReplicaStore], clock: Any, note: Callable[[str], None]
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._note = note
        self._queues: dict[tuple[str, str], _Queue] = {}

    async def copy(self, id: str, size: int, source: str, target: str) -> int | None:
        """Copy a blob in a batch.

        Return its size in bytes, or None if it has to be copied by itself.
        """
        queue = self._queues.get((source, target))
        if queue is None:
            ends = self._stores[source], self._stores[target]
            queue = self._queues[source, target] = _Queue(*ends, self._clock, self._note)
        return await queue.copy(id, size)

    def stop(self) -> None:
        """Cancel the batches in flight."""
        for queue in self._queues.values():
            queue.stop()


@frozen
class _Waiting:
    id: str
    size: int
    copied: Deferred[int | None] = field(factory=Deferred)


class _Queue:
    """Queue of blobs to copy from *source* to *target*.

    A batch starts at once if few are in flight; else the next batch takes all that waits.  So
    no blob waits for others, and batches grow with the load.  After a failure no new batch
    starts: the server does not support batches, or has a problem that single copies show.
    """

    def __init__(self, source: Any, target: Any, clock: Any, note: Callable[[str], None]) -> None:
        self._open = all(IBatchStore.providedBy(each) for each in (source, target))
        self._source: IBatchStore = source
        self._target: IBatchStore = target
        self._clock = clock
        self._note = note
        self._waiting: deque[_Waiting] = deque()
        self._under_way: set[Deferred[dict[str, int]]] = set()

    async def copy(self, id: str, size: int) -> int | None:
        if not self._open:
            return None
        waiting = _Waiting(id, size)
        self._waiting.append(waiting)
        self._begin()
        return await waiting.copied

    def _begin(self) -> None:
        while self._waiting and not self._open:
            self._waiting.popleft().copied.callback(None)
        while self._waiting and len(self._under_way) < _AT_ONCE:
            taken = self._take()
            work = ensureDeferred(self._carry([each.id for each in taken]))
            self._under_way.add(work)
            work.addBoth(partial(self._ended, work, taken))

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        room = FULL
        while self._waiting and room > 0 and len(taken) < MOST_BLOBS:
            taken.append(self._waiting.popleft())
            room -= taken[-1].size
        return taken

    async def _carry(self, ids: list[str]) -> dict[str, int]:
        """Copy *ids* in one batch; return the sizes in bytes of the blobs that were copied."""
        try:
            return await within(_SECONDS, self._copied(ids), self._clock)
        except SOSError as error:
            if self._open:
                way = f"from {self._source.name} to {self._target.name}"
                self._note(f"batch copy {way} failed, copying one by one from now on: {error}")
            self._open = False
            return {}

    async def _copied(self, ids: list[str]) -> dict[str, int]:
        blobs = await self._source.read_batch(ids)
        stored = await self._target.store_batch(blobs) if blobs else ()
        return {blob.info.id: blob.info.size or 0 for blob in blobs if blob.info.id in stored}

    def _ended(
        self,
        work: Deferred[dict[str, int]],
        taken: list[_Waiting],
        outcome: dict[str, int] | Failure,
    ) -> None:
        self._under_way.discard(work)
        for each in taken:
            if isinstance(outcome, Failure):
                each.copied.errback(outcome)
            else:
                each.copied.callback(outcome.get(each.id))
        self._begin()

    def stop(self) -> None:
        self._waiting.clear()
        for work in list(self._under_way):
            work.cancel()
