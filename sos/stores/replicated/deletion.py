"""The deletion of an object on all servers that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from attrs import define, field
from twisted.logger import Logger, LogLevel

from sos.aio.gather import together, within
from sos.aio.limited_log import LimitedLog
from sos.errors import Conflict, Deleted, Forbidden, NotFound, SOSError, Unavailable
from sos.interfaces import StoreStatus
from sos.model.merge import deleted, merge, times, tombstone
from sos.model.metadata import EMPTY, TICKS, Metadata, ticks, timed
from sos.model.upload_clock import UploadClock
from sos.stores.replicated.peer import Peer
from sos.stores.replicated.server_set import Members

# Timeout of one request to one server, in seconds.
_SECONDS = 30.0

_log = LimitedLog(Logger())


@define
class Deletion:
    """The deletion of the object *id*.

    It asks all servers for their copies, and sends a tombstone to the replicas and to whoever has
    a copy.  Replication brings it to the servers that do not answer.

    :param quorum: servers of the object's own group that have to record it.
    :param copies: servers of that group that should.
    :param dates: the clock that dates the deletion.
    :param clock: a reactor, for timeouts.
    :ivar recorded: the servers that have recorded it.
    :ivar missed: the servers that should have it, but did not answer.
    """

    id: str
    members: Members
    quorum: int
    copies: int
    dates: UploadClock
    clock: Any
    recorded: list[Peer] = field(init=False, factory=list)
    missed: list[Peer] = field(init=False, factory=list)
    _found: dict[Peer, Metadata] = field(init=False, factory=dict)

    async def run(self, least_age: float) -> None:
        """Delete the object.

        :param least_age: seconds since its last upload before which it is not deleted.
        :raises NotFound: if all servers say that there is no such object.
        :raises Deleted: if it was deleted before.
        :raises Forbidden: if it is too young.
        :raises Conflict: if a server cannot record deletions: it is an old one, or read-only.
        :raises Unavailable: if too few servers answer.  Some may have recorded the deletion then.
        """
        await self._check_servers()
        await together(self._ask(peer) for peer in self.members.peers.values())
        self._check_readonly()
        # Metadata without a time is older than all that has one.
        known = [timed(each, 0) for each in self._found.values()]
        for each in known:
            self.dates.see(each)
        if not any(times(each).is_object for each in known):
            await self._no_object(known)
        stored = max(times(each).stored or 0 for each in known)
        self._check_age(stored, least_age)
        # After the last upload, though the clock that dated that is ahead.
        time = max(ticks(self.dates()), stored + 1)
        self.dates.see(tombstone(time))
        await self._record(time)

    async def _check_servers(self) -> None:
        """Raise Conflict if a server cannot remember deletions, Unavailable if that is unknown."""
        answers = await self.members.answers()
        for name, peer in self.members.peers.items():
            if isinstance(answers[name], StoreStatus) and not peer.tombstones:
                raise Conflict(
                    f"nothing can be deleted while {name} cannot remember deletions: upgrade it, "
                    "or remove it from the configuration"
                )
            if not peer.tombstones:
                raise Unavailable(f"it is unknown whether {name} remembers deletions: {peer.error}")
        unknown = self.members.unknown()
        if unknown:
            raise Unavailable(
                f"another API server also uses {', '.join(unknown)}; compare its sos.conf with the "
                "one here"
            )

    async def _ask(self, peer: Peer) -> None:
        try:
            info = await self._of(peer, peer.store.stat(self.id))
            self._found[peer] = info.metadata
        except Deleted as error:
            self._found[peer] = error.metadata
        except NotFound:
            pass
        except SOSError as error:
            self._failed(peer, error)

    def _check_readonly(self) -> None:
        """Raise Conflict if a server has a copy that it would serve for ever."""
        for peer in self.missed:
            if peer.member.readonly:
                raise Unavailable(f"{peer.name}, which is read-only, does not answer")
        for peer, metadata in self._found.items():
            if peer.member.readonly and times(metadata).is_object:
                raise Conflict(f"{self.id} is also on {peer.name}, which is read-only")

    def _check_age(self, stored: int, least_age: float) -> None:
        if not least_age:
            return
        age = max(self.dates.time_of_day() - stored / TICKS, 0.0)
        if age < least_age:
            raise Forbidden(
                f"{self.id} must not be deleted before {least_age - age:.0f} s have passed: "
                f"min-retention is {least_age:.0f} s"
            )
        if self.missed:  # it may know of a later upload
            raise Unavailable(f"{self.missed[0].name} may have {self.id}, and does not answer")

    async def _no_object(self, known: Sequence[Metadata]) -> None:
        """Raise the error for an object that is on no server that answers."""
        if self.missed:
            raise Unavailable(
                f"cannot tell whether the object {self.id} exists: {len(self.missed)} of "
                f"{len(self.members.peers)} servers did not answer"
            )
        before = times(reduce(merge, known)).deleted if known else None
        if before is None:
            raise NotFound(f"there is no object {self.id}")
        await self._record(before)  # perhaps too few servers have
        raise deleted(self.id, EMPTY)

    async def _record(self, time: int) -> None:
        """Record the deletion at *time*, in ticks; raise Unavailable if too few servers do."""
        own = [
            peer
            for peer in self.members.replica_set(self.id, len(self.members.peers))
            if peer not in self.missed
        ]
        first = dict.fromkeys([*own[: self.copies], *self._found])
        await together(self._tell(peer, time) for peer in first if not peer.member.readonly)
        for peer in own:  # in place of those that failed
            if peer not in first and self._count(own) < self.quorum:
                await self._tell(peer, time)
        count = self._count(own)
        if count < self.quorum:
            raise Unavailable(
                f"write quorum not reached: {count} of {self.quorum} servers have recorded the "
                f"deletion of {self.id}; try again"
            )

    def _count(self, own: Sequence[Peer]) -> int:
        """Return how many of *own* have recorded it; two names of one store count once."""
        return len({peer.identity or peer.name for peer in self.recorded if peer in own})

    async def _tell(self, peer: Peer, time: int) -> None:
        try:
            await self._of(peer, peer.store.reconcile(self.id, tombstone(time)))
        except SOSError as error:
            self._failed(peer, error)
        else:
            self.recorded.append(peer)

    async def _of(self, peer: Peer, request: Any) -> Any:
        return await within(_SECONDS, peer.attempt(request), self.clock)

    def _failed(self, peer: Peer, error: SOSError) -> None:
        self.missed.append(peer)
        _log.emit(
            LogLevel.warn,
            "cannot delete an object on a server, id={id}, server={name}: {error}",
            peer.name,
            id=self.id,
            name=peer.name,
            error=error,
        )
