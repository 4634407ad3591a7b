"""The first good answer of several servers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from sos.errors import NotFound, SOSError, Unavailable
from sos.stores.patience import Patience
from sos.stores.peers import SLOW_SECONDS, Peer

T = TypeVar("T")


@frozen
class Found(Generic[T]):
    """A good answer.

    :param peer: gave it.
    :param missed: those that had answered, and have no such blob.
    """

    answer: T
    peer: Peer
    missed: tuple[Peer, ...]


class Search(Generic[T]):
    """Asks servers for a blob until one has it.

    The members of a group are asked one after the other.  The first group
    begins; once one of its members has failed, or has no such blob, a member
    of each other group is asked at the same time.  And when the first answer
    takes long another member is asked beside.

    :param groups: their members, in the order in which to ask them.
    :param ask: asks one; see :class:`sos.interfaces.IBlobStore`.
    :param hint: tells, when the first has failed or has no such blob, another
        to ask before its turn, or None.  Nothing waits for that.
    :param discard: is given an answer that came too late.
    :param patience: tells what takes long, and learns from it.
    """

    def __init__(
        self,
        groups: Iterable[Sequence[Peer]],
        ask: Callable[[Peer], Coroutine[Any, Any, T]],
        hint: Callable[[], Coroutine[Any, Any, Peer | None]],
        discard: Callable[[T], None],
        patience: Patience,
        clock: Any,
    ) -> None:
        self._lanes = [deque(members) for members in groups]
        self._servers = sum(map(len, self._lanes))
        self._ask = ask
        self._hint = hint
        self._discard = discard
        self._patience = patience
        self._clock = clock
        self._begun = 0
        self._running: dict[Deferred[Any], Peer] = {}
        self._missed: list[Peer] = []
        self._failures = 0
        self._hedging: IDelayedCall | None = None
        self._settled = False
        self._found: Deferred[Found[T]] = Deferred(lambda _: self._stop())

    def run(self, id: str) -> Deferred[Found[T]]:
        """Search for *id*.

        The Deferred fails with :exc:`~sos.errors.NotFound` only when every
        server has said that it has no such blob, else with
        :exc:`~sos.errors.Unavailable`.
        """
        self._id = id
        self._since = self._clock.seconds()
        self._begin_lane()
        if not self._settled:
            seconds = self._patience.next()
            self._hedging = self._clock.callLater(seconds, self._hedge)
        return self._found

    def _begin_lane(self) -> bool:
        if self._begun == len(self._lanes):
            return False
        self._begun += 1
        self._next(self._lanes[self._begun - 1])
        return True

    def _next(self, lane: deque[Peer]) -> bool:
        if not lane or self._settled:
            return False
        self._begin(lane.popleft(), lane)
        return True

    def _begin(self, peer: Peer, lane: deque[Peer]) -> None:
        work = ensureDeferred(peer.attempt(self._ask(peer)))
        self._running[work] = peer
        work.addCallbacks(
            self._good, self._bad, callbackArgs=(work, peer), errbackArgs=(work, peer, lane)
        )

    def _hinted(self, peer: Peer | None) -> None:
        for lane in self._lanes:
            if peer is not None and peer in lane and not self._settled:
                lane.remove(peer)
                # In a lane of its own, for nobody's turn comes after it.
                self._begin(peer, deque())

    def _hedge(self) -> None:
        self._hedging = None
        left = self._since + SLOW_SECONDS - self._clock.seconds()
        if left > 0:
            self._patience.spent()
            self._hedging = self._clock.callLater(left, self._hedge)
        else:
            for peer in self._running.values():
                peer.slow()
        if not self._next(self._lanes[0]):
            self._begin_lane()

    def _good(self, answer: T, work: Any, peer: Peer) -> None:
        self._running.pop(work, None)
        if self._settled:
            self._discard(answer)
        else:
            self._patience.observe(self._clock.seconds() - self._since)
            self._settle(Found(answer, peer, tuple(self._missed)))

    def _bad(self, failure: Failure, work: Any, peer: Peer, lane: deque[Peer]) -> None:
        self._running.pop(work, None)
        if self._settled:
            return
        if failure.check(NotFound):
            self._missed.append(peer)
        elif failure.check(SOSError):
            self._failures += 1
        else:
            self._settle(failure)
            return
        if len(self._missed) + self._failures == 1:
            ensureDeferred(self._hint()).addCallback(self._hinted)
        self._next(lane)
        while self._begin_lane():
            pass
        if not (self._running or self._settled or any(self._lanes)):
            self._settle(Failure(self._verdict()))

    def _verdict(self) -> SOSError:
        if self._failures:
            return Unavailable(
                f"{self._failures} of {self._servers} servers did not answer, and no other has "
                f"a blob {self._id}"
            )
        return NotFound(f"there is no blob {self._id}")

    def _settle(self, outcome: Found[T] | Failure) -> None:
        self._stop()
        self._found.callback(outcome)

    def _stop(self) -> None:
        self._settled = True
        if self._hedging is not None:
            self._hedging.cancel()
            self._hedging = None
        for work in list(self._running):
            work.cancel()
