"""One garbage collection over all groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from attrs import define, field, frozen
from twisted.internet.task import deferLater

from sos.aio.gather import for_each, together, within
from sos.aio.threads import RunInThread
from sos.collection.garbage import Limits, is_expired, is_garbage, is_object, is_old_tombstone
from sos.collection.named_chunks import NamedChunks
from sos.collection.summary import SILENT, Report, Summary
from sos.errors import Conflict, Deleted, NotFound, SOSError, Unavailable
from sos.interfaces import Groups, IReplicaStore, Member, StoreStatus
from sos.model import ids, manifest
from sos.model.digest import BlobDigest
from sos.model.manifest import MARK
from sos.model.merge import MAX_SKEW_SECONDS, tombstone
from sos.monitoring.server_health import ask, described_twins, ids_of, twins
from sos.replication.leases import Leases

# Timeouts, in seconds: of a status, of the digests of all partitions, to list a partition, to read
# a manifest, and to remove a copy.
_STATUS_SECONDS = 30.0
_DIGESTS_SECONDS = 600.0
_LISTING_SECONDS = 120.0
_READ_SECONDS = 60.0
_DROP_SECONDS = 30.0
# Partitions that are listed concurrently, manifests that are read for each, and copies that are
# removed for each.
_PARTITIONS, _READS, _DROPS = 4, 8, 8
# Delays before another try to get the leases, which anti-entropy passes hold for a while.
_LEASE_DELAYS = (5.0, 10.0, 20.0, 40.0)

#: The copies of one blob, by server.
_Copies = Mapping[str, BlobDigest]


async def collect(
    groups: Groups,
    limits: Limits,
    clock: Any,
    run_in_thread: RunInThread,
    now: Callable[[], float],
    report: Report = SILENT,
    dry_run: bool = False,
) -> Summary:
    """Remove what no object of *groups* needs any more.

    :param groups: all groups: a chunk can be in another group than its object.
    :param clock: a reactor, for timeouts.
    :param now: returns the time in seconds since the epoch.
    :param dry_run: only report, and remove nothing.
    """
    summary = Summary()
    collection = _Collection(groups, limits, clock, run_in_thread, now, report, dry_run, summary)
    try:
        await collection.run()
    except SOSError as error:
        summary.refused = str(error)
    return summary


#: What is removed: objects that have expired, chunks that no manifest names, old tombstones.
_EXPIRED, _CHUNK, _TOMBSTONE = "expired object", "chunk", "tombstone"


@frozen
class _Doomed:
    """A blob that is to be removed, and its *copies*; *kind* is one of the above."""

    id: str
    copies: _Copies
    kind: str


@define
class _Collection:
    """A collection; see :func:`collect`."""

    groups: Groups
    limits: Limits
    clock: Any
    run_in_thread: RunInThread
    now: Callable[[], float]
    report: Report
    dry_run: bool
    summary: Summary
    _members: dict[str, Member] = field(init=False)
    _leases: dict[str, Leases] = field(init=False, factory=dict)
    _partitions: dict[str, list[str]] = field(init=False, factory=dict)
    _named: NamedChunks = field(init=False, factory=NamedChunks)
    _begun: float = field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self._members = {
            member.name: member for members in self.groups.values() for member in members
        }

    async def run(self) -> None:
        """Mark and sweep.  Raises SOSError as soon as anything is in doubt."""
        try:
            await self._check_servers()
            # While this holds the leases nobody else removes copies, so no manifest can move
            # from a server that has yet to be listed to one that has been.
            await self._take_leases()
            self._begun = self.now()
            await together(self._list_partitions(each) for each in self._members.values())
            self.summary.partitions = len(self._partitions)
            await for_each(sorted(self._partitions), self._mark, _PARTITIONS)
            await self._confirm()
            self.summary.chunks = len(self._named)
            dirty: list[str] = []
            places = sorted({*self._partitions, *self._named.partitions()})
            await for_each(places, lambda each: self._search(each, dirty), _PARTITIONS)
            if dirty:
                await self._confirm()
            await for_each(dirty, self._sweep, _PARTITIONS)
        finally:
            self._named.close()
            await together(each.release() for each in self._leases.values())

    # The servers.

    async def _check_servers(self) -> None:
        """Raise Unavailable unless all servers answer, and agree on the time and the cluster."""
        statuses = await self._statuses()
        for name, answer in statuses.items():
            skew = 0.0 if answer.time is None else answer.time - self.now()
            if abs(skew) > MAX_SKEW_SECONDS:
                raise Unavailable(f"the clock of {name} differs by {skew:.0f} s from the one here")
            if answer.others:
                raise Conflict(str(answer.others[0]))
        for names in twins(ids_of(statuses)):
            raise Conflict(described_twins(names))

    async def _statuses(self) -> dict[str, StoreStatus]:
        """Return the status of each server; raise Unavailable if one does not answer."""
        found = {}
        for name, answer in (await ask(self.groups, _STATUS_SECONDS, self.clock)).items():
            if not isinstance(answer, StoreStatus):
                raise Unavailable(f"{name} does not answer: {answer}")
            found[name] = answer
        return found

    async def _take_leases(self) -> None:
        if self.dry_run:
            return
        for group, members in self.groups.items():
            stores = {each.name: each.store for each in members if not each.readonly}
            for delay in (*_LEASE_DELAYS, None):
                self._leases[group] = Leases(stores, self.clock)
                try:
                    await self._leases[group].tokens()
                    break
                except Conflict:
                    if delay is None:
                        raise
                    await deferLater(self.clock, delay)

    async def _confirm(self) -> None:
        """Raise SOSError if a manifest may have been missed.

        It can have moved if a lease was lost.  Servers do not list blobs that they cannot read.
        """
        for leases in self._leases.values():
            await leases.confirm()
        for name, answer in (await self._statuses()).items():
            if (answer.lost or 0) > len(answer.lost_ids):
                raise Unavailable(f"{name} has lost {answer.lost} blobs, more than it lists")
            for id in answer.lost_ids:
                if id not in await self._listed(ids.partition(id)):
                    raise Unavailable(
                        f"{name} has lost {id}, and no other server has it: upload it again"
                    )

    async def _list_partitions(self, member: Member) -> None:
        try:
            found = await self._within(_DIGESTS_SECONDS, member.store.digests())
        except NotFound:
            raise Unavailable(f"{member.name} is too old to say what it holds") from None
        for partition in found:
            self._partitions.setdefault(partition, []).append(member.name)

    # Mark.

    async def _mark(self, partition: str) -> None:
        for name in self._partitions[partition]:
            store = self._members[name].store
            held = await self._within(_LISTING_SECONDS, store.blob_digests(partition))
            manifests = iter([id for id, copy in held.items() if copy.is_manifest])
            await together(self._read_all(store, manifests) for _ in range(_READS))
        self.summary.marked += 1
        self.report.progress(self.summary)

    async def _read_all(self, store: IReplicaStore, manifests: Iterator[str]) -> None:
        for id in manifests:
            chunks = await self._within(_READ_SECONDS, self._read(store, id))
            self.summary.manifests += 1
            await self.run_in_thread(self._named.add, id, chunks)

    async def _read(self, store: IReplicaStore, id: str) -> set[str]:
        """Return the chunks of the object *id*, none if it was deleted or stored whole since."""
        try:
            blob = await store.read(id)
        except Deleted:
            return set()
        body = blob.body
        if MARK not in blob.info.metadata:
            if not isinstance(body, bytes):
                await body.aclose()
            return set()
        if not isinstance(body, bytes):
            async with aclosing(body):
                body = b"".join([piece async for piece in body])
        found = await self.run_in_thread(manifest.parse, body, id, blob.info.metadata[MARK])
        return {chunk.id for chunk in found.chunks}

    # Sweep.

    async def _search(self, partition: str, dirty: list[str]) -> None:
        """Search *partition* for garbage, and for chunks that are missing.

        :raises Unavailable: if a chunk is on no server.  The object may be broken, or there are
            other servers, whose objects need the chunks here.
        """
        found = await self._listed(partition)
        here = {id for id, copies in found.items() if not _is_deleted(copies)}
        named = await self.run_in_thread(self._named.of, partition)
        for chunk in named.keys() - here:
            raise Unavailable(
                f"the chunk {chunk} of the object {named[chunk]} is on none of the servers: either "
                "servers are missing from the configuration, or the object is broken; upload it "
                "again or delete it"
            )
        doomed = await self._doomed(partition, found)
        kinds = Counter(each.kind for each in doomed)
        objects = sum(is_object(copies.values()) for copies in found.values())
        self.summary.objects += objects - kinds[_EXPIRED]
        self.summary.expired += kinds[_EXPIRED]
        self.summary.garbage += kinds[_CHUNK]
        if self.dry_run:
            self.summary.tombstones += kinds[_TOMBSTONE]
            for each in doomed:
                if each.kind != _TOMBSTONE:
                    self.report.note(
                        f"remove the {each.kind} {each.id} from {', '.join(each.copies)}"
                    )
        elif doomed:
            dirty.append(partition)
        self.summary.swept += 1
        self.report.progress(self.summary)

    async def _sweep(self, partition: str) -> None:
        async def remove(each: _Doomed) -> None:
            removed = await self._remove(each)
            if each.kind == _TOMBSTONE:
                self.summary.tombstones += 1
            elif removed:
                self.report.note(f"removed the {each.kind} {each.id} from {', '.join(removed)}")

        await for_each(await self._doomed(partition, await self._listed(partition)), remove, _DROPS)
        self.report.progress(self.summary)

    async def _listed(self, partition: str) -> dict[str, dict[str, BlobDigest]]:
        """Return the copies of all blobs in *partition*, by id and server."""
        found: dict[str, dict[str, BlobDigest]] = {}
        for name, member in self._members.items():
            held = await self._within(_LISTING_SECONDS, member.store.blob_digests(partition))
            for id, copy in held.items():
                found.setdefault(id, {})[name] = copy
        return found

    async def _doomed(self, partition: str, found: Mapping[str, _Copies]) -> list[_Doomed]:
        """Return what is to be removed of *found*.

        A blob that is on a read-only server stays: it would be copied from there again.
        """
        named = await self.run_in_thread(self._named.of, partition)
        doomed: list[_Doomed] = []
        for id, copies in found.items():
            if any(self._members[name].readonly for name in copies):
                continue
            digests = copies.values()
            if is_old_tombstone(digests, self.limits, self._begun):
                doomed.append(_Doomed(id, copies, _TOMBSTONE))
            elif id in named:
                continue
            elif is_expired(digests, self.limits, self._begun):
                doomed.append(_Doomed(id, copies, _EXPIRED))
            elif is_garbage(id, digests, self.limits, self._begun):
                doomed.append(_Doomed(id, copies, _CHUNK))
        return doomed

    async def _remove(self, doomed: _Doomed) -> list[str]:
        """Remove those copies that have not changed; return the servers that had them."""
        removed = []
        for name, copy in doomed.copies.items():
            if doomed.kind == _CHUNK and (copy.is_tombstone or copy.times.part is None):
                continue
            token = await self._token(name)
            try:
                await self._within(_DROP_SECONDS, self._drop(name, doomed.id, copy, token))
            except Conflict:
                await self._token(name)  # raises if the lease is lost
                self.summary.kept += 1
                continue
            removed.append(name)
            if not copy.is_tombstone:
                self.summary.copies += 1
                self.summary.bytes += copy.size
        return removed

    async def _drop(self, name: str, id: str, copy: BlobDigest, token: str) -> None:
        """Remove a copy; leave the tombstone if its object had been deleted before."""
        store = self._members[name].store
        await store.drop(id, token, copy)
        if copy.times.deleted is not None and not copy.is_tombstone:
            await store.reconcile(id, tombstone(copy.times.deleted))

    async def _token(self, name: str) -> str:
        """Return the lease of the server *name*; raise as long as any group's are not valid."""
        tokens: dict[str, str] = {}
        for leases in self._leases.values():
            tokens.update(await leases.tokens())
        return tokens[name]

    async def _within(self, seconds: float, work: Any) -> Any:
        return await within(seconds, work, self.clock)


def _is_deleted(copies: _Copies) -> bool:
    return all(copy.is_tombstone for copy in copies.values())
