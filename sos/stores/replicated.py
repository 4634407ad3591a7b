"""A store made of other stores, which keep copies for each other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import TimeoutError, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from sos import ids
from sos.deadlines import Deadlines
from sos.digest import BodyDigest
from sos.errors import NotFound, SOSError, Unavailable
from sos.interfaces import (
    Blob,
    BlobInfo,
    Groups,
    IBlobWriter,
    Pieces,
    Span,
    StoreStatus,
)
from sos.metadata import EMPTY, Metadata
from sos.placement import Placement
from sos.stores.background import Background
from sos.stores.copies import Copies
from sos.stores.lane import RunInThread
from sos.stores.locations import Locations
from sos.stores.patience import Patience
from sos.stores.peers import SLOW_SECONDS, Peer
from sos.stores.remote_body import RemoteBody
from sos.stores.search import Found, Search
from sos.stores.spool import IPlacingStore, Spooled, SpooledWriter
from sos.survey import Account, Answer, Standing, combined, standings
from sos.transfer import copy, one_piece

T = TypeVar("T")

# How much later than it could be another server is asked.
_TICK_SECONDS = 0.01

_log = Logger()


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
    """

    def __init__(
        self,
        groups: Groups,
        run_in_thread: RunInThread,
        clock: Any,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        copying: Copying = Copying(),
        locations: Locations | None = None,
    ) -> None:
        self.name = "replicated"
        self._run_in_thread = run_in_thread
        self._clock = clock
        self._algorithm = algorithm
        self._copying = copying
        self._patience = Patience()
        self._deadlines = Deadlines(clock, _TICK_SECONDS)
        self._peers: dict[str, Peer] = {}
        self._locations = locations or Locations()
        self._background = Background()
        self.configure(groups)

    def configure(self, groups: Groups) -> None:
        """Go on with *groups*; a server that stays keeps what is known of it."""
        self._groups = groups
        before, self._peers = self._peers, {}
        for group, members in groups.items():
            for member in members:
                peer = before.pop(member.store.name, None)
                if peer is None:
                    peer = Peer(member, group, self._clock)
                else:
                    peer.member, peer.group = member, group
                self._peers[peer.name] = peer
        for gone in before.values():
            gone.stop()
        self._placement = Placement(
            {
                group: {each.store.name: each.weight for each in members if not each.readonly}
                for group, members in groups.items()
            }
        )
        self._readonly = {
            group: [self._peers[each.store.name] for each in members if each.readonly]
            for group, members in groups.items()
        }

    def stop(self) -> None:
        """Make no more copies in the background, and ask no server how it is."""
        for peer in self._peers.values():
            peer.stop()
        self._background.stop()

    # Reading.

    async def stat(self, id: str) -> BlobInfo:
        found = await self._search(id, lambda peer: peer.store.stat(id), lambda info: None)
        return found.answer

    async def read(self, id: str, span: Span | None = None) -> Blob:
        found = await self._search(id, lambda peer: peer.store.read(id, span), _discard)
        blob = found.answer
        if isinstance(blob.body, RemoteBody) and blob.info.size is not None:
            part = span or (0, blob.info.size)
            blob.body.resume = partial(self._resume, id, part, [found.peer])
        return blob

    async def _search(
        self,
        id: str,
        ask: Callable[[Peer], Coroutine[Any, Any, T]],
        discard: Callable[[T], None],
        without: Sequence[Peer] = (),
    ) -> Found[T]:
        groups = self._readers(id, without)
        hint = partial(self._told, id, without)
        search = Search(groups, ask, hint, discard, self._patience, self._deadlines)
        try:
            found = await search.run(id)
        except NotFound:
            self._locations.forget(id)
            raise
        if found.missed:
            self._locations.remember(id, found.peer.name)
            self._repair(id, found.peer, found.missed)
        return found

    async def _told(self, id: str, without: Sequence[Peer]) -> Peer | None:
        """Return the server that others who share their locations have found *id* on."""
        peer = self._peers.get(await self._locations.told(id) or "")
        return None if peer in without else peer

    def _readers(self, id: str, without: Sequence[Peer]) -> Iterator[list[Peer]]:
        """Give whom to ask for *id*: by group, each group's members in order."""
        known = self._peers.get(self._locations.known(id) or "")
        if known in without:
            known = None
        if known is not None:
            others = [peer for peer in self._members(known.group, id, without) if peer is not known]
            yield [known, *others]
        for group in dict.fromkeys([*self._placement.groups(id), *self._readonly]):
            if known is None or group != known.group:
                members = self._members(group, id, without)
                if members:
                    yield members

    def _members(self, group: str, id: str, without: Sequence[Peer]) -> list[Peer]:
        members = [*self._holders(group, id), *self._readonly[group]]
        if without:
            members = [peer for peer in members if peer not in without]
        # One that is left alone is asked when no other of its group has it.
        members.sort(key=lambda peer: (peer.error is not None, not peer.member.preferred))
        return members

    def _holders(self, group: str, id: str) -> list[Peer]:
        """Return the members that can be written to, those that should have *id* first."""
        return [self._peers[name] for name in self._placement.members(group, id)]

    async def _resume(
        self, id: str, part: Span, broken: list[Peer], received: int, error: Unavailable
    ) -> Pieces:
        """Open the rest of *part*, of which some has been received, on another server."""
        start, stop = part
        broken[-1].failed(error)
        _log.warn("{id} goes on from another server: {error}", id=id, error=error)
        rest = start + received, stop
        found = await self._search(id, lambda peer: peer.store.read(id, rest), _discard, broken)
        broken.append(found.peer)
        body = found.answer.body
        return one_piece(body) if isinstance(body, bytes) else body

    def _repair(self, id: str, source: Peer, missed: Sequence[Peer]) -> None:
        """Copy what *source* has to those of its group that should have it."""
        group = source.group
        for peer in self._holders(group, id)[: self._copying.wanted]:
            if peer in missed and peer.takes_blobs and self._background.admits(0):
                work = ensureDeferred(self._copy(id, source, peer))
                self._background.add(0, work, work.cancel)

    async def _copy(self, id: str, source: Peer, target: Peer) -> None:
        try:
            await copy(await source.attempt(source.store.read(id)), target.store)
        except SOSError as error:
            _log.info("{id} not copied to {to}: {error}", id=id, to=target.name, error=error)
        else:
            _log.info("{id} was missing on {to}, and copied there", id=id, to=target.name)

    # Writing.

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        digest = BodyDigest(id, self._algorithm, size)
        return SpooledWriter(digest, metadata, self.place, self._run_in_thread)

    async def place(self, whole: Spooled) -> BlobInfo:
        """Store *whole*, which is closed when nothing is made of it any more."""
        copies = Copies(
            whole,
            self._writers(whole.id),
            self._copying.acknowledged,
            self._copying.wanted,
            lambda: self._background.admits(whole.size),
            self._deadlines,
        )
        copies.ended.addCallback(lambda _: whole.close())
        info = await copies.acknowledged
        if not copies.ended.called:
            self._background.add(whole.size, copies.ended, copies.stop)
        if copies.made[0].name not in self._belonging(whole.id):
            self._locations.remember(whole.id, copies.made[0].name)
        return info

    def _belonging(self, id: str) -> Sequence[str]:
        group = self._placement.groups(id)[0]
        return self._placement.members(group, id)[: self._copying.wanted]

    def _writers(self, id: str) -> Iterator[list[Peer]]:
        """Give where *id* can go: by group, each group's members in order."""
        left_alone = []
        for group in self._placement.groups(id):
            members = self._holders(group, id)
            ready = [peer for peer in members if peer.takes_blobs]
            left_alone += [peer for peer in members if not peer.takes_blobs]
            if ready:
                yield ready
        yield left_alone

    # The whole of it.

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        found: set[str] = set()
        for peer in self._peers.values():
            found.update(await peer.attempt(peer.store.listing(after, limit, partition)))
        return sorted(found, key=ids.sort_key)[:limit]

    async def status(self) -> StoreStatus:
        """Tell whether an upload would be taken: by as many servers as it waits for."""
        names = [peer.name for peer in self._peers.values() if not peer.member.readonly]
        answers = await self._answers()
        taking, reasons = 0, []
        for name in names:
            answer = answers[name]
            if isinstance(answer, SOSError):
                reasons.append(str(answer))
            elif answer.refusal is not None:
                reasons.append(f"{name}: {answer.refusal}")
            else:
                taking += 1
        needed = self._copying.acknowledged
        if taking >= needed:
            return StoreStatus(writable=True)
        told = f"{taking} of {len(names)} servers take blobs, and an upload waits for {needed}"
        return StoreStatus(writable=False, reason="; ".join([told, *reasons]))

    async def survey(
        self, others: Sequence[Mapping[str, Account]] = ()
    ) -> dict[str, list[Standing]]:
        """Tell by group how each server is doing, which they are asked at the same time.

        :param others: the :meth:`accounts` of other processes, to be combined with ours.
        """
        groups, ours = self._groups, self.accounts()
        answers = await self._answers()
        accounts = {
            name: combined([own, *(each[name] for each in others if name in each)])
            for name, own in ours.items()
        }
        return standings(groups, accounts, answers)

    def accounts(self) -> dict[str, Account]:
        """Tell what has been noted of each server, by its name."""
        return {name: peer.account() for name, peer in self._peers.items()}

    @property
    def background(self) -> Background:
        """The copies that nobody waits for."""
        return self._background

    async def _answers(self) -> dict[str, Answer]:
        asked = {peer.name: ensureDeferred(self._ask(peer)) for peer in self._peers.values()}
        try:
            return {name: await answer for name, answer in asked.items()}
        finally:
            for answer in asked.values():  # which have all come, unless this is cancelled
                answer.addErrback(_ignore)
                answer.cancel()

    async def _ask(self, peer: Peer) -> Answer:
        try:
            asked = ensureDeferred(peer.store.status())
            return await asked.addTimeout(SLOW_SECONDS, self._clock)
        except TimeoutError:
            return Unavailable(f"{peer.name} did not answer in {SLOW_SECONDS:g} s")
        except SOSError as error:
            return error


def _discard(blob: Blob) -> None:
    """Close the body of an answer that came too late."""
    if not isinstance(blob.body, bytes):
        ensureDeferred(blob.body.aclose()).addErrback(_ignore)


def _ignore(failure: Failure) -> None:
    """Nobody wanted it any more."""
