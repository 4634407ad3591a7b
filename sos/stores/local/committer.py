"""Group commit: one thread, one transaction for all queued changes.

While a transaction is synced, further changes queue up, and the next transaction
takes them all: under load, many uploads share one fsync.

The interpreter runs one thread at a time.  So the results of one transaction are
delivered while the next one is synced.  Delivered earlier, they would wake the
reactor's thread, and the two threads would compete for the interpreter at each step.
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

# A transaction with so many jobs takes no more from the queue, to bound its memory.
_MOST_TOGETHER = 256

_log = Logger()


# A step, and the Deferred for its result.
_Job = tuple[Callable[[Transaction], Any], Deferred[Any]]


class Committer:
    """A queue of changes to the index, applied in order, each all or nothing.

    After a failed sync it refuses further changes, and :attr:`failure` says why.

    :param committed: called on the writer thread after each transaction, with the number
        of changes, and the seconds that the commit took.
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
        """Refuse further changes, and return when all submitted ones are done."""
        self._stopped = True
        self._hand_over()
        self._queue.put(None)
        self._thread.join()

    def submit(self, step: Callable[[Transaction], T]) -> Deferred[T]:
        """Run ``step(transaction)`` on the writer thread.

        The Deferred fires, on the reactor's thread, with the result of *step* once the
        change is on stable storage.  A step that raises must not have changed anything
        yet.  A step can run again, in a new transaction, if its first run was not
        committed.
        """
        if self._stopped:
            return fail(Unavailable("the store is closed"))
        done: Deferred[T] = Deferred()
        if not self._gathered:
            # Batch the changes of one reactor iteration: waking the thread costs more
            # than most changes do.
            self._reactor.callLater(0, self._hand_over)
        self._gathered.append((step, done))
        return done

    def _hand_over(self) -> None:
        jobs, self._gathered = self._gathered, []
        if jobs:
            self._queue.put(jobs)

    def fail(self, error: SyncFailed) -> ReadOnly:
        """Refuse further changes after *error*, and return the exception to refuse them with."""
        self.give_up(
            f"a write could not be made durable: {error}; check the disk, then restart the daemon"
        )
        return ReadOnly(self.failure or "")

    def give_up(self, reason: str) -> None:
        """Refuse further changes, and log why."""
        if self.failure is None:
            self.failure = f"the store is read-only because {reason}"
            _log.critical("{failure}", failure=self.failure)

    def _run(self) -> None:
        while not self._stopping:
            if self._queue.empty():
                self._answer()
            jobs = self._take()
            try:
                results = self._commit(jobs)
            except Exception as error:
                # The thread must survive any error, or uploads would wait for ever.
                refusal = Failure(self.fail(SyncFailed(f"{type(error).__name__}: {error}")))
                results = [refusal] * len(jobs)
            self._unanswered += zip(jobs, results, strict=True)
        self._answer()

    def _take(self) -> list[_Job]:
        """Return the queued jobs; wait until there is one, or :meth:`stop` is called."""
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
        """Return the result of each job, or its Failure."""
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
                if of_lmdb and self._index.is_nearly_full() and not self._index.has_panicked():
                    # LMDB reports a write cut short by a full disk as an input/output
                    # error.  It has aborted the transaction.
                    return [Failure(NoSpace(f"the disk is full: {error}"))] * len(jobs)
                return self._give_up(error, jobs)
            except NoSpace as error:
                if self._index.has_panicked():
                    return self._give_up(SyncFailed(str(error)), jobs)
                return [Failure(error)] * len(jobs)
            except Exception:
                return [Failure()] * len(jobs)

    def _grow(self) -> Failure | None:
        try:
            # No transaction may be open meanwhile.  Reads run on the reactor's thread; those on
            # other threads make this wait.
            blockingCallFromThread(self._reactor, self._index.grow)
        except Exception as error:
            return Failure(NoSpace(f"the index cannot grow: {error}"))
        return None

    def _give_up(self, error: SyncFailed, jobs: list[_Job]) -> list[Any]:
        refusal = Failure(self.fail(error))
        if self._index.has_panicked():
            # Reads must go on.
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
