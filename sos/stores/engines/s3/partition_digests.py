"""The digests of the partitions, counted from the markers of the blobs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import contextmanager

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredLock,
    DeferredSemaphore,
    FirstError,
    TimeoutError,
    gatherResults,
)
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.errors import SOSError, Unavailable
from sos.model import ids
from sos.model.digest import PartitionDigest
from sos.stores.engines.s3.bucket import Bucket
from sos.stores.engines.s3.records import INDEX, Marker, read_marker

#: Least seconds between two counts. A count finds what other processes have stored.
COUNT_SECONDS = 300.0
#: Least pause between counts, as a multiple of the time that a count takes: requests cost money.
COUNT_FACTOR = 50
# Seconds until a failed count is retried.
_AGAIN_SECONDS = 15.0
# Seconds for which a caller waits for the first count.
_FIRST_COUNT_SECONDS = 8.0
# Most concurrent listings.
_AT_ONCE = 4
_HEX = "0123456789abcdef"

_log = Logger()


class PartitionDigests:
    """The digest of each partition, kept in memory.

    A listing of all markers gives the first digests. Each blob that this process stores is added.
    After any other change the partition is stale, and is listed again on the next request for
    digests. A request for the blobs of a partition lists that again as well.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._digests: dict[str, PartitionDigest] | None = None
        # The last answer: callers get the same object while nothing has changed.
        self._last_answer: Mapping[str, PartitionDigest] = {}
        # Partitions whose digest is not known.
        self._stale: set[str] = set()
        # By partition: a listing during a change may or may not have seen the change.
        self._changes: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._waiting: list[Deferred[None]] = []
        self._listing = DeferredLock()

    @property
    def total(self) -> PartitionDigest | None:
        """Number and bytes of all blobs as far as known; None before the first count."""
        if self._digests is None:
            return None
        digests = self._digests.values()
        return PartitionDigest(sum(d.count for d in digests), sum(d.bytes for d in digests))

    @contextmanager
    def change(self, id: str, new: Marker | None = None) -> Iterator[None]:
        """Surround every change of the markers of *id* by this context.

        :param new: the marker that the block adds, if it changes nothing else: then the
            partition need not be listed again.
        """
        name = ids.partition(id)
        self._under_way[name] += 1
        done = False
        try:
            yield
            done = True
        finally:
            self._under_way[name] -= 1
            self._changes[name] += 1
            if done and new is not None and self._digests is not None and name not in self._stale:
                before = self._digests.get(name, PartitionDigest())
                self._digests[name] = before.with_blob(new.size, new.sum)
            else:
                self._stale.add(name)

    async def digests(self, clock: IReactorTime) -> Mapping[str, PartitionDigest]:
        """Return the digests of all partitions that hold anything; raises Unavailable."""
        if self._digests is None:
            first: Deferred[None] = Deferred()
            self._waiting.append(first)
            try:
                await first.addTimeout(_FIRST_COUNT_SECONDS, clock)
            except TimeoutError:
                raise Unavailable(
                    f"{self._bucket.client.name} is still being listed; try again"
                ) from None
        async with self._listing:  # callers that come meanwhile need not list the same again
            await _few_at_once(self.partition, sorted(self._stale))
        assert self._digests is not None
        found = {name: each for name, each in self._digests.items() if each.count}
        if found != self._last_answer:
            self._last_answer = found
        return self._last_answer

    async def partition(self, name: str) -> dict[str, Marker]:
        """List the markers of a partition, by id, and update its digest."""
        before = self._changes[name]
        pages = self._bucket.pages(f"{INDEX}{name}/")
        found = {each.id: each async for each in markers(pages)}
        if self._digests is not None and self._is_as(name, before):
            self._digests[name] = _sum(found.values())
            self._stale.discard(name)
        return found

    def _is_as(self, name: str, changes: int) -> bool:
        """Return whether partition *name* is unchanged since it had seen *changes* changes."""
        return self._changes[name] == changes and not self._under_way[name]

    async def count(self) -> None:
        """List all markers, and replace all digests."""
        before = Counter(self._changes)
        counted: dict[str, PartitionDigest] = {}

        async def listed(digit: str) -> None:
            async for each in markers(self._bucket.pages(f"{INDEX}{digit}")):
                name = ids.partition(each.id)
                so_far = counted.get(name, PartitionDigest())
                counted[name] = so_far.with_blob(each.size, each.sum)

        await _few_at_once(listed, _HEX)
        seen = {*self._changes, *self._under_way}
        self._stale = {name for name in seen if not self._is_as(name, before[name])}
        self._digests = counted
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)


async def markers(pages: AsyncIterable[list[str]]) -> AsyncGenerator[Marker, None]:
    """Yield the marker of each blob in *pages* of keys.

    A crash can leave several markers for one blob; then yield the one with the first version.
    """
    last: Marker | None = None
    async for page in pages:
        for key in page:
            found = read_marker(key)
            if found is None:
                continue  # not a key of ours
            if last is not None and last.id == found.id:
                last = min(last, found, key=lambda each: each.version)
                continue
            if last is not None:
                yield last
            last = found
    if last is not None:
        yield last


class Count(PeriodicService):
    """A service that counts at its start, and then periodically."""

    def __init__(self, digests: PartitionDigests, name: str, clock: IReactorTime) -> None:
        super().__init__(f"counting the blobs of {name}", clock)
        self._digests = digests
        self._name = name
        self._delay = 0.0

    def delay(self) -> float:
        return self._delay

    async def work(self) -> None:
        self._delay = _AGAIN_SECONDS
        begun = self.clock.seconds()
        try:
            await self._digests.count()
        except CancelledError:
            raise
        except SOSError as error:
            _log.warn(
                "cannot count the blobs of a store, store={name}: {error}",
                name=self._name,
                error=error,
            )
        else:
            taken = self.clock.seconds() - begun
            self._delay = max(COUNT_SECONDS, COUNT_FACTOR * taken) * random.uniform(0.9, 1.1)


def _sum(found: Iterable[Marker]) -> PartitionDigest:
    total = PartitionDigest()
    for each in found:
        total = total.with_blob(each.size, each.sum)
    return total


async def _few_at_once(work: Callable[[str], Awaitable[object]], names: Iterable[str]) -> None:
    """Call *work* for each of *names*, a few at once; the first failure cancels the rest."""
    turns = DeferredSemaphore(_AT_ONCE)
    works = [turns.run(work, name) for name in names]
    try:
        await gatherResults(works, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    finally:
        for each in reversed(works):  # waiting ones first, or they would start
            each.cancel()
