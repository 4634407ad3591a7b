"""Group commit: one statement, and so one transaction, for all waiting blobs.

Blobs queue up while a transaction commits, and the next transaction stores them all. So under
load many uploads share one commit.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from psycopg import Error
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sos.stores.engines.postgres import failures
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.connections import Connections
from sos.stores.engines.postgres.record import Record
from sos.stores.engines.postgres.session import Session

# Most blobs of a transaction, and bytes of inline bodies after which it takes no more.
_MOST_TOGETHER = 256
_MOST_BYTES = 4 * 1024 * 1024

# A new record, and the Deferred of its result: see Committer.add.
_Job = tuple[Record, Deferred[float | None]]


class Committer:
    """A queue that adds blobs to the table, one batch at a time."""

    def __init__(self, blobs: Blobs, connections: Connections, reactor: Any) -> None:
        self._blobs = blobs
        self._connections = connections
        self._reactor = reactor
        self._waiting: deque[_Job] = deque()
        self._busy = False

    def add(self, new: Record) -> Deferred[float | None]:
        """Store *new* durably, if nothing is stored under its id.

        Fires with the time of storing, or with None if the id is taken or pieces of *new* are
        missing.
        """
        done: Deferred[float | None] = Deferred()
        self._waiting.append((new, done))
        if not self._busy:
            # Batch all blobs of this reactor iteration.
            self._busy = True
            self._reactor.callLater(0, self._next)
        return done

    def _next(self) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            return
        work = self._connections.change(self._add, [new for new, _ in batch])
        work.addBoth(self._answer, batch)

    def _take(self) -> list[_Job]:
        """Take the next batch from the queue; all its ids differ."""
        batch: dict[str, _Job] = {}
        later: list[_Job] = []
        size = 0
        while self._waiting and len(batch) < _MOST_TOGETHER and size < _MOST_BYTES:
            job = self._waiting.popleft()
            new = job[0]
            if new.id in batch:
                later.append(job)
                continue
            batch[new.id] = job
            size += len(new.body or b"")
        self._waiting.extendleft(reversed(later))
        return list(batch.values())

    def _add(self, session: Session, new: list[Record]) -> dict[str, float | Exception]:
        try:
            return dict(self._blobs.add(session, new))
        except Error as error:
            again = isinstance(error, failures.AGAIN) or failures.is_elsewhere(error)
            if session.closed or len(new) == 1 or again:
                raise
        # One of them alone may be the cause: store them one by one.
        stored: dict[str, float | Exception] = {}
        for each in new:
            try:
                stored.update(self._blobs.add(session, [each]))
            except Error as error:
                stored[each.id] = failures.meaning(error, self._connections.name)
        return stored

    def _answer(self, result: Any, batch: list[_Job]) -> None:
        self._next()
        for new, done in batch:
            outcome = result if isinstance(result, Failure) else result.get(new.id)
            done.callback(Failure(outcome) if isinstance(outcome, Exception) else outcome)
