"""Group commit: one statement, which is one transaction, for all blobs that wait.

While a transaction is being made durable others queue up, and the next one
takes them all: under load many uploads share one commit.
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

# Blobs of a transaction at most, and bytes of the bodies in them.
_MOST_TOGETHER = 256
_MOST_BYTES = 4 * 1024 * 1024

# What fires with the time of storing, or None when something is stored already.
_Job = tuple[Record, Deferred[float | None]]


class Committer:
    """Adds blobs to the table, one batch at a time."""

    def __init__(self, blobs: Blobs, connections: Connections, reactor: Any) -> None:
        self._blobs = blobs
        self._connections = connections
        self._reactor = reactor
        self._waiting: deque[_Job] = deque()
        self._busy = False

    def add(self, new: Record) -> Deferred[float | None]:
        """Store *new*, durably, if nothing is stored under its id.

        Fires with the time of storing; with None when something is, or when
        its pieces are not all there.
        """
        done: Deferred[float | None] = Deferred()
        self._waiting.append((new, done))
        if not self._busy:
            # After all that this turn of the reactor brings.
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
        """Return what is to be stored together: no two under one id."""
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
        # It may be the fault of one of them alone.
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
