"""Replication: bring every blob of a group to as many servers as it should be on."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Set
from typing import Any, TypeVar

from attrs import Factory, define, frozen
from twisted.internet.defer import (
    CancelledError,
    FirstError,
    ensureDeferred,
    gatherResults,
)
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.errors import SOSError
from sos.interfaces import Groups, IBlobStore, Member
from sos.plan import Copy, plan
from sos.repeating import RepeatingService
from sos.transfer import copy

#: Copies under way at once.
CONCURRENCY = 16

T = TypeVar("T")

_log = Logger()


@define
class Summary:
    """What a pass has done so far.

    :param planned: copies to make; it grows as groups are compared.
    :param copied: of those, how many were made.
    :param failed: of those, how many could not be made.
    :param short: blobs that would want more servers than can be written to.
    :param unlisted: servers that did not list what they hold.
    """

    servers: int = 0
    blobs: int = 0
    planned: int = 0
    copied: int = 0
    failed: int = 0
    short: int = 0
    unlisted: list[str] = Factory(list)

    @property
    def ok(self) -> bool:
        """Whether every blob has its copies now."""
        return not (self.failed or self.short or self.unlisted)

    def __str__(self) -> str:
        text = (
            f"{self.blobs} blobs on {self.servers} servers: {self.planned} copies missing, "
            f"{self.copied} made, {self.failed} failed"
        )
        if self.short:
            text += f"; {self.short} blobs want more servers than there are to write to"
        if self.unlisted:
            text += f"; no listing from {', '.join(self.unlisted)}"
        return text


async def replicate(
    groups: Groups,
    min_copies: int,
    progress: Callable[[Summary], None] = lambda summary: None,
    note: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Summary:
    """Make one pass over each of *groups*; they never mix.

    A failure ends its own step alone: a server that cannot be listed is left
    out of the pass, and a copy that cannot be made is counted.

    :param min_copies: servers of a group that should hold each of its blobs.
    :param progress: called after each step.
    :param note: called with a line about each copy made.
    :param warn: called with a line about each failure.
    """
    summary = Summary()
    for name, members in groups.items():
        pass_ = _GroupPass(name, members, min_copies, summary, progress, note, warn)
        try:
            await pass_.run()
        except CancelledError:
            raise
        except Exception:  # a mistake of ours must not keep the other groups from their copies
            _log.failure("the replication of group {name} failed", name=name)
            summary.unlisted.append(f"group {name}")
    return summary


@define
class _GroupPass:
    group: str
    members: tuple[Member, ...]
    min_copies: int
    summary: Summary
    progress: Callable[[Summary], None]
    note: Callable[[str], None]
    warn: Callable[[str], None]

    async def run(self) -> None:
        listed = await _together(self._list(member.store) for member in self.members)
        listings = {name: held for name, held in listed if held is not None}
        self.summary.servers += len(listings)
        self.summary.blobs += len(frozenset().union(*listings.values()))
        weights = {each.store.name: each.weight for each in self.members if not each.readonly}
        steps = list(plan(listings, self.min_copies, weights))
        self.summary.short += self._short(listings, steps)
        self.summary.planned += sum(len(step.targets) for step in steps)
        self.progress(self.summary)
        remaining = iter(steps)
        await _together(self._work(remaining) for _ in range(CONCURRENCY))

    def _short(self, listings: Mapping[str, Set[str]], steps: list[Copy]) -> int:
        copies = Counter(id for held in listings.values() for id in held)
        for step in steps:
            copies[step.id] += len(step.targets)
        return sum(1 for count in copies.values() if count < self.min_copies)

    async def _list(self, store: IBlobStore) -> tuple[str, Set[str] | None]:
        try:
            return store.name, frozenset(await store.listing())
        except SOSError as error:
            # That it did not say what it holds never means that it holds nothing.
            self.summary.unlisted.append(store.name)
            self.warn(f"group {self.group}: {error}")
            return store.name, None

    async def _work(self, remaining: Iterator[Copy]) -> None:
        for step in remaining:
            for target in step.targets:
                if await self._copy(step, target):
                    self.summary.copied += 1
                else:
                    self.summary.failed += 1
                self.progress(self.summary)

    async def _copy(self, step: Copy, target: str) -> bool:
        stores = {member.store.name: member.store for member in self.members}
        for source in step.sources:
            try:
                await copy(await stores[source].read(step.id), stores[target])
            except SOSError as error:
                self.warn(f"{step.id} from {source} to {target}: {error}")
            else:
                self.note(f"{step.id} copied from {source} to {target}")
                return True
        return False


async def _together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all of *work* at once; the first error, or a cancellation, ends all of it."""
    begun = [ensureDeferred(each) for each in work]
    try:
        return await gatherResults(begun, consumeErrors=True)
    except FirstError as error:
        for each in begun:
            each.cancel()
        error.subFailure.raiseException()


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


class ReplicationService(RepeatingService):
    """Makes a pass every now and then.

    :param interval: seconds from the end of a pass to the next, give or take a
        fifth, so that several API servers do not all start at once.
    :param now: tells the time in seconds since the epoch.
    :ivar last: the last pass that has ended, if one has.
    :ivar running_since: when the pass that is under way was begun, if one is.
    """

    def __init__(
        self,
        groups: Groups,
        min_copies: int,
        interval: float,
        clock: IReactorTime,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("replication", clock)
        self.groups = groups
        self.last: Pass | None = None
        self.running_since: float | None = None
        self._min_copies = min_copies
        self._interval = interval
        self._now = now

    def delay(self) -> float:
        return self._interval * random.uniform(0.8, 1.2)

    async def work(self) -> None:
        started_at, begun = self._now(), self.clock.seconds()
        self.running_since = started_at
        try:
            summary = await replicate(self.groups, self._min_copies, note=_note, warn=_warn)
        except Exception as error:
            seconds = self.clock.seconds() - begun
            self.last = Pass(started_at, seconds, error=str(error) or type(error).__name__)
            raise
        finally:
            self.running_since = None
        self.last = Pass(started_at, self.clock.seconds() - begun, summary)
        if summary.planned or not summary.ok:
            _log.info("replication: {summary}", summary=summary)


def _note(text: str) -> None:
    _log.info("replication: {text}", text=text)


def _warn(text: str) -> None:
    _log.warn("replication: {text}", text=text)
