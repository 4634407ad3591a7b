"""One anti-entropy pass over one group: compare the servers, plan steps, and execute them."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from attrs import define, field, frozen

from sos.aio.gather import together, within
from sos.aio.rate_limit import RateLimit
from sos.errors import SOSError
from sos.interfaces import Member, StoreStatus
from sos.model.placement import rank
from sos.monitoring.server_health import Answer
from sos.replication import inventory
from sos.replication.executor import Executor
from sos.replication.inventory import Inventory
from sos.replication.leases import Leases
from sos.replication.pass_state import PassState
from sos.replication.plan import ALL, Held, Placing, Step, holders, in_sync, plan
from sos.replication.step_pool import StepPool, described
from sos.replication.summary import Report, Summary

# Timeout of a server's inventory, in seconds; a server of the original system lists all blobs.
_STOCK_SECONDS = 600.0
# Timeout for the digests of the blobs of one partition, in seconds.
_LISTING_SECONDS = 120.0
# Partitions that are compared concurrently.
_COMPARING = 4


@frozen
class Policy:
    """Goals and limits of a pass.

    :param min_copies: copies of each blob in its group,
        :data:`sos.replication.plan.ALL` for one on every writable server.
    :param rate: most bytes a second for copies, 0 for no limit.
    :param moves: whether to drop surplus copies once the replica set is complete; else only
        add copies.
    :param drained: names of servers to empty.
    :param dry_run: only report the steps, and execute none.
    """

    min_copies: int
    rate: int = 0
    moves: bool = True
    drained: frozenset[str] = frozenset()
    dry_run: bool = False


@define
class GroupPass:
    """One pass over *members*.

    :param answers: the statuses of the servers, or their errors, by name.
    :param state: state of earlier passes.
    """

    group: str
    members: tuple[Member, ...]
    answers: Mapping[str, Answer]
    policy: Policy
    state: PassState
    clock: Any
    summary: Summary
    report: Report
    _inventories: dict[str, Inventory] = field(init=False, factory=dict)
    _weights: dict[str, float] = field(init=False, factory=dict)
    _movable: frozenset[str] = field(init=False, default=frozenset())
    _full: frozenset[str] = field(init=False, default=frozenset())

    @property
    def inventories(self) -> Mapping[str, Inventory]:
        """The inventories of the servers that answered, by name."""
        return self._inventories

    async def run(self) -> None:
        """Compare all partitions that differ, and execute the steps."""
        await together(self._take_inventories(member) for member in self.members)
        if not self._inventories:
            return
        self.summary.servers += len(self._inventories)
        self._place()
        now = self.clock.seconds()
        # A server's digests are the same object until they change, so this comparison is cheap.
        digests = {name: each.digests for name, each in self._inventories.items()}
        known = (digests, self._weights, self._movable, self._full)
        unchanged = self.state.unchanged(self.group, known, now)
        if unchanged is not None:
            self.summary.blobs += unchanged[0]
            self.summary.short += unchanged[1]
            return
        before = self.summary.blobs, self.summary.short
        differing = self._differing()
        if differing:
            await self._mend(differing)
        else:
            found = self.summary.blobs - before[0], self.summary.short - before[1]
            self.state.mark_unchanged(self.group, known, found, now)

    async def _mend(self, differing: list[str]) -> None:
        stores = {member.name: member.store for member in self.members}
        leases = Leases(stores, self.clock)
        rate_limit = RateLimit(self.policy.rate, self.clock) if self.policy.rate else None
        executor = Executor(stores, rate_limit, self.clock, self.summary, self.report, leases)
        pool = StepPool(executor)
        self.summary.differing += len(differing)
        self.report.progress(self.summary)
        remaining = iter(differing)
        try:
            await together(self._compare(remaining, pool) for _ in range(_COMPARING))
            await pool.finish()
            for id in executor.disputed:
                self.state.dispute(self.group, id, self.clock.seconds())
        finally:
            pool.stop()
            await leases.release()

    async def _take_inventories(self, member: Member) -> None:
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
            self.state.seen(name)

    def _away(self, name: str, error: SOSError) -> None:
        # A server without an answer is never taken for an empty one.
        self._inventories.pop(name, None)
        self.state.missed(name, self.clock.seconds())
        self.summary.unlisted.append(name)
        self.report.warn(f"leaving a server of group {self.group} out of this pass: {error}")

    def _place(self) -> None:
        """Decide which servers can be holders, and which may drop surplus copies.

        The copies of a server that does not answer are made elsewhere once it is no longer
        expected back; those of a server that takes no blobs are made elsewhere at once.
        Nothing is dropped while a server does not answer, or while there are fewer servers
        than copies wanted.
        """
        now = self.clock.seconds()
        self._weights = {
            member.name: member.weight
            for member in self.members
            if not member.readonly
            and member.name not in self.policy.drained
            and (member.name in self._inventories or self.state.is_expected(member.name, now))
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
        """Return the partitions to compare: those with hints first, the others in random order.

        So several API servers that make a pass at the same time begin at different
        partitions, and share the work.
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
            short = self.state.known_short(self.group, partition, known, self.clock.seconds())
            if short is not None:
                self._count(count, short)
            else:
                found.append(partition)
        random.shuffle(found)
        hints = self.state.take_hints(self.group)
        found.sort(key=lambda partition: partition not in hints)
        return found

    def _digests(self, partition: str) -> Mapping[str, Hashable]:
        return {
            name: each.digests[partition]
            for name, each in self._inventories.items()
            if partition in each.digests
        }

    def _wanting(self, step: Step) -> int:
        """Return how many copies a blob lacks, counting copies outside of its replica set."""
        if self.policy.min_copies == ALL:
            return len(step.targets)
        there = len(step.holders) - len(step.targets) + step.surplus
        return max(self.policy.min_copies - there, 0)

    def _count(self, blobs: int, short: int) -> None:
        self.summary.blobs += blobs
        self.summary.short += short

    async def _compare(self, remaining: Iterator[str], pool: StepPool) -> None:
        for partition in remaining:
            while not await self._compared(partition, pool):
                pass  # try again without the server that has just failed
            self.summary.compared += 1
            self.report.progress(self.summary)

    async def _compared(self, partition: str, pool: StepPool) -> bool:
        """Compare a *partition*; return False if a server failed to list it."""
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

        # Ask holders without blobs as well: another pass may have made copies there meanwhile.
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
            step.id for step in found.steps if self.state.is_disputed(self.group, step.id, now)
        }
        self.summary.disputed += len(known_disputes)
        self._count(len(set().union(*held.values())), found.short)
        self.summary.disputed += len(found.disputed)
        for id in found.disputed:
            self.report.warn(f"{id} has different bodies on different servers")
        if not found.steps:
            counted = all(
                self._inventories[name].count(partition) == len(held[name]) for name in before
            )
            if counted and not found.disputed:
                known = (digests, self._holders(partition), self._movable, self._full)
                self.state.mark_in_sync(self.group, partition, known, found.short, now)
        for step in found.steps:
            if step.id in known_disputes:
                continue
            self.summary.planned += len(step.targets)
            self.summary.wanting += self._wanting(step)
            if self.policy.dry_run:
                for line in described(step):
                    self.report.note(line)
            else:
                await pool.begin(step)
        return True
