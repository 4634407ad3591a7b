"""The replicated store: it keeps each blob on several servers of a group."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial, reduce
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from sos.aio.gather import together, within
from sos.aio.limited_log import LimitedLog
from sos.aio.tasks import unwanted
from sos.aio.threads import RunInThread
from sos.aio.timeouts import Deadlines
from sos.errors import Conflict, Deleted, NotFound, SOSError, Unavailable
from sos.http.client.bodies import SlowReader
from sos.interfaces import (
    Blob,
    BlobInfo,
    Groups,
    IBlobWriter,
    Pieces,
    Span,
    StoreStatus,
)
from sos.model import ids
from sos.model.digest import BodyDigest
from sos.model.expiry import expired, has_expired
from sos.model.manifest import MARK
from sos.model.merge import admitted, deleted, is_outdated, merge, times
from sos.model.metadata import (
    EMPTY,
    EXPIRES_AT,
    PART_AT,
    STORED_AT,
    Metadata,
    is_tombstone,
    ticks,
    timed,
    with_kind_of,
)
from sos.model.upload_clock import UploadClock
from sos.monitoring.server_health import ServerHealth
from sos.stores.remote.body import RemoteBody
from sos.stores.replicated.background import Background
from sos.stores.replicated.deletion import Deletion
from sos.stores.replicated.hedge_delay import HedgeDelay
from sos.stores.replicated.hedged_read import Found, HedgedRead
from sos.stores.replicated.location_cache import LocationCache
from sos.stores.replicated.peer import SLOW_SECONDS, Peer
from sos.stores.replicated.quorum_write import QuorumWrite
from sos.stores.replicated.server_set import Members
from sos.stores.spool import IPlacingStore, Spooled, SpooledWriter
from sos.transfer import copy, one_piece

T = TypeVar("T", Blob, BlobInfo)

# Timeout for an object's metadata, for which a copy waits that itself is slow after SLOW_SECONDS.
_METADATA_SECONDS = SLOW_SECONDS / 2
# Resolution of hedge delays, in seconds.
_TICK_SECONDS = 0.01

# Not limited: each repair is logged once, since the copy is not missing after it.
_repairs = Logger()
_log = LimitedLog(_repairs)


@frozen
class CopyCounts:
    """Numbers of copies that uploads make.

    :param acknowledged: the write quorum: copies made before an upload is acknowledged.
    :param wanted: size of the replica set: copies of each blob in its group.
    """

    acknowledged: int = 1
    wanted: int = 2


@implementer(IPlacingStore)
class ReplicatedStore:
    """Store that keeps each blob on several servers of one group.

    Copies beyond the write quorum are made in the background, up to a limit on their
    number and bytes.  Replication makes the others.

    :param groups: the servers by group; at least one server in all.
    :param algorithm: the hash of new content ids.
    :param locations: cache of the locations of blobs outside of their replica sets; by
        default a new one.
    :param hints: set to which the store adds the groups and partitions in which a copy is
        missing or misplaced.
    :param uploads: the clock that dates the uploads.
    """

    def __init__(
        self,
        groups: Groups,
        run_in_thread: RunInThread,
        clock: Any,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        copy_counts: CopyCounts = CopyCounts(),
        locations: LocationCache | None = None,
        hints: set[tuple[str, str]] | None = None,
        uploads: UploadClock | None = None,
    ) -> None:
        self.name = "replicated"
        self._uploads = uploads or UploadClock()
        self._run_in_thread = run_in_thread
        self._clock = clock
        self._algorithm = algorithm
        self._copy_counts = copy_counts
        self._hedge_delay = HedgeDelay()
        self._deadlines = Deadlines(clock, _TICK_SECONDS)
        self._members = Members(groups, {}, clock)
        self._locations = locations or LocationCache()
        self._background = Background()
        self._hints = set() if hints is None else hints

    def configure(self, groups: Groups) -> None:
        """Replace the groups by *groups*; servers in both keep their health records."""
        before = self._members
        self._members = Members(groups, before.peers, self._clock)
        before.stop(staying=self._members.peers)

    def stop(self) -> None:
        """Stop the background copies and the probes of servers."""
        self._members.stop()
        self._background.stop()

    # Reading.

    async def stat(self, id: str) -> BlobInfo:
        found = await self._hedged_read(id, lambda peer: peer.store.stat(id), lambda info: None)
        return found.answer

    async def read(self, id: str, span: Span | None = None) -> Blob:
        found = await self._hedged_read(id, lambda peer: peer.store.read(id, span), _discard)
        blob = found.answer
        if isinstance(blob.body, RemoteBody):
            serving = [found.peer]
            blob.body.failed = lambda error: serving[-1].failed(error)
            if blob.info.size is not None:
                part = span or (0, blob.info.size)
                blob.body.resume = partial(self._resume, id, part, serving)
        return blob

    async def _hedged_read(
        self,
        id: str,
        ask: Callable[[Peer], Coroutine[Any, Any, T]],
        discard: Callable[[T], None],
        without: Sequence[Peer] = (),
    ) -> Found[T]:
        known = self._peer(self._locations.known(id), without)
        hint = partial(self._shared_location, id, without)

        def look() -> Deferred[Found[T]]:
            groups = self._members.readers(id, known, without)
            now = self._uploads.time_of_day
            return HedgedRead(
                groups, ask, hint, discard, self._hedge_delay, self._deadlines, now
            ).run(id)

        try:
            try:
                found = await look()
            except NotFound:
                if len(self._members.peers) == 1:
                    raise
                # Servers are asked one after the other.  Meanwhile the blob may have moved
                # from one not asked yet to one asked before: ask all again.
                found = await look()
        except NotFound:
            await self._members.look()
            unknown = self._members.unknown()
            if unknown:
                raise Unavailable(
                    f"no known server has the blob {id}, but another API server also uses "
                    f"{', '.join(unknown)}; compare their sos.conf with the one here"
                ) from None
            if not without:
                self._locations.forget(id)
            raise
        if found.missed:
            self._locations.remember(id, found.peer.name)
            self._repair(id, found.peer, found.missed)
        return found

    async def _shared_location(self, id: str, without: Sequence[Peer]) -> Peer | None:
        """Return the server on which the shared cache locates *id*, if it can be asked."""
        return self._peer(await self._locations.shared(id), without)

    def _peer(self, name: str | None, without: Sequence[Peer]) -> Peer | None:
        """Return the server called *name*, None if it is unknown or in *without*."""
        peer = self._members.peers.get(name or "")
        return None if peer in without else peer

    async def _resume(
        self, id: str, part: Span, broken: list[Peer], received: int, error: Unavailable
    ) -> Pieces:
        """Resume: open the rest of *part*, after the bytes already *received*.

        Skip servers that broke off, except when a slow reader was the cause.
        """
        start, stop = part
        if isinstance(error, SlowReader):
            broken.pop()
        else:
            format = "resuming a read from another server, id={id}: {error}"
            _log.emit(LogLevel.warn, format, broken[-1].name, id=id, error=error)
        rest = start + received, stop
        try:
            found = await self._hedged_read(
                id, lambda peer: peer.store.read(id, rest), _discard, broken
            )
        except NotFound:  # on the other servers; the one that broke off has the blob
            raise error from None
        broken.append(found.peer)
        body = found.answer.body
        return one_piece(body) if isinstance(body, bytes) else body

    def _repair(self, id: str, source: Peer, missed: Sequence[Peer]) -> None:
        """Start read repair: copy *id* from *source* to the replicas in its group that lack it."""
        for peer in self._members.holders(source.group, id)[: self._copy_counts.wanted]:
            if peer not in missed:
                continue
            if peer.takes_blobs and self._background.admits(0):
                work = ensureDeferred(self._copy(id, source, peer))
                work.addErrback(lambda failure: failure.trap(CancelledError))
                self._background.add(0, work, work.cancel)
            else:
                self._hints.add((peer.group, ids.partition(id)))

    async def _copy(self, id: str, source: Peer, target: Peer) -> None:
        try:
            blob = await source.attempt(source.store.read(id))
            if isinstance(blob.body, RemoteBody):
                blob.body.failed = source.failed
            await copy(blob, target.store)
        except Conflict as error:
            format = "read repair found another body with the same id, id={id}, to={to}: {error}"
            _log.emit(LogLevel.warn, format, id, id=id, to=target.name, error=error)
        except SOSError as error:
            format = "read repair failed, id={id}, to={to}: {error}"
            _log.emit(LogLevel.info, format, target, id=id, to=target.name, error=error)
            self._hints.add((target.group, ids.partition(id)))
        else:
            _repairs.info("read repair copied a blob, id={id}, to={to}", id=id, to=target.name)

    # Writing.

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        digest = BodyDigest(id, self._algorithm, size)
        return SpooledWriter(digest, metadata, self.place, self._run_in_thread)

    async def place(self, whole: Spooled) -> BlobInfo:
        """Store *whole*, and close it once no copy of it is in flight."""
        if EXPIRES_AT in whole.metadata:
            try:
                await self._check_expiry()
            except BaseException:
                whole.close()
                raise
        replica_set = self._members.replica_set(whole.id, self._copy_counts.wanted)
        write = QuorumWrite(
            whole,
            self._members.writers(whole.id),
            self._copy_counts.acknowledged,
            self._copy_counts.wanted,
            replica_set,
            partial(self._metadata_for, whole),
            lambda: self._background.admits(whole.size),
            self._deadlines,
            partial(self._outdated, whole),
        )
        write.ended.addCallback(lambda _: self._placed(whole, replica_set, write.made))
        info = await write.acknowledged
        if not write.ended.called:
            self._background.add(whole.size, write.ended, write.stop)
        if write.made[0] not in replica_set:
            self._locations.remember(whole.id, write.made[0].name)
        return info

    def _outdated(self, whole: Spooled, error: Deleted, made: Sequence[Peer]) -> None:
        """Go on to after a deletion that a server knows of; renew the copies that are *made*.

        Otherwise the deletion would undo an upload that has been acknowledged.
        """
        self._uploads.see(error.metadata)
        name = PART_AT if PART_AT in whole.metadata else STORED_AT
        kept = {key: whole.metadata[key] for key in (EXPIRES_AT, MARK) if key in whole.metadata}
        metadata = {**kept, name: str(ticks(self._uploads()))}
        for peer in made:
            work = ensureDeferred(self._tell(peer, whole.id, metadata))
            work.addErrback(lambda failure: failure.trap(CancelledError))
            self._background.add(0, work, work.cancel)

    async def _metadata_for(self, whole: Spooled, target: Peer) -> Metadata:
        """Return the metadata for a hinted handoff of *whole* to *target*.

        The metadata that was set first wins, so ask the servers that could have the object.
        The target cannot know, and may serve reads before a pass reconciles its metadata.
        """
        if PART_AT in whole.metadata:  # it has no metadata to reconcile
            return whole.metadata

        answers = await together(
            self._stat(peer, whole.id)
            for peer in self._members.possible_replicas(whole.id, target)
            if peer is not target and peer.error is None
        )
        found = [each for each in answers if each is not None]
        if not found:
            return whole.metadata
        known = reduce(merge, found, found[0])
        merged = merge(known, admitted(known, whole.metadata))
        if is_outdated(whole.metadata, merged):
            raise deleted(whole.id, merged)
        return with_kind_of(merged, whole.metadata)

    def _placed(self, whole: Spooled, replica_set: Sequence[Peer], made: Sequence[Peer]) -> None:
        whole.close()
        if not set(replica_set) <= set(made):
            groups = {peer.group for peer in made}
            self._hints.update((group, ids.partition(whole.id)) for group in groups)

    # Keeping and deleting.

    async def renew(self, id: str, name: str = STORED_AT, expires: int | None = None) -> int:
        if expires is not None:
            await self._check_expiry()
        replicas = self._members.replica_set(id, self._copy_counts.wanted)
        await self._members.learn_abilities(replicas)
        answers = await together(self._stat(peer, id) for peer in replicas)
        found = {
            peer: metadata
            for peer, metadata in zip(replicas, answers, strict=True)
            if metadata is not None
        }
        known = reduce(merge, found.values()) if found else EMPTY
        if found and not (times(known).is_object or (name == PART_AT and times(known).has_body)):
            raise deleted(id, known)
        if name == STORED_AT and has_expired(known, self._uploads.time_of_day()):
            raise expired(id)
        renewed = {name: str(ticks(self._uploads()))}
        if expires is not None:
            renewed[EXPIRES_AT] = str(expires)
        told = await together(
            self._tell(peer, id, with_kind_of(renewed, metadata))
            for peer, metadata in found.items()
            if not is_tombstone(metadata)
        )
        if sum(told) < self._copy_counts.acknowledged:
            raise NotFound(f"too few servers have {id}: upload it again")
        return sum(told)

    async def _check_expiry(self) -> None:
        """Raise Conflict if a server is known to keep no expiry: its copies would live for ever."""
        peers = list(self._members.peers.values())
        await self._members.learn_abilities(peers)
        for peer in peers:
            if peer.tombstones is False:
                raise Conflict(
                    f"no object can expire while {peer.name} cannot record that: upgrade it, or "
                    "remove it from the configuration"
                )

    async def _stat(self, peer: Peer, id: str) -> Metadata | None:
        """Return the metadata of a copy, None if there is none or the server does not answer."""
        try:
            asked = peer.attempt(peer.store.stat(id))
            found = timed((await within(_METADATA_SECONDS, asked, self._clock)).metadata, 0)
        except Deleted as error:
            found = error.metadata
        except SOSError:
            return None
        self._uploads.see(found)
        return found

    async def _tell(self, peer: Peer, id: str, metadata: Metadata) -> bool:
        """Send *metadata* of a copy to a server, and return whether it has recorded that."""
        if not (peer.tombstones or PART_AT in metadata):
            return False
        if peer.tombstones is False:
            return True  # such a server does not tell chunks: none is garbage there
        try:
            told = peer.attempt(peer.store.reconcile(id, metadata))
            await within(SLOW_SECONDS, told, self._clock)
        except SOSError:
            return False
        return True

    async def delete(self, id: str, least_age: float = 0.0) -> int:
        """Delete an object; return the number of servers that have recorded it.

        See :meth:`sos.stores.replicated.deletion.Deletion.run`.
        """
        work = Deletion(
            id,
            self._members,
            self._copy_counts.acknowledged,
            self._copy_counts.wanted,
            self._uploads,
            self._clock,
        )
        await work.run(least_age)
        self._hints.update((peer.group, ids.partition(id)) for peer in work.missed)
        self._locations.forget(id)
        return len(work.recorded)

    # All servers together.

    async def status(self) -> StoreStatus:
        """Return a status that is writable if a write quorum of servers takes blobs."""
        peers = self._members.peers.values()
        names = [peer.name for peer in peers if not peer.member.readonly]
        answers = await self._members.answers()
        taking: set[str] = set()
        reasons = []
        for name in names:
            answer = answers[name]
            if isinstance(answer, SOSError):
                reasons.append(str(answer))
            elif answer.refusal is not None:
                reasons.append(f"{name}: {answer.refusal}")
            else:
                taking.add(answer.id or name)
        needed = self._copy_counts.acknowledged
        if len(taking) >= needed:
            return StoreStatus(writable=True)
        summary = f"{len(taking)} of {len(names)} servers take blobs, but an upload needs {needed}"
        return StoreStatus(writable=False, reason="; ".join([summary, *reasons]))

    async def survey(self) -> dict[str, list[ServerHealth]]:
        """Ask all servers for their status, and return the health of each, by group."""
        return await self._members.survey()

    async def look(self) -> list[str]:
        """Ask all servers for their status, and return the errors of :meth:`errors`."""
        answers = (await self._members.answers()).values()
        self._uploads.compare(
            answer.time
            for answer in answers
            if isinstance(answer, StoreStatus) and answer.time is not None
        )
        return self.errors()

    def errors(self) -> list[str]:
        """Return the known problems with the set of servers, such as two names for one store."""
        return self._members.errors()

    @property
    def background(self) -> Background:
        """The copies beyond the write quorum, and read repairs, that are in flight."""
        return self._background


def _discard(blob: Blob) -> None:
    """Close the body of a late answer."""
    if not isinstance(blob.body, bytes):
        ensureDeferred(blob.body.aclose()).addErrback(unwanted)
