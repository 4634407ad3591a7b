"""The copies of one upload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from itertools import chain

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sos import ids
from sos.deadlines import Deadlines
from sos.errors import Conflict, NoSpace, SOSError, Unavailable
from sos.interfaces import BlobInfo
from sos.metadata import Metadata
from sos.running import Running, run
from sos.stores.peers import SLOW_SECONDS, Peer
from sos.stores.spool import Spooled
from sos.transfer import transfer

# Bytes a second at which a server is not yet too slow.
_SLOW_RATE = 4 * 1024 * 1024

_log = Logger()


class Copies:
    """Sends a blob to several servers at once.

    One that fails is replaced by the next of its group, which then keeps the
    copy in its place, and if need be by one of another group.  So is one that
    takes too long, while there are not enough copies yet.

    :param groups: the members that can be written to, in the order in which to
        try them, the blob's own group first.
    :param enough: copies that are acknowledged.
    :param wanted: copies that its own group should have.
    :param belonging: those that should have it.
    :param said: returns, for another to which it goes, the metadata that it is to have.
    :param may_linger: asked, once there are enough, whether those that are
        being made may be finished.
    :param deadlines: to be told who takes too long.
    :ivar made: the servers that have it now.
    :ivar acknowledged: fires once there are enough copies, and tells how many.
        It fails with :exc:`~sos.errors.Conflict`, with
        :exc:`~sos.errors.NoSpace` when every server is full, else with
        :exc:`~sos.errors.Unavailable`; some copies may have been made then.
    :ivar ended: fires when nothing is being sent any more.
    """

    def __init__(
        self,
        whole: Spooled,
        groups: Iterable[Sequence[Peer]],
        enough: int,
        wanted: int,
        belonging: Collection[Peer],
        said: Callable[[Peer], Awaitable[Metadata]],
        may_linger: Callable[[], bool],
        deadlines: Deadlines,
    ) -> None:
        groups = iter(groups)
        self.made: list[Peer] = []
        self._whole = whole
        self._own = iter(next(groups, ()))
        self._others = chain.from_iterable(groups)
        self._enough = enough
        self._wanted = max(enough, wanted)
        self._belonging = belonging
        self._said = said
        self._may_linger = may_linger
        self._deadlines = deadlines
        self._sending: list[Peer] = []
        self._slow = 0
        self._failures: list[SOSError] = []
        self.acknowledged: Deferred[BlobInfo] = Deferred(lambda _: self.stop())
        self.ended: Deferred[None] = Deferred()
        self._works: list[Running] = []
        self._left = 0
        self._stopped = False
        # The bytes of an opaque name are those that come first: to one server, not
        # to several that may have others already.
        self._begin(self._wanted if ids.algorithm(whole.id) else 1)
        if not self.acknowledged.called:
            self._wait()

    def _begin(self, count: int) -> None:
        self._left += count
        for _ in range(count):
            work = run(self._one(), self._one_ended)
            if work is not None:
                self._works.append(work)

    def _wait(self) -> None:
        self._deadlines.set(self, SLOW_SECONDS + self._whole.size / _SLOW_RATE)

    def late(self) -> None:
        """Replace those that take too long."""
        for peer in self._sending:
            peer.slow()
        self._slow = len(self._sending)
        self._wait()
        if ids.algorithm(self._whole.id):
            self._begin(self._enough - len(self.made))

    async def _one(self) -> None:
        for peers, count in ((self._own, self._wanted), (self._others, self._enough)):
            while self._underway < count and not self._stopped:
                peer = next(peers, None)
                if peer is None:
                    break
                await self._send_to(peer)

    @property
    def _underway(self) -> int:
        return len(self.made) + len(self._sending) - self._slow

    async def _send_to(self, peer: Peer) -> None:
        self._sending.append(peer)
        try:
            metadata = self._whole.metadata
            if peer not in self._belonging:
                metadata = await self._said(peer)
            info = await peer.attempt(self._send(peer, metadata))
        except Conflict:
            raise
        except SOSError as error:
            # What failed where is for the log: who uploads is not to know the servers.
            _log.info("a copy of {id} was not made: {error}", id=self._whole.id, error=error)
            self._failures.append(error)
            return
        finally:
            self._sending.remove(peer)
            self._slow = min(self._slow, len(self._sending))
        peer.identify(info.store)
        twin = next((each for each in self.made if each.is_twin_of(peer)), None)
        if twin is not None:
            same = f"{twin.name} and {peer.name} are one store"
            _log.error("a copy of {id} counts once: {same}", id=self._whole.id, same=same)
            self._failures.append(Unavailable(same))
            return
        self.made.append(peer)
        if len(self.made) == self._enough and not self.acknowledged.called:
            self._deadlines.clear(self)
            made = BlobInfo(info.id, info.size, info.metadata, info.stored_at, self._enough)
            self.acknowledged.callback(made)

    async def _send(self, peer: Peer, metadata: Metadata) -> BlobInfo:
        whole = self._whole
        writer = peer.store.writer(whole.id, metadata, whole.size)
        return await transfer(whole.body(), writer)

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
            self._works.clear()  # which know this
            self.ended.callback(None)

    def _broken(self, failure: Failure) -> None:
        if not self.acknowledged.called:
            self.acknowledged.errback(failure)
            self.stop()
        elif not failure.check(CancelledError, Conflict):
            _log.failure("a copy of {id} could not be made", failure, id=self._whole.id)

    def _verdict(self) -> SOSError:
        if self._failures and all(isinstance(error, NoSpace) for error in self._failures):
            return NoSpace("every server is full")
        count = len(self._failures)
        if not count and not self.made:
            return Unavailable("no server takes blobs now")
        why = f"{count} servers failed" if count else "no other server takes blobs"
        return Unavailable(f"{len(self.made)} of {self._enough} copies could be made; {why}")

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
        self._deadlines.clear(self)
        for work in self._works:
            work.cancel()
