"""The quorum write: sends one blob to its replica set, with hinted handoff."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import chain

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from sos.aio.limited_log import LimitedLog
from sos.aio.tasks import Running, run
from sos.aio.timeouts import Deadlines
from sos.errors import Conflict, Deleted, NoSpace, SOSError, Unavailable
from sos.interfaces import BlobInfo
from sos.model import ids
from sos.model.merge import other_body
from sos.model.metadata import Metadata
from sos.stores.replicated.peer import SLOW_SECONDS, Peer
from sos.stores.spool import Spooled
from sos.transfer import store_bytes, transfer

# Seconds, beside the body's at _SLOW_RATE, before held back copies are sent: see
# QuorumWrite._at_once.
_HEDGE_SECONDS = 0.05
# Least bytes a second of a server that is not too slow.
_SLOW_RATE = 4 * 1024 * 1024

_log = LimitedLog(Logger())


class QuorumWrite:
    """Quorum write of one blob to several servers.

    If a server fails, the next one of the group stores the copy in its place (hinted
    handoff), or else, before the write quorum is reached, one of another group.  Until the
    quorum is reached, a slow server is replaced in the same way, unless the blob has an
    opaque name.

    :param groups: writable servers in the order in which to try them, the blob's own
        group first, unless none of its servers is available.
    :param enough: the write quorum.
    :param wanted: copies that the blob's own group should have.
    :param replica_set: the replica set of the blob.
    :param metadata_for: returns the metadata for a copy on a server outside of the replica set.
    :param may_linger: called after the quorum is reached; returns whether to go on with
        the other copies in the background.
    :param deadlines: call :meth:`on_deadline` when servers are slow.
    :param outdated: called, with the servers that have stored the blob, if it was deleted after the
        time of this upload: the clock of whoever deleted it is ahead, or the upload was slow.
    :ivar made: the servers that have stored the blob so far.
    :ivar acknowledged: fires with the stored blob when the write quorum is reached.
        It fails with :exc:`~sos.errors.Conflict`, with
        :exc:`~sos.errors.NoSpace` when all servers are full, else with
        :exc:`~sos.errors.Unavailable`; some copies may have been made then.
    :ivar ended: fires when nothing is in flight any more.
    """

    def __init__(
        self,
        whole: Spooled,
        groups: Iterable[Sequence[Peer]],
        enough: int,
        wanted: int,
        replica_set: Collection[Peer],
        metadata_for: Callable[[Peer], Awaitable[Metadata]],
        may_linger: Callable[[], bool],
        deadlines: Deadlines,
        outdated: Callable[[Deleted, Sequence[Peer]], object] = lambda error, made: None,
    ) -> None:
        groups = iter(groups)
        self._outdated = outdated
        self.made: list[Peer] = []
        self._whole = whole
        self._own = iter(next(groups, ()))
        self._others = chain.from_iterable(groups)
        self._enough = enough
        self._wanted = max(enough, wanted)
        self._replica_set = replica_set
        self._metadata_for = metadata_for
        self._may_linger = may_linger
        self._deadlines = deadlines
        self._sending: list[Peer] = []
        self._slow = 0
        self._seconds = whole.size / _SLOW_RATE
        self._failures: list[SOSError] = []
        self.acknowledged: Deferred[BlobInfo] = Deferred(lambda _: self.stop())
        self.ended: Deferred[None] = Deferred()
        self._works: list[Running] = []
        self._left = 0
        self._stopped = False
        at_once = self._at_once()
        self._held_back = self._wanted - at_once if ids.algorithm(whole.id) else 0
        self._begin(at_once)
        if not self.acknowledged.called:
            delay = _HEDGE_SECONDS if self._held_back else SLOW_SECONDS
            deadlines.set(self, delay + self._seconds)

    def _at_once(self) -> int:
        """Return to how many servers to send the body before any of them has stored it.

        Different bytes can have one opaque name, or be made to have one SHA-1.  The first server
        decides which are stored: so only one server gets an opaque name first, and only the
        write quorum a SHA-1 id, unless that takes long (see :meth:`on_deadline`).
        """
        match ids.algorithm(self._whole.id):
            case "sha256":
                return self._wanted
            case "sha1":
                return self._enough
        return 1

    def _begin(self, count: int) -> None:
        self._left += count
        for _ in range(count):
            work = run(self._one(), self._one_ended)
            if work is not None:
                self._works.append(work)

    def on_deadline(self) -> None:
        """Send the copies that were held back; next time, replace the slow servers."""
        if self._held_back:
            self._begin(self._held_back)
            self._held_back = 0
            self._deadlines.set(self, SLOW_SECONDS - _HEDGE_SECONDS)
            return
        for peer in self._sending:
            peer.mark_slow()
        self._slow = len(self._sending)
        self._deadlines.set(self, SLOW_SECONDS + self._seconds)
        if ids.algorithm(self._whole.id):
            self._begin(self._enough - len(self.made))

    async def _one(self) -> None:
        for peers, count in ((self._own, self._wanted), (self._others, self._enough)):
            while self._underway < count and self._goes_on():
                peer = next(peers, None)
                if peer is None:
                    break
                await self._send_to(peer)

    def _goes_on(self) -> bool:
        return not self._stopped and (len(self.made) < self._enough or self._may_linger())

    @property
    def _underway(self) -> int:
        return len(self.made) + len(self._sending) - self._slow

    async def _send_to(self, peer: Peer) -> None:
        self._sending.append(peer)
        try:
            metadata = self._whole.metadata
            if peer not in self._replica_set:
                metadata = await self._metadata_for(peer)
            info = await peer.attempt(self._send(peer, metadata))
        except Conflict as error:
            # If another server has stored this body, servers now hold different bodies: log
            # each such conflict.  Clients can cause any number of the others: log few.
            names = ", ".join(each.name for each in self.made)
            _log.emit(
                LogLevel.warn,
                "a server stores another body with this id, id={id}, server={peer}, "
                "copies_of_this_body={names}",
                names and self._whole.id,
                id=self._whole.id,
                peer=peer.name,
                names=names or "none",
            )
            raise other_body(self._whole.id) from error
        except Deleted as error:
            self._outdated(error, self.made)
            if self.acknowledged.called:
                return
            raise Unavailable(f"{self._whole.id} was deleted meanwhile; try again") from error
        except SOSError as error:
            # Which server failed is only logged: clients must not learn about the servers.
            _log.emit(
                LogLevel.info,
                "cannot store a copy, id={id}: {error}",
                peer.name,
                id=self._whole.id,
                error=error,
            )
            self._failures.append(error)
            return
        finally:
            self._sending.remove(peer)
            self._slow = min(self._slow, len(self._sending))
        peer.identify(info.store)
        twin = next((each for each in self.made if each.is_twin_of(peer)), None)
        if twin is not None:
            same = f"{twin.name} and {peer.name} are the same store"
            _log.emit(
                LogLevel.error,
                "two copies count as one, id={id}: {same}",
                same,
                id=self._whole.id,
                same=same,
            )
            self._failures.append(Unavailable(same))
            return
        self.made.append(peer)
        if len(self.made) == self._enough and not self.acknowledged.called:
            self._deadlines.clear(self)
            made = BlobInfo(info.id, info.size, info.metadata, info.stored_at, self._enough)
            self.acknowledged.callback(made)

    async def _send(self, peer: Peer, metadata: Metadata) -> BlobInfo:
        whole, body = self._whole, self._whole.body()
        if isinstance(body, bytes):
            return await store_bytes(peer.store, whole.id, metadata, body)
        return await transfer(body, peer.store.writer(whole.id, metadata, whole.size))

    def _one_ended(self, outcome: Failure | None) -> None:
        if outcome is not None:
            self._broken(outcome)
        elif self._sending and len(self.made) >= self._enough and not self._may_linger():
            self.stop()
        self._left -= 1
        if self._left == 0:
            if not self.acknowledged.called:
                self.acknowledged.errback(self._verdict())
            self._deadlines.clear(self)
            self._works.clear()  # breaks reference cycles
            self.ended.callback(None)

    def _broken(self, failure: Failure) -> None:
        if not self.acknowledged.called:
            self.acknowledged.errback(failure)
            self.stop()
        elif failure.check(Conflict):
            self.stop()
        elif not failure.check(CancelledError):
            _log.failure("cannot store a copy, id={id}", failure, id=self._whole.id)

    def _verdict(self) -> SOSError:
        if self._failures and all(isinstance(error, NoSpace) for error in self._failures):
            return NoSpace("all servers are full")
        count = len(self._failures)
        if not count and not self.made:
            return Unavailable("no server takes blobs now")
        why = f"{count} servers failed" if count else "no other server takes blobs"
        return Unavailable(
            f"write quorum not reached: {len(self.made)} of {self._enough} copies stored; {why}"
        )

    def stop(self) -> None:
        """Cancel all copies in flight, and start no more."""
        self._stopped = True
        self._deadlines.clear(self)
        for work in self._works:
            work.cancel()
