"""The hedged read: the first good answer of several servers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from sos.aio.limited_log import LimitedLog
from sos.aio.tasks import Running, run
from sos.aio.timeouts import Deadlines
from sos.errors import Deleted, NotFound, SOSError, Unavailable
from sos.interfaces import Blob, BlobInfo
from sos.model.expiry import expired, has_expired
from sos.model.merge import deleted, may_be_part, times
from sos.model.metadata import EMPTY, EXPIRES_AT
from sos.stores.replicated.hedge_delay import HedgeDelay
from sos.stores.replicated.peer import SLOW_SECONDS, Peer

T = TypeVar("T", Blob, BlobInfo)

_log = LimitedLog(Logger())


@frozen
class Found(Generic[T]):
    """A good answer.

    :param peer: the server that gave it.
    :param missed: the servers that have answered before that they do not have the blob.
    """

    answer: T
    peer: Peer
    missed: tuple[Peer, ...]


class HedgedRead(Generic[T]):
    """Search for a blob, which asks servers until one has it.

    It asks the servers of a group in sequence, and begins with the first group.  Once a
    server has failed, or does not have the blob, it asks a server of each other group at
    the same time.  After the hedge delay it asks the next server as well (a hedged request).
    It waits at most a second for servers whose circuit breaker was open already.  A copy does not
    count if its object has expired, or if another server knows of a later deletion.

    :param groups: the servers of each group, in the order in which to ask them.
    :param ask: asks one server; see :class:`sos.interfaces.IBlobStore`.
    :param hint: called when the first server has failed or does not have the blob; returns
        a server to ask at once, or None.  The search does not wait for it.
    :param discard: called with each late answer.
    :param hedge_delay: gives the hedge delay, and learns from the latencies.
    :param deadlines: call :meth:`on_deadline` when the hedge delay has passed.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        groups: Iterable[Sequence[Peer]],
        ask: Callable[[Peer], Coroutine[Any, Any, T]],
        hint: Callable[[], Coroutine[Any, Any, Peer | None]],
        discard: Callable[[T], None],
        hedge_delay: HedgeDelay,
        deadlines: Deadlines,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._groups = iter(groups)
        self._ask: Callable[[Peer], Coroutine[Any, Any, T]] = ask
        self._hint = hint
        self._discard: Callable[[T], None] = discard
        self._hedge_delay = hedge_delay
        self._deadlines = deadlines
        self._clock = deadlines.clock
        self._now = now
        self._queues: list[deque[Peer]] = []
        self._asked: set[Peer] = set()
        self._running: dict[Peer, Running] = {}
        self._unlikely: set[Peer] = set()
        self._missed: list[Peer] = []
        self._failures = 0
        self._deleted_at: int | None = None
        self._gone: Deleted | None = None
        self._finished = False
        self._found: Deferred[Found[T]] = Deferred(lambda _: self._stop())

    def run(self, id: str) -> Deferred[Found[T]]:
        """Search for *id*.

        The Deferred fails with :exc:`~sos.errors.NotFound` only when every
        server has said that it does not have the blob, :exc:`~sos.errors.Deleted` if one has said
        that it was deleted or has expired, else with :exc:`~sos.errors.Unavailable`.
        """
        self._id = id
        self._since = self._clock.seconds()
        if not self._begin_group():
            self._finish(Failure(self._verdict()))
        elif not self._finished:
            self._deadlines.set(self, self._hedge_delay.next())
        return self._found

    def _begin_group(self) -> bool:
        members = next(self._groups, None)
        if members is not None:
            self._queues.append(deque(members))
            self._next(self._queues[-1])
        return members is not None

    def _next(self, queue: deque[Peer]) -> bool:
        while queue and not self._finished:
            peer = queue.popleft()
            if peer not in self._asked:
                self._begin(peer, queue)
                return True
        return False

    def _begin(self, peer: Peer, queue: deque[Peer]) -> None:
        self._asked.add(peer)
        if peer.error is not None:
            self._unlikely.add(peer)
        work = run(peer.attempt(self._ask(peer)), partial(self._answered, peer, queue))
        if work is not None:
            self._running[peer] = work

    def _hinted(self, outcome: Peer | Failure | None) -> None:
        if isinstance(outcome, Failure):
            _log.failure("cannot look up where a blob is, id={id}", outcome, id=self._id)
        elif outcome is not None and outcome not in self._asked and not self._finished:
            self._begin(outcome, deque())  # an empty queue: no other server follows this one

    def on_deadline(self) -> None:
        """Send a hedged request; after a second, also open the breakers of the slow servers."""
        left = self._since + SLOW_SECONDS - self._clock.seconds()
        if left > 0:
            self._hedge_delay.spent()
            self._deadlines.set(self, left)
        else:
            self._deadlines.set(self, SLOW_SECONDS)
            for peer in self._running:
                peer.mark_slow()
        if self._next(self._queues[0]) or self._begin_group():
            return
        if left <= 0 and self._running.keys() <= self._unlikely:
            # Servers with an open circuit breaker are asked last, but not waited for.
            self._failures += len(self._running)
            self._finish(Failure(self._verdict()))

    def _answered(self, peer: Peer, queue: deque[Peer], outcome: Any) -> None:
        self._running.pop(peer, None)
        if isinstance(outcome, Failure):
            if not self._finished:
                self._failed(outcome, peer, queue)
        elif self._finished:
            self._discard(outcome)
        elif (gone := self._outdated(outcome)) is not None:
            self._discard(outcome)
            self._gone = gone
            self._failed(Failure(gone), peer, queue)
        else:
            self._hedge_delay.observe(self._clock.seconds() - self._since)
            self._finish(Found(outcome, peer, tuple(self._missed)))

    def _outdated(self, answer: T) -> Deleted | None:
        """Return the error for a copy whose object has expired, or was deleted since."""
        info = answer.info if isinstance(answer, Blob) else answer
        metadata = info.metadata
        if self._deleted_at is None and EXPIRES_AT not in metadata:
            return None
        known = times(metadata)
        if known.part is None and has_expired(metadata, self._now()):
            return expired(self._id)
        if self._deleted_at is not None:
            known = evolve(known, deleted=self._deleted_at)
        if known.has_body or may_be_part(self._id, metadata):
            return None
        return deleted(self._id, EMPTY)

    def _failed(self, failure: Failure, peer: Peer, queue: deque[Peer]) -> None:
        if failure.check(NotFound):
            self._missed.append(peer)
            if isinstance(failure.value, Deleted):
                heard = times(failure.value.metadata).deleted or 0
                self._deleted_at = max(self._deleted_at or 0, heard)
        elif failure.check(SOSError):
            self._failures += 1
        else:
            self._finish(failure)
            return
        if len(self._missed) + self._failures == 1:
            run(self._hint(), self._hinted)
        self._next(queue)
        while self._begin_group():
            pass
        if not (self._running or self._finished or any(self._queues)):
            self._finish(Failure(self._verdict()))

    def _verdict(self) -> SOSError:
        if not self._asked:
            return Unavailable(f"no server is left to ask for the blob {self._id}")
        if self._failures:
            return Unavailable(
                f"cannot find the blob {self._id}: {self._failures} of {len(self._asked)} servers "
                "did not answer"
            )
        if self._deleted_at is not None:
            return self._gone or deleted(self._id, EMPTY)
        return NotFound(f"there is no blob {self._id}")

    def _finish(self, outcome: Found[T] | Failure) -> None:
        self._stop()
        self._found.callback(outcome)

    def _stop(self) -> None:
        self._finished = True
        self._deadlines.clear(self)
        for work in list(self._running.values()):
            work.cancel()
