"""The check that some server still has each chunk of each object.

A comparison of servers cannot find a blob that all of them have lost.  Manifests can.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from attrs import define, field, frozen

from sos.aio.gather import together, within
from sos.errors import Deleted, NotFound, SOSError
from sos.interfaces import Groups, IReplicaStore
from sos.model import ids, manifest
from sos.model.manifest import MARK
from sos.model.placement import rank
from sos.replication.inventory import Inventory
from sos.replication.metadata import alive
from sos.replication.pass_state import PassState, Place
from sos.replication.plan import Held
from sos.replication.summary import Report, Summary

#: Chunks that are looked for together; this bounds the memory that the check takes.
BATCH = 100_000
#: Most chunks, and partitions, that a pass checks in one turn.
TURN = 10_000
TURN_PARTITIONS = 256

# Partitions that are checked concurrently.
_AT_ONCE = 8
# Timeouts, in seconds: to list a partition, to read a manifest, and to stat a chunk.
_LISTING_SECONDS = 120.0
_READ_SECONDS = 60.0
_STAT_SECONDS = 15.0
# Blobs that a listing returns in the time that one stat takes.
_LISTED_FOR_ONE = 100

# Inventories of the servers, by group and name.
_Inventories = Mapping[str, Mapping[str, Inventory]]


@frozen
class _Object:
    """An object in chunks, as its manifest describes it."""

    id: str
    place: Place
    chunks: tuple[str, ...]


@define
class ObjectCheck:
    """Search for the chunks of all objects.

    While no digest changes, the search is repeated only once an hour.

    :param groups: all groups: a chunk can be in another group than its object.
    :param inventories: inventories of the servers that answered, whose objects to check.
    """

    groups: Groups
    inventories: _Inventories
    state: PassState
    clock: Any
    summary: Summary
    report: Report
    _stores: dict[str, IReplicaStore] = field(init=False)
    _silent: set[str] = field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self._stores = {
            member.name: member.store for members in self.groups.values() for member in members
        }
        # Do not wait again for servers that did not answer earlier in the pass.
        self._silent.update(self.summary.unlisted)

    async def run(self) -> None:
        """Check as many manifests as this pass's turn allows, and count the broken objects."""
        now = self.clock.seconds()
        known = {
            name: each.digests
            for inventories in self.inventories.values()
            for name, each in inventories.items()
        }
        objects = self.state.objects
        if not objects.is_finished(known, now):
            if not objects.remaining:
                objects.begin(known, self._places())
            most = TURN_PARTITIONS if self.state.incremental else len(objects.remaining)
            await self._go_through(objects.take(most))
            if not (objects.remaining or self._silent):
                objects.finish(known, now)
        self.summary.broken += sum(map(len, objects.broken.values()))

    def _places(self) -> list[Place]:
        return [
            (group, partition)
            for group, inventories in self.inventories.items()
            for partition in sorted(set().union(*(each.digests for each in inventories.values())))
        ]

    async def _go_through(self, places: Iterator[Place]) -> None:
        """Look for the chunks of all objects at *places*: in batches, or one batch per turn."""
        most = TURN if self.state.incremental else BATCH
        more = True
        while more:
            objects: list[_Object] = []
            looked: list[Place] = []

            async def worker(
                objects: list[_Object] = objects, looked: list[Place] = looked
            ) -> None:
                while sum(len(each.chunks) for each in objects) < most:
                    place = next(places, None)
                    if place is None:
                        return
                    looked.append(place)
                    objects += await self._objects(place)

            await together(worker() for _ in range(_AT_ONCE))
            await self._judge(objects, looked)
            more = bool(looked) and not self.state.incremental

    async def _judge(self, objects: list[_Object], places: Iterable[Place]) -> None:
        gone = await self._gone({chunk for each in objects for chunk in each.chunks})
        found: dict[Place, set[str]] = {place: set() for place in places}
        for each in objects:
            lacking = [chunk for chunk in each.chunks if chunk in gone]
            if lacking:
                found[each.place].add(each.id)
                if each.id not in self.state.objects.broken.get(each.place, ()):
                    self.report.warn(
                        f"{each.id} is broken: no server has {len(lacking)} of its "
                        f"{len(each.chunks)} chunks, the first is {lacking[0]}; upload it again"
                    )
        for place, broken in found.items():
            self.state.objects.note(place, broken, sure=not self._silent)

    # Manifests.

    async def _objects(self, place: Place) -> list[_Object]:
        """Return the objects at *place* that are in chunks."""
        group, partition = place
        holding = {
            name: each
            for name, each in self.inventories.get(group, {}).items()
            if partition in each.digests and name not in self._silent
        }
        if not all(each.drops for each in holding.values()):
            # A server of the original system does not say which blobs are manifests.  Ask all
            # others as well: they do, and may have got a copy just now.
            ours = self.inventories[group].items()
            holding |= {
                name: each for name, each in ours if each.drops and name not in self._silent
            }
        held: dict[str, Held] = {}
        seen: set[Hashable] = set()
        for name, each in holding.items():
            if each.digests.get(partition) in seen:
                continue  # it holds the same blobs as another server
            listing = within(_LISTING_SECONDS, each.held(partition), self.clock)
            try:
                held[name] = await listing
            except SOSError as error:
                self._failed(name, error)
            else:
                seen.add(each.digests.get(partition))
        found = []
        for id in sorted(set().union(*held.values())):
            if ids.algorithm(id) is not None:
                found += await self._object(id, place, held, holding)
        return found

    async def _object(
        self, id: str, place: Place, held: Mapping[str, Held], holding: Iterable[str]
    ) -> list[_Object]:
        """Return the object *id* in a list, empty if it is not in chunks or cannot be read."""
        copies = {name: each[id] for name, each in held.items() if id in each}
        digests = {name: copy for name, copy in copies.items() if copy is not None}
        kept = alive(digests)
        if not kept and len(digests) == len(copies):  # it was deleted
            return []
        kinds = {"" if copy is None else copy.version[:1] for copy in copies.values()}
        if "0" in kinds:
            return []
        names = [name for name in copies if name in kept or name not in digests]
        names += [name for name in holding if name not in held]
        for name in names:
            store = self._stores[name]
            try:
                if "1" not in kinds:  # only servers of the original system listed it
                    info = await within(_STAT_SECONDS, store.stat(id), self.clock)
                    if MARK not in info.metadata:
                        return []
                chunks = await within(_READ_SECONDS, _chunks(store, id), self.clock)
                return [_Object(id, place, chunks)] if chunks else []
            except Deleted:
                return []
            except SOSError as error:
                self.report.warn(f"cannot read the manifest of {id} from {name}: {error}")
        self.summary.failed += 1
        return []

    # Chunks.

    async def _gone(self, chunks: Iterable[str]) -> set[str]:
        """Return the *chunks* that no server has, asked twice; none if one did not answer."""
        by_partition = defaultdict(set)
        for chunk in chunks:
            by_partition[ids.partition(chunk)].add(chunk)
        remaining = iter(by_partition.items())
        gone: set[str] = set()

        async def worker() -> None:
            for partition, wanted in remaining:
                # The servers are asked in sequence: a chunk that moves meanwhile is missed.
                missing = await self._missing(partition, wanted, lists=True)
                if missing:
                    missing = await self._missing(partition, missing, lists=False)
                if missing and not self._silent:
                    gone.update(missing)

        await together(worker() for _ in range(_AT_ONCE))
        # A server that stopped answering since may have chunks that the others lack.
        return set() if self._silent else gone

    async def _missing(self, partition: str, wanted: set[str], lists: bool) -> set[str]:
        """Return the chunks of *wanted* that no answering server has.

        :param lists: whether to list the partition where that is faster.
        """
        missing = set(wanted)
        for group, name in self._order(partition):
            if not missing or name in self._silent:
                continue
            try:
                missing -= await self._had(group, name, partition, missing, lists)
            except SOSError as error:
                self._failed(name, error)
        return missing

    def _order(self, partition: str) -> Iterator[tuple[str, str]]:
        for group, members in self.groups.items():
            weights = {each.name: each.weight for each in members}
            for name in rank(weights, partition):
                yield group, name

    async def _had(
        self, group: str, name: str, partition: str, wanted: set[str], lists: bool
    ) -> set[str]:
        """Return the chunks of *wanted* that the server *name* has."""
        inventories = self.inventories.get(group, {}).get(name)
        count = 0 if inventories is None else inventories.count(partition)
        if lists and count <= _LISTED_FOR_ONE * len(wanted):
            listing = self._stores[name].blob_digests(partition)
            try:
                found = await within(_LISTING_SECONDS, listing, self.clock)
                return {id for id in wanted & found.keys() if not found[id].is_tombstone}
            except NotFound:  # of the original system
                pass
        had = set()
        for chunk in wanted:
            try:
                await within(_STAT_SECONDS, self._stores[name].stat(chunk), self.clock)
            except NotFound:
                continue
            had.add(chunk)
        return had

    def _failed(self, name: str, error: SOSError) -> None:
        """Skip a server for the rest of the check, since it is not known what it holds."""
        if name not in self._silent:
            self._silent.add(name)
            self.summary.unlisted.append(name)
            self.report.warn(f"cannot check whether all chunks exist: {error}")


async def _chunks(store: IReplicaStore, id: str) -> tuple[str, ...]:
    """Return the ids of the chunks of the object *id*, none if it is not in chunks."""
    blob = await store.read(id)
    body = blob.body
    if MARK not in blob.info.metadata:
        if not isinstance(body, bytes):
            await body.aclose()
        return ()
    if not isinstance(body, bytes):
        async with aclosing(body):
            body = b"".join([piece async for piece in body])
    found = manifest.parse(body, id, blob.info.metadata[MARK])
    return tuple({chunk.id: None for chunk in found.chunks})
