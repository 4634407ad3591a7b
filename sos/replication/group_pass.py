"""One pass over one group: who holds what, where that differs, and what is done about it."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from attrs import define, field, frozen

from sos.aio.gather import together, within
from sos.aio.rate_limit import Pace
from sos.errors import SOSError
from sos.interfaces import Member, StoreStatus
from sos.model.placement import rank
from sos.model.plan import ALL, Held, Placing, Step, holders, in_sync, plan
from sos.monitoring.server_health import Answer
from sos.replication import inventory
from sos.replication.executor import Executor
from sos.replication.inventory import Inventory
from sos.replication.leases import Leases
from sos.replication.pass_state import Memory
from sos.replication.step_pool import Steps, described
from sos.replication.summary import Report, Summary

# Seconds that a server has to tell what it holds; one of the original system
# lists everything.
_STOCK_SECONDS = 600.0
# Seconds that it has to tell what it holds of one partition.
_LISTING_SECONDS = 120.0
# Partitions that are compared at once.
_COMPARING = 4


@frozen
class Policy:
    """What a pass is to bring about.

    :param min_copies: servers of a group that should hold each of its blobs,
        :data:`sos.model.plan.ALL` for every one that can be written to.
    :param rate: bytes a second that copies may take, 0 for as many as can be.
    :param moves: whether copies that belong elsewhere are dropped there, once
        they are where they belong; else copies are only added.
    :param drained: names of servers that are to hold nothing any more.
    :param dry_run: only tell what would be done.
    """

    min_copies: int
    rate: int = 0
    moves: bool = True
    drained: frozenset[str] = frozenset()
    dry_run: bool = False


@define
class GroupPass:
    """One pass over *members*.

    :param answers: what each of them, by its name, has said of how it is doing.
    :param memory: what is known from earlier passes.
    """

    group: str
    members: tuple[Member, ...]
    answers: Mapping[str, Answer]
    policy: Policy
    memory: Memory
    clock: Any
    summary: Summary
    report: Report
    _inventories: dict[str, Inventory] = field(init=False, factory=dict)
    _weights: dict[str, float] = field(init=False, factory=dict)
    _movable: frozenset[str] = field(init=False, default=frozenset())
    _full: frozenset[str] = field(init=False, default=frozenset())

    @property
    def inventories(self) -> Mapping[str, Inventory]:
        """What the servers that have answered hold, by their names."""
        return self._inventories

    async def run(self) -> None:
        """Go through all partitions that differ."""
        await together(self._take_stock(member) for member in self.members)
        if not self._inventories:
            return
        self.summary.servers += len(self._inventories)
        self._place()
        now = self.clock.seconds()
        # The digests of a server are the same object while they do not change, so
        # that all of this is compared at once.
        digests = {name: each.digests for name, each in self._inventories.items()}
        known = (digests, self._weights, self._movable, self._full)
        rested = self.memory.rested(self.group, known, now)
        if rested is not None:
            self.summary.blobs += rested[0]
            self.summary.short += rested[1]
            return
        before = self.summary.blobs, self.summary.short
        differing = self._differing()
        if differing:
            await self._mend(differing)
        else:
            found = self.summary.blobs - before[0], self.summary.short - before[1]
            self.memory.rest(self.group, known, found, now)

    async def _mend(self, differing: list[str]) -> None:
        stores = {member.name: member.store for member in self.members}
        leases = Leases(stores, self.clock)
        pace = Pace(self.policy.rate, self.clock) if self.policy.rate else None
        executor = Executor(stores, pace, self.clock, self.summary, self.report, leases)
        steps = Steps(executor)
        self.summary.differing += len(differing)
        self.report.progress(self.summary)
        remaining = iter(differing)
        try:
            await together(self._compare(remaining, steps) for _ in range(_COMPARING))
            await steps.finish()
            for id in executor.disputed:
                self.memory.dispute(self.group, id, self.clock.seconds())
        finally:
            steps.stop()
            await leases.release()

    async def _take_stock(self, member: Member) -> None:
        name = member.name
        answer = self.answers[name]
        if isinstance(answer, SOSError):
            self._away(name, answer)
            return
        try:
            taking = inventory.take(member.store)
            self._inventories[name] = await within(_STOCK_SECONDS, taking, self.clock)
        except SOSError as error:
            self._away(name, error)
        else:
            self.memory.seen(name)

    def _away(self, name: str, error: SOSError) -> None:
        # That it did not say what it holds never means that it holds nothing.
        self._inventories.pop(name, None)
        self.memory.missed(name, self.clock.seconds())
        self.summary.unlisted.append(name)
        self.report.warn(f"group {self.group}: {error}")

    def _place(self) -> None:
        """Decide who can be a holder, and who may drop what belongs elsewhere.

        In place of a server that is away its copies are made elsewhere when it
        has been away for long; nothing is dropped while one is, or while there
        are fewer servers than there should be copies.  In place of one that takes
        no blobs they are made elsewhere at once.
        """
        now = self.clock.seconds()
        self._weights = {
            member.name: member.weight
            for member in self.members
            if not member.readonly
            and member.name not in self.policy.drained
            and (member.name in self._inventories or self.memory.is_expected(member.name, now))
        }
        self._full = frozenset(
            name
            for name, answer in self.answers.items()
            if isinstance(answer, StoreStatus) and not answer.writable
        )
        self._movable = frozenset()
        enough = self.policy.min_copies == ALL or len(self._weights) >= self.policy.min_copies
        if self.policy.moves and enough and len(self._inventories) == len(self.members):
            dropping = {name for name, each in self._inventories.items() if each.drops}
            self._movable = frozenset(dropping & (self._weights.keys() | self.policy.drained))

    def _holders(self, partition: str) -> tuple[str, ...]:
        wanted = holders(self._weights, partition, self.policy.min_copies)
        return tuple(name for name in wanted if name in self._inventories)

    def _differing(self) -> list[str]:
        """Return the partitions to compare: those with hints first, others in any order.

        Several API servers that make a pass at the same time begin at different
        ones, and find done what others have done.
        """
        found = []
        for partition in set().union(*(each.digests for each in self._inventories.values())):
            wanted = self._holders(partition)
            digests = self._digests(partition)
            count = max(self._inventories[name].count(partition) for name in digests)
            if in_sync(digests, wanted, self._movable):
                copies = len({*digests, *wanted} - self.policy.drained)
                self._count(count, count if copies < self.policy.min_copies < ALL else 0)
                continue
            known = (digests, wanted, self._movable, self._full)
            short = self.memory.settled(self.group, partition, known, self.clock.seconds())
            if short is not None:
                self._count(count, short)
            else:
                found.append(partition)
        random.shuffle(found)
        hints = self.memory.take_hints(self.group)
        found.sort(key=lambda partition: partition not in hints)
        return found

    def _digests(self, partition: str) -> Mapping[str, Hashable]:
        return {
            name: each.digests[partition]
            for name, each in self._inventories.items()
            if partition in each.digests
        }

    def _wanting(self, step: Step) -> int:
        """Return how many copies a blob lacks: one elsewhere than where it belongs is one."""
        if self.policy.min_copies == ALL:
            return len(step.targets)
        there = len(step.holders) - len(step.targets) + step.surplus
        return max(self.policy.min_copies - there, 0)

    def _count(self, blobs: int, short: int) -> None:
        self.summary.blobs += blobs
        self.summary.short += short

    async def _compare(self, remaining: Iterator[str], steps: Steps) -> None:
        for partition in remaining:
            while not await self._compared(partition, steps):
                pass  # without the server that has just failed
            self.summary.compared += 1
            self.report.progress(self.summary)

    async def _compared(self, partition: str, steps: Steps) -> bool:
        """Compare a *partition*, unless a server cannot list it; tell whether it was."""
        digests = self._digests(partition)
        before = frozenset(self._inventories)
        held: dict[str, Held] = {name: {} for name in before}

        async def ask(name: str) -> None:
            each = self._inventories[name]
            try:
                held[name] = await within(_LISTING_SECONDS, each.held(partition), self.clock)
            except SOSError as error:
                if name in self._inventories:
                    self._away(name, error)
                    self._place()

        # Also those that should hold it, and did not a moment ago: others make copies, too.
        await together(ask(name) for name in before & {*digests, *self._holders(partition)})
        if before - set(self._inventories):
            return False
        placing = Placing(
            rank(self._weights, partition),
            self.policy.min_copies,
            self._movable,
            self._full,
            self.policy.drained,
        )
        found = plan(held, placing)
        now = self.clock.seconds()
        known_disputes = {
            step.id for step in found.steps if self.memory.is_disputed(self.group, step.id, now)
        }
        self.summary.disputed += len(known_disputes)
        self._count(len(set().union(*held.values())), found.short)
        self.summary.disputed += len(found.disputed)
        for id in found.disputed:
            self.report.warn(f"{id} stands for different bytes on different servers")
        if not found.steps:
            counted = all(
                self._inventories[name].count(partition) == len(held[name]) for name in before
            )
            if counted and not found.disputed:
                known = (digests, self._holders(partition), self._movable, self._full)
                self.memory.settle(self.group, partition, known, found.short, now)
        for step in found.steps:
            if step.id in known_disputes:
                continue
            self.summary.planned += len(step.targets)
            self.summary.wanting += self._wanting(step)
            if self.policy.dry_run:
                for line in described(step):
                    self.report.note(line)
            else:
                await steps.begin(step)
        return True
