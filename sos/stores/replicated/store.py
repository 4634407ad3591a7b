"""A store made of other stores, which keep copies for each other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
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
from sos.errors import Conflict, NotFound, SOSError, Unavailable
from sos.http.client.bodies import HeldUp
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
from sos.model.metadata import EMPTY, NEVER, Metadata, first_said, set_at, timed, with_kind_of
from sos.monitoring.server_health import Standing
from sos.stores.remote.body import RemoteBody
from sos.stores.replicated.background import Background
from sos.stores.replicated.hedge_delay import Patience
from sos.stores.replicated.hedged_read import Found, Search
from sos.stores.replicated.location_cache import Locations
from sos.stores.replicated.membership import Members
from sos.stores.replicated.peer import SLOW_SECONDS, Peer
from sos.stores.replicated.quorum_write import Copies
from sos.stores.spool import IPlacingStore, Spooled, SpooledWriter
from sos.transfer import copy, one_piece

T = TypeVar("T")

# Seconds that a server has to tell what was said of an object, before another has to be kept
# from being slow with its copy.
_SAID_SECONDS = SLOW_SECONDS / 2
# How much later than it could be another server is asked.
_TICK_SECONDS = 0.01

# Of each once, for then it is not missing any more.
_repairs = Logger()
_log = LimitedLog(_repairs)


@frozen
class Copying:
    """How many copies uploads make.

    :param acknowledged: are made before an upload is answered.
    :param wanted: of a group's members should have each of its blobs.
    """

    acknowledged: int = 1
    wanted: int = 2


@implementer(IPlacingStore)
class ReplicatedStore:
    """Keeps each blob on several members of one of its groups.

    Copies that an upload does not wait for are made in the background, as far
    as there is room for what that takes; the others are the replication's to
    make.

    :param groups: at least one member in all.
    :param algorithm: the hash of new content ids.
    :param locations: of blobs that are not where they belong; its own, if it
        is given none.
    :param hints: where groups and partitions are noted of which a copy was not
        made, or not where it belongs.
    """

    def __init__(
        self,
        groups: Groups,
        run_in_thread: RunInThread,
        clock: Any,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        copying: Copying = Copying(),
        locations: Locations | None = None,
        hints: set[tuple[str, str]] | None = None,
    ) -> None:
        self.name = "replicated"
        self._run_in_thread = run_in_thread
        self._clock = clock
        self._algorithm = algorithm
        self._copying = copying
        self._patience = Patience()
        self._deadlines = Deadlines(clock, _TICK_SECONDS)
        self._members = Members(groups, {}, clock)
        self._locations = locations or Locations()
        self._background = Background()
        self._hints = set() if hints is None else hints

    def configure(self, groups: Groups) -> None:
        """Go on with *groups*; a server that stays keeps what is known of it."""
        before = self._members
        self._members = Members(groups, before.peers, self._clock)
        before.stop(staying=self._members.peers)

    def stop(self) -> None:
        """Make no more copies in the background, and ask no server how it is."""
        self._members.stop()
        self._background.stop()

    # Reading.

    async def stat(self, id: str) -> BlobInfo:
        found = await self._search(id, lambda peer: peer.store.stat(id), lambda info: None)
        return found.answer

    async def read(self, id: str, span: Span | None = None) -> Blob:
        found = await self._search(id, lambda peer: peer.store.read(id, span), _discard)
        blob = found.answer
        if isinstance(blob.body, RemoteBody):
            serving = [found.peer]
            blob.body.failed = lambda error: serving[-1].failed(error)
            if blob.info.size is not None:
                part = span or (0, blob.info.size)
                blob.body.resume = partial(self._resume, id, part, serving)
        return blob

    async def _search(
        self,
        id: str,
        ask: Callable[[Peer], Coroutine[Any, Any, T]],
        discard: Callable[[T], None],
        without: Sequence[Peer] = (),
    ) -> Found[T]:
        known = self._peer(self._locations.known(id), without)
        hint = partial(self._told, id, without)

        def look() -> Deferred[Found[T]]:
            groups = self._members.readers(id, known, without)
            return Search(groups, ask, hint, discard, self._patience, self._deadlines).run(id)

        try:
            try:
                found = await look()
            except NotFound:
                if len(self._members.peers) == 1:
                    raise
                # While one was asked after the other it may have been moved, from
                # one that was asked late to one that was asked early.
                found = await look()
        except NotFound:
            await self._members.look()
            unknown = self._members.unknown()
            if unknown:
                raise Unavailable(
                    f"no server that is known here has a blob {id}; another API server knows "
                    f"also {', '.join(unknown)}"
                ) from None
            if not without:
                self._locations.forget(id)
            raise
        if found.missed:
            self._locations.remember(id, found.peer.name)
            self._repair(id, found.peer, found.missed)
        return found

    async def _told(self, id: str, without: Sequence[Peer]) -> Peer | None:
        """Return the server that others who share their locations have found *id* on."""
        return self._peer(await self._locations.told(id), without)

    def _peer(self, name: str | None, without: Sequence[Peer]) -> Peer | None:
        """Return the server that *name* names, if it is one that can be asked."""
        peer = self._members.peers.get(name or "")
        return None if peer in without else peer

    async def _resume(
        self, id: str, part: Span, broken: list[Peer], received: int, error: Unavailable
    ) -> Pieces:
        """Open the rest of *part*, of which some has been received.

        Not on a server that broke off, unless that had been held up.
        """
        start, stop = part
        if isinstance(error, HeldUp):
            broken.pop()
        else:
            format = "{id} goes on from another server: {error}"
            _log.tell(LogLevel.warn, format, broken[-1].name, id=id, error=error)
        rest = start + received, stop
        try:
            found = await self._search(id, lambda peer: peer.store.read(id, rest), _discard, broken)
        except NotFound:  # elsewhere: the one that broke off has it
            raise error from None
        broken.append(found.peer)
        body = found.answer.body
        return one_piece(body) if isinstance(body, bytes) else body

    def _repair(self, id: str, source: Peer, missed: Sequence[Peer]) -> None:
        """Copy what *source* has to those of its group that should have it."""
        for peer in self._members.holders(source.group, id)[: self._copying.wanted]:
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
            format = "{id} is another on {to}: {error}"
            _log.tell(LogLevel.warn, format, id, id=id, to=target.name, error=error)
        except SOSError as error:
            format = "{id} not copied to {to}: {error}"
            _log.tell(LogLevel.info, format, target, id=id, to=target.name, error=error)
            self._hints.add((target.group, ids.partition(id)))
        else:
            _repairs.info("{id} was missing on {to}, and copied there", id=id, to=target.name)

    # Writing.

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        digest = BodyDigest(id, self._algorithm, size)
        return SpooledWriter(digest, metadata, self.place, self._run_in_thread)

    async def place(self, whole: Spooled) -> BlobInfo:
        """Store *whole*, which is closed when nothing is made of it any more."""
        belonging = self._members.belonging(whole.id, self._copying.wanted)
        copies = Copies(
            whole,
            self._members.writers(whole.id),
            self._copying.acknowledged,
            self._copying.wanted,
            belonging,
            partial(self._said, whole),
            lambda: self._background.admits(whole.size),
            self._deadlines,
        )
        copies.ended.addCallback(lambda _: self._placed(whole, belonging, copies.made))
        info = await copies.acknowledged
        if not copies.ended.called:
            self._background.add(whole.size, copies.ended, copies.stop)
        if copies.made[0] not in belonging:
            self._locations.remember(whole.id, copies.made[0].name)
        return info

    async def _said(self, whole: Spooled, target: Peer) -> Metadata:
        """Return the metadata that *whole* is to have on *target*, which stands in for another.

        What was said of it first stays.  So those are asked that could have it: a stand-in
        has never heard of it, and may be read from before anybody compares what it has.
        """
        if set_at(whole.metadata) == NEVER:  # a chunk, which says nothing that could stay
            return whole.metadata

        async def ask(peer: Peer) -> Metadata:
            try:
                asked = peer.attempt(peer.store.stat(whole.id))
                return (await within(_SAID_SECONDS, asked, self._clock)).metadata
            except SOSError:
                return EMPTY

        told = await together(
            ask(peer)
            for peer in self._members.fellows(whole.id, target)
            if peer is not target and peer.error is None
        )
        first = first_said(told)
        return whole.metadata if first is None else with_kind_of(timed(first, 0), whole.metadata)

    def _placed(self, whole: Spooled, belonging: Sequence[Peer], made: Sequence[Peer]) -> None:
        whole.close()
        if not set(belonging) <= set(made):
            groups = {peer.group for peer in made}
            self._hints.update((group, ids.partition(whole.id)) for group in groups)

    # The whole of it.

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        found: set[str] = set()
        for peer in self._members.peers.values():
            found.update(await peer.attempt(peer.store.listing(after, limit, partition)))
        return sorted(found, key=ids.sort_key)[:limit]

    async def status(self) -> StoreStatus:
        """Tell whether an upload would be taken: by as many servers as it waits for."""
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
        needed = self._copying.acknowledged
        if len(taking) >= needed:
            return StoreStatus(writable=True)
        told = f"{len(taking)} of {len(names)} servers take blobs, and an upload waits for {needed}"
        return StoreStatus(writable=False, reason="; ".join([told, *reasons]))

    async def survey(self) -> dict[str, list[Standing]]:
        """Tell by group how each server is doing, which they are asked at the same time."""
        return await self._members.survey()

    async def look(self) -> list[str]:
        """Ask all servers how they are doing; say what is wrong with which there are."""
        await self._members.answers()
        return self.errors()

    def errors(self) -> list[str]:
        """Say what is wrong with which servers there are, as far as they have told."""
        return self._members.errors()

    @property
    def background(self) -> Background:
        """The copies that nobody waits for."""
        return self._background


def _discard(blob: Blob) -> None:
    """Close the body of an answer that came too late."""
    if not isinstance(blob.body, bytes):
        ensureDeferred(blob.body.aclose()).addErrback(unwanted)
