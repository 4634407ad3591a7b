"""Objects in chunks: whether the servers still have every chunk, all of them together.

That each blob has its copies says nothing of a blob that no server has any more.
What is missed then is told by the manifests alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from attrs import define, field, frozen

from sos.aio.gather import together, within
from sos.errors import NotFound, SOSError
from sos.interfaces import Groups, IReplicaStore
from sos.model import ids, manifest
from sos.model.manifest import MARK
from sos.model.placement import rank
from sos.model.plan import Held
from sos.replication.inventory import Inventory
from sos.replication.pass_state import Memory, Place
from sos.replication.summary import Report, Summary

#: Chunks that are looked for together: so many have to be in memory.
BATCH = 100_000
#: Chunks, and partitions with manifests, of a pass that does not look at all at once.
TURN = 10_000
TURN_PARTITIONS = 256

# Partitions that are looked into at once.
_AT_ONCE = 8
# Seconds that a server has to list a partition, to give a manifest, and to tell of a chunk.
_LISTING_SECONDS = 120.0
_READ_SECONDS = 60.0
_STAT_SECONDS = 15.0
# Blobs that are listed in the time in which one is asked for.
_LISTED_FOR_ONE = 100

# What each server has told that it holds, by group and name.
_Stock = Mapping[str, Mapping[str, Inventory]]


@frozen
class _Object:
    """An object as its manifest describes it."""

    id: str
    place: Place
    chunks: tuple[str, ...]


@define
class ObjectCheck:
    """Looks for the chunks of objects.

    While no server holds anything else than it did, nothing is looked for again
    before an hour has passed.

    :param groups: all servers there are: a chunk can be in another group than its object.
    :param stock: what is to be gone through; a server that is not in it has not answered.
    """

    groups: Groups
    stock: _Stock
    memory: Memory
    clock: Any
    summary: Summary
    report: Report
    _stores: dict[str, IReplicaStore] = field(init=False)
    _silent: set[str] = field(init=False, factory=set)

    def __attrs_post_init__(self) -> None:
        self._stores = {
            member.name: member.store for members in self.groups.values() for member in members
        }
        # Whom the pass was told nothing by is not waited for once more.
        self._silent.update(self.summary.unlisted)

    async def run(self) -> None:
        """Go through the manifests, as far as it is their turn, and count what is broken."""
        now = self.clock.seconds()
        known = {
            name: each.digests for stock in self.stock.values() for name, each in stock.items()
        }
        objects = self.memory.objects
        if not objects.is_settled(known, now):
            if not objects.remaining:
                objects.begin(known, self._places())
            most = TURN_PARTITIONS if self.memory.in_turn else len(objects.remaining)
            await self._go_through(objects.turn(most))
            if not (objects.remaining or self._silent):
                objects.settle(known, now)
        self.summary.broken += sum(map(len, objects.broken.values()))

    def _places(self) -> list[Place]:
        return [
            (group, partition)
            for group, stock in self.stock.items()
            for partition in sorted(set().union(*(each.digests for each in stock.values())))
        ]

    async def _go_through(self, places: Iterator[Place]) -> None:
        """Look for the chunks of all objects at *places*, so many at a time."""
        most = TURN if self.memory.in_turn else BATCH
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
            more = bool(looked) and not self.memory.in_turn

    async def _judge(self, objects: list[_Object], places: Iterable[Place]) -> None:
        gone = await self._gone({chunk for each in objects for chunk in each.chunks})
        found: dict[Place, set[str]] = {place: set() for place in places}
        for each in objects:
            lacking = [chunk for chunk in each.chunks if chunk in gone]
            if lacking:
                found[each.place].add(each.id)
                if each.id not in self.memory.objects.broken.get(each.place, ()):
                    self.report.warn(
                        f"{each.id} is broken: of its {len(each.chunks)} chunks no server has "
                        f"{len(lacking)}, {lacking[0]} is the first; upload it again"
                    )
        for place, broken in found.items():
            self.memory.objects.note(place, broken, sure=not self._silent)

    # Manifests.

    async def _objects(self, place: Place) -> list[_Object]:
        """Return the objects in chunks at *place*."""
        group, partition = place
        holding = {
            name: each
            for name, each in self.stock.get(group, {}).items()
            if partition in each.digests and name not in self._silent
        }
        if not all(each.drops for each in holding.values()):
            # Of the original system: others tell what it does not, of what was just copied too.
            ours = self.stock[group].items()
            holding |= {
                name: each for name, each in ours if each.drops and name not in self._silent
            }
        held: dict[str, Held] = {}
        seen: set[Hashable] = set()
        for name, each in holding.items():
            if each.digests.get(partition) in seen:
                continue  # it holds the same as another
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
        """Return the object *id*, unless it is not in chunks."""
        told = [each[id] for each in held.values() if id in each]
        kinds = {"" if each is None else each.version[:1] for each in told}
        if "0" in kinds:
            return []
        names = [name for name, each in held.items() if id in each]
        names += [name for name in holding if name not in held]
        for name in names:
            store = self._stores[name]
            try:
                if "1" not in kinds:  # a server of the original system does not tell
                    info = await within(_STAT_SECONDS, store.stat(id), self.clock)
                    if MARK not in info.metadata:
                        return []
                chunks = await within(_READ_SECONDS, _chunks(store, id), self.clock)
                return [_Object(id, place, chunks)] if chunks else []
            except SOSError as error:
                self.report.warn(f"the manifest of {id} from {name}: {error}")
        self.summary.failed += 1
        return []

    # Chunks.

    async def _gone(self, chunks: Iterable[str]) -> set[str]:
        """Return those of *chunks* that no server has, as each has said twice."""
        by_partition = defaultdict(set)
        for chunk in chunks:
            by_partition[ids.partition(chunk)].add(chunk)
        remaining = iter(by_partition.items())
        gone: set[str] = set()

        async def worker() -> None:
            for partition, wanted in remaining:
                # One that is moved meanwhile can be missed by who asks one after the other.
                missing = await self._missing(partition, wanted, lists=True)
                if missing:
                    missing = await self._missing(partition, missing, lists=False)
                if missing and not self._silent:
                    gone.update(missing)

        await together(worker() for _ in range(_AT_ONCE))
        # Who has fallen silent since may have had those that others do not have.
        return set() if self._silent else gone

    async def _missing(self, partition: str, wanted: set[str], lists: bool) -> set[str]:
        """Return those of *wanted* that no server has which answers."""
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
        """Return those of *wanted* that a server has."""
        stock = self.stock.get(group, {}).get(name)
        count = 0 if stock is None else stock.count(partition)
        if lists and count <= _LISTED_FOR_ONE * len(wanted):
            listing = self._stores[name].blob_digests(partition)
            try:
                return wanted & (await within(_LISTING_SECONDS, listing, self.clock)).keys()
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
        """Ask a server nothing more in this pass: what it has cannot be told."""
        if name not in self._silent:
            self._silent.add(name)
            self.summary.unlisted.append(name)
            self.report.warn(f"whether all chunks are there: {error}")


async def _chunks(store: IReplicaStore, id: str) -> tuple[str, ...]:
    """Return the chunks of the object *id*, none if it is not in chunks."""
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
