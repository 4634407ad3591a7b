"""Reconciliation of the metadata of objects that several groups hold.

An object can be in several groups: another group stands in for one that fails, and added
groups take over some of the ids.  Each group by itself is consistent then, but a reader
could get different metadata from each.  The metadata that was set first wins in all groups.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from functools import partial
from typing import Any

from attrs import define, field

from sos.aio.gather import together, within
from sos.errors import SOSError
from sos.interfaces import Groups, IReplicaStore
from sos.model import ids
from sos.model.digest import BlobDigest
from sos.replication.inventory import Inventory
from sos.replication.metadata import alive, lacking, merged, send, sources
from sos.replication.objects import TURN_PARTITIONS
from sos.replication.pass_state import PassState
from sos.replication.summary import Report, Summary

# Partitions that are compared concurrently.
_AT_ONCE = 4
# Timeout in seconds, to list a partition.
_LISTING_SECONDS = 120.0


@define
class AcrossGroups:
    """Comparison of the metadata of objects that several groups hold.

    It reads and updates one server of each group.  The next pass over the group brings the
    metadata to the other replicas.

    :param inventories: inventories of the servers, by group and name.
    :param writable: names of the servers that accept metadata.
    """

    groups: Groups
    inventories: Mapping[str, Mapping[str, Inventory]]
    writable: Set[str]
    dry_run: bool
    state: PassState
    clock: Any
    summary: Summary
    report: Report
    _stores: dict[str, IReplicaStore] = field(init=False)
    _failed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._stores = {
            member.name: member.store for members in self.groups.values() for member in members
        }

    async def run(self) -> None:
        """Compare the partitions that several groups hold, as many as this pass's turn allows."""
        now = self.clock.seconds()
        known = {
            name: each.digests
            for inventories in self.inventories.values()
            for name, each in inventories.items()
        }
        comparison = self.state.across
        if len(self.inventories) < 2 or comparison.is_finished(known, now):
            return
        if not comparison.remaining:
            comparison.begin(known, (("", partition) for partition in self._shared()))
        most = TURN_PARTITIONS if self.state.incremental else len(comparison.remaining)
        places = comparison.take(most)

        async def worker() -> None:
            for _, partition in places:
                await self._compare(partition)

        await together(worker() for _ in range(_AT_ONCE))
        if not (comparison.remaining or self._failed):
            comparison.finish(known, now)

    def _shared(self) -> list[str]:
        """Return the partitions in which more than one group holds blobs."""
        counts = Counter(
            partition
            for inventories in self.inventories.values()
            for partition in set().union(*(each.digests for each in inventories.values()))
        )
        return sorted(partition for partition, count in counts.items() if count > 1)

    def _unfit(
        self, inventories: Mapping[str, Inventory], partition: str, name: str
    ) -> tuple[bool, bool, int]:
        """Return a sort key: servers that accept metadata and hold most of *partition* first."""
        each = inventories[name]
        return not each.drops, name not in self.writable, -each.count(partition)

    async def _compare(self, partition: str) -> None:
        copies: defaultdict[str, dict[str, BlobDigest]] = defaultdict(dict)
        for inventories in self.inventories.values():
            holding = [name for name, each in inventories.items() if partition in each.digests]
            if not holding:
                continue
            name = min(holding, key=partial(self._unfit, inventories, partition))
            try:
                held = await within(_LISTING_SECONDS, inventories[name].held(partition), self.clock)
            except SOSError as error:
                self._warn(f"cannot list partition {partition} of {name}", error)
                continue
            for id, digest in held.items():
                if digest is not None:
                    copies[id][name] = digest
        for id, digests in copies.items():
            if len(digests) > 1:
                await self._agree(id, digests)

    async def _agree(self, id: str, digests: Mapping[str, BlobDigest]) -> None:
        # Different bytes under an opaque name are different objects.
        bodies = {(each.size, each.hash) for each in digests.values() if not each.is_tombstone}
        if len(bodies) > 1 and ids.algorithm(id) is None:
            return
        kept = alive(digests)
        targets = [
            name
            for name in sorted(lacking(digests))
            # Where an object is a tombstone in its group, metadata alone does not bring it back.
            if name in self.writable and not (kept and digests[name].is_tombstone)
        ]
        if not targets:
            return
        if self.dry_run:
            for name in targets:
                self.report.note(f"update the metadata of {id} on {name}")
            return
        try:
            wanted = await merged(self._stores, sources(digests), id, self.clock)
        except SOSError as error:
            self._warn(f"cannot read the metadata of {id}", error)
            self.summary.failed += 1
            return
        for name in targets:
            try:
                if await send(self._stores[name], id, digests[name].version, wanted, self.clock):
                    self.summary.settled += 1
                    self.report.note(f"updated the metadata of {id} on {name}")
            except SOSError as error:
                self._warn(f"cannot update the metadata of {id} on {name}", error)
                self.summary.failed += 1

    def _warn(self, what: str, error: SOSError) -> None:
        self._failed = True
        self.report.warn(f"{what}: {error}")
