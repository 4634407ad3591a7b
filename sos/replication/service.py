"""Replication as a part of a daemon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.interfaces import Groups
from sos.replication.group_pass import Policy
from sos.replication.pass_state import AWAY_SECONDS, Hints, Memory
from sos.replication.passes import replicate
from sos.replication.summary import Report, Summary

_log = Logger()


@frozen
class Pass:
    """A pass that has ended.

    :param started_at: when, in seconds since the epoch.
    :param seconds: that it took.
    :param summary: what it did, None when it failed as a whole.
    :param error: why it did.
    """

    started_at: float
    seconds: float
    summary: Summary | None = None
    error: str | None = None


class ReplicationService(PeriodicService):
    """Makes a pass every now and then.

    :param interval: seconds from the end of a pass to the next, give or take a
        fifth, so that several API servers do not all start at once.
    :param hints: where it is told what it should look at first.
    :param now: tells the time in seconds since the epoch.
    :ivar last: the last pass that has ended, if one has.
    :ivar passes: how many have ended, by how: ``ok``, ``incomplete``, ``failed``.
    :ivar made: what all of them have done together.
    :ivar running_since: when the pass that is under way was begun, if one is.
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
        self._memory = Memory(hints, AWAY_SECONDS, in_turn=True)
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
        """How many partitions it has been told to look at first."""
        return len(self._memory.hints)

    @property
    def lag(self) -> float:
        """Seconds since a pass saw every blob with all its copies, or since there are passes."""
        return self.clock.seconds() - self._well_at

    def delay(self) -> float:
        return self._interval * random.uniform(0.8, 1.2)

    async def work(self) -> None:
        started_at, begun = self._now(), self.clock.seconds()
        self.running_since = started_at
        report = Report(note=_note, warn=_warn)
        try:
            summary = await replicate(self.groups, self._policy, self.clock, report, self._memory)
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
