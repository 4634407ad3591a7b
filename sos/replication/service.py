"""The service that runs replication passes in a daemon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.interfaces import Groups
from sos.replication.cluster_pass import replicate
from sos.replication.group_pass import Policy
from sos.replication.pass_state import AWAY_SECONDS, Hints, PassState
from sos.replication.summary import Report, Summary

_log = Logger()


@frozen
class Pass:
    """A pass that has ended.

    :param started_at: when it started, in seconds since the epoch.
    :param seconds: its duration.
    :param summary: its results, None when it failed as a whole.
    :param error: why it failed as a whole, else None.
    """

    started_at: float
    seconds: float
    summary: Summary | None = None
    error: str | None = None


class ReplicationService(PeriodicService):
    """Service that runs a pass at intervals.

    :param interval: seconds from the end of a pass to the next, give or take a
        fifth, so that several API servers do not all start at once.
    :param hints: groups and partitions to compare first; other code adds to it.
    :param now: returns the time in seconds since the epoch.
    :ivar last: the last pass that ended, if any.
    :ivar passes: numbers of ended passes by result: ``ok``, ``incomplete``, ``failed``.
    :ivar made: totals over all passes.
    :ivar running_since: when the running pass started, in seconds since the epoch; None
        between passes.
    """

    def __init__(
        self,
        groups: Groups,
        policy: Policy,
        interval: float,
        clock: IReactorTime,
        hints: Hints,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("replication", clock)
        self.groups = groups
        self._state = PassState(hints, AWAY_SECONDS, incremental=True)
        self.last: Pass | None = None
        self.running_since: float | None = None
        self.passes = {"ok": 0, "incomplete": 0, "failed": 0}
        self.made = {"copied": 0, "bytes": 0, "failed": 0, "moved": 0}
        self._well_at = clock.seconds()
        self._policy = policy
        self._interval = interval
        self._now = now

    @property
    def hints(self) -> int:
        """Number of partitions that the next pass compares first."""
        return len(self._state.hints)

    @property
    def lag(self) -> float:
        """Seconds since the last pass with the result ``ok``, or since the service was made."""
        return self.clock.seconds() - self._well_at

    def delay(self) -> float:
        return self._interval * random.uniform(0.8, 1.2)

    async def work(self) -> None:
        started_at, begun = self._now(), self.clock.seconds()
        self.running_since = started_at
        report = Report(note=_note, warn=_warn)
        try:
            summary = await replicate(self.groups, self._policy, self.clock, report, self._state)
        except Exception as error:
            seconds = self.clock.seconds() - begun
            self.last = Pass(started_at, seconds, error=str(error) or type(error).__name__)
            self.passes["failed"] += 1
            raise
        finally:
            self.running_since = None
        self.last = Pass(started_at, self.clock.seconds() - begun, summary)
        self._count(summary)
        if not summary.idle:
            _log.info("replication: {summary}", summary=summary)

    def _count(self, summary: Summary) -> None:
        self.passes["ok" if summary.ok else "incomplete"] += 1
        for name in self.made:
            self.made[name] += getattr(summary, name)
        if summary.ok:
            self._well_at = self.clock.seconds()


def _note(text: str) -> None:
    _log.info("replication: {text}", text=text)


def _warn(text: str) -> None:
    _log.warn("replication: {text}", text=text)
