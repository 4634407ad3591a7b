"""The service that collects garbage in a daemon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.aio.threads import RunInThread
from sos.collection.collect import collect
from sos.collection.garbage import Limits
from sos.collection.summary import Report, Summary
from sos.interfaces import Groups

# Most seconds until the first collection, and until another one after one that was refused.
_FIRST_SECONDS = 3600.0

_log = Logger()


@frozen
class Collection:
    """A collection that has ended.

    :param started_at: when it started, in seconds since the epoch.
    :param seconds: its duration.
    :param summary: its results.
    """

    started_at: float
    seconds: float
    summary: Summary


class CollectionService(PeriodicService):
    """Service that collects garbage at intervals.

    :param interval: seconds from the end of a collection to the next, give or take a fifth, so that
        several API servers do not all start at once.
    :param now: returns the time in seconds since the epoch.
    :ivar last: the last collection that ended, if any.
    :ivar ended: numbers of ended collections by result: ``ok``, ``refused``.
    :ivar freed: totals over all collections: expired objects, copies removed, and their bytes.
    :ivar running_since: when the running one started, in seconds since the epoch; None between two.
    """

    def __init__(
        self,
        groups: Groups,
        limits: Limits,
        interval: float,
        clock: IReactorTime,
        run_in_thread: RunInThread,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("garbage collection", clock)
        self.groups = groups
        self.last: Collection | None = None
        self.ended = {"ok": 0, "refused": 0}
        self.freed = {"expired": 0, "copies": 0, "bytes": 0}
        self.running_since: float | None = None
        self.interval = interval
        self._limits = limits
        self._run_in_thread = run_in_thread
        self._now = now
        self._well_at = clock.seconds()

    @property
    def lag(self) -> float:
        """Seconds since the last collection with the result ``ok``, or since this was made."""
        return self.clock.seconds() - self._well_at

    def delay(self) -> float:
        collected = self.last is not None and self.last.summary.ok
        most = self.interval if collected else min(self.interval, _FIRST_SECONDS)
        return most * random.uniform(0.8, 1.2)

    async def work(self) -> None:
        started_at, begun = self._now(), self.clock.seconds()
        self.running_since = started_at
        try:
            summary = await collect(
                self.groups,
                self._limits,
                self.clock,
                self._run_in_thread,
                self._now,
                Report(note=_note),
            )
        finally:
            self.running_since = None
        self.last = Collection(started_at, self.clock.seconds() - begun, summary)
        for name in self.freed:
            self.freed[name] += getattr(summary, name)
        self.ended["ok" if summary.ok else "refused"] += 1
        if summary.ok:
            self._well_at = self.clock.seconds()
            _log.info("garbage collection: {summary}", summary=summary)
        else:
            _log.warn("garbage collection: {summary}", summary=summary)


def _note(text: str) -> None:
    _log.info("garbage collection: {text}", text=text)
