"""Group commit: one thread, one transaction for everything that waits.

While a transaction is being made durable others queue up, and the next one
takes them all: under load many uploads share one fsync.

The interpreter runs one thread at a time.  So the answers to one transaction
are given while the next is on its way to the disk: given before, they would
set the reactor's thread to work, and the two would take turns at each step.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any, TypeVar

import lmdb
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from sos.errors import NoSpace, ReadOnly, SOSError, Unavailable
from sos.stores.disk_errors import SyncFailed, disk_errors
from sos.stores.local.index import Index
from sos.stores.local.transaction import Transaction

T = TypeVar("T")

# Jobs of a transaction after which no more are waited for: a bound on its memory.
_MOST_TOGETHER = 256

_log = Logger()


# A step, and what fires with its result.
_Job = tuple[Callable[[Transaction], Any], Deferred[Any]]


class Committer:
    """Carries out changes of the index, each all or nothing, in order.

    After a failed sync it takes no more, and :attr:`failure` says why.

    :param committed: called, on the writer thread, with how many changes have
        been made durable together, and the seconds that this took.
    """

    def __init__(
        self,
        index: Index,
        reactor: Any,
        committed: Callable[[int, float], None] = lambda changes, seconds: None,
    ) -> None:
        self._index = index
        self._committed = committed
        self._reactor = reactor
        self._gathered: list[_Job] = []
        self._queue: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="sos-committer", daemon=True)
        self._unanswered: list[tuple[_Job, Any]] = []
        self._stopped = False
        self._stopping = False
        self.failure: str | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more, and return when everything submitted has been carried out."""
        self._stopped = True
        self._hand_over()
        self._queue.put(None)
        self._thread.join()

    def submit(self, step: Callable[[Transaction], T]) -> Deferred[T]:
        """Run ``step(transaction)`` in the writer thread.

        The Deferred fires, on the reactor's thread, with what *step* returned,
        once that is on stable storage.  A step that raises must not have
        changed anything yet; one may be run again, on a new transaction, when
        its first run was not committed.
        """
        if self._stopped:
            return fail(Unavailable("the store is closed"))
        done: Deferred[T] = Deferred()
        if not self._gathered:
            # Once for all that this turn of the reactor brings, because to wake
            # a thread costs more than most of them.
            self._reactor.callLater(0, self._hand_over)
        self._gathered.append((step, done))
        return done

    def _hand_over(self) -> None:
        jobs, self._gathered = self._gathered, []
        if jobs:
            self._queue.put(jobs)

    def fail(self, error: SyncFailed) -> ReadOnly:
        """Take no more after *error*, and return what to refuse with."""
        self.give_up(f"a write could not be made durable: {error}")
        return ReadOnly(self.failure or "")

    def give_up(self, reason: str) -> None:
        """Take no more, and say why."""
        if self.failure is None:
            self.failure = f"read-only since {reason}"
            _log.critical("{failure}", failure=self.failure)

    def _run(self) -> None:
        while not self._stopping:
            if self._queue.empty():
                self._answer()
            jobs = self._take()
            try:
                results = self._commit(jobs)
            except Exception as error:
                # Uploads must not wait for ever for a thread that is gone.
                refusal = Failure(self.fail(SyncFailed(f"{type(error).__name__}: {error}")))
                results = [refusal] * len(jobs)
            self._unanswered += zip(jobs, results, strict=True)
        self._answer()

    def _take(self) -> list[_Job]:
        """Return what waits, or wait for something."""
        jobs: list[_Job] = []
        while not jobs or (len(jobs) < _MOST_TOGETHER and not self._queue.empty()):
            more = self._queue.get()
            if more is None:
                self._stopping = True
                break
            jobs += more
        return jobs

    def _answer(self) -> None:
        if self._unanswered:
            self._reactor.callFromThread(_deliver, self._unanswered)
            self._unanswered = []

    def _commit(self, jobs: list[_Job]) -> list[Any]:
        """Return each job's result, or the Failure that it ended with."""
        if self.failure is not None:
            return [Failure(ReadOnly(self.failure))] * len(jobs)
        while True:
            try:
                with disk_errors():
                    return self._transaction(jobs)
            except lmdb.MapFullError:
                refusal = self._grow()
                if refusal is not None:
                    return [refusal] * len(jobs)
            except SyncFailed as error:
                of_lmdb = isinstance(error.__cause__, lmdb.Error)
                if of_lmdb and self._index.is_cramped() and not self._index.is_dead():
                    # LMDB takes a write that was cut short by a full disk for
                    # an input/output error; the transaction is undone.
                    return [Failure(NoSpace(f"the disk is full: {error}"))] * len(jobs)
                return self._give_up(error, jobs)
            except NoSpace as error:
                if self._index.is_dead():
                    return self._give_up(SyncFailed(str(error)), jobs)
                return [Failure(error)] * len(jobs)
            except Exception:
                return [Failure()] * len(jobs)

    def _grow(self) -> Failure | None:
        try:
            # No transaction may be open meanwhile, and it is the reactor that reads.
            blockingCallFromThread(self._reactor, self._index.grow)
        except Exception as error:
            return Failure(NoSpace(f"the index cannot grow: {error}"))
        return None

    def _give_up(self, error: SyncFailed, jobs: list[_Job]) -> list[Any]:
        refusal = Failure(self.fail(error))
        if self._index.is_dead():
            # Reading goes on; it is the reactor's thread that reads.
            blockingCallFromThread(self._reactor, self._index.reopen_to_read)
        return [refusal] * len(jobs)

    def _transaction(self, jobs: list[_Job]) -> list[Any]:
        results: list[Any] = []
        with self._index.begin() as transaction:
            for step, _ in jobs:
                try:
                    results.append(step(transaction))
                except SOSError:
                    results.append(Failure())
            self._answer()
            begun = perf_counter()
        if jobs:
            self._committed(len(jobs), perf_counter() - begun)
        return results


def _deliver(answers: list[tuple[_Job, Any]]) -> None:
    for (_, done), result in answers:
        done.callback(result)
