"""Blocking work on threads, for owners that can be cancelled meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from sos.aio.limited_log import LimitedLog
from sos.aio.tasks import unwanted

T = TypeVar("T")

_log = LimitedLog(Logger())


class RunInThread(Protocol):
    """A function that runs ``function(*args)`` on another thread, and returns to this one."""

    def __call__(self, function: Callable[..., T], *args: Any) -> Deferred[T]: ...


def shielded(work: Deferred[T]) -> Deferred[T]:
    """Return a Deferred of *work*'s result; cancelling it does not cancel *work*.

    If *work* fails after that, :func:`~sos.aio.tasks.unwanted` handles its failure.
    """
    result: Deferred[T] = Deferred()

    def pass_on(outcome: T | Failure) -> None:
        if not result.called:
            result.callback(outcome)
        elif isinstance(outcome, Failure):
            unwanted(outcome)

    work.addBoth(pass_on)
    return result


class ThreadJobs:
    """Functions on other threads, and clean-up when all have ended.

    Cancelling the owner does not stop a function on a thread, so clean-up has to
    wait for that: if a descriptor were closed during a write, the write could go
    to the file that is opened next.
    """

    def __init__(self, run_in_thread: RunInThread) -> None:
        self._run_in_thread = run_in_thread
        self._running = 0
        self._clean_ups: list[Callable[[], None]] = []

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run ``function(*args)`` on another thread; cancelling does not stop it."""
        work = self._run_in_thread(function, *args)
        self._running += 1

        def end(outcome: T) -> T:
            self._running -= 1
            while self._clean_ups and not self._running:
                _clean_up(self._clean_ups.pop(0))
            return outcome

        work.addBoth(end)
        return shielded(work)

    def afterwards(self, clean_up: Callable[[], None]) -> None:
        """Call *clean_up* now, or as soon as no function runs any more."""
        if self._running:
            self._clean_ups.append(clean_up)
        else:
            _clean_up(clean_up)


def _clean_up(clean_up: Callable[[], None]) -> None:
    try:
        clean_up()
    except Exception:
        # The next start cleans up the rest; the work itself is done.
        _log.failure("cleanup failed, the next start repeats it")


def on_thread(
    reactor: Any, pool: ThreadPool, function: Callable[..., T], *args: Any
) -> Deferred[T]:
    """Run ``function(*args)`` on a thread of *pool*; cancelling does not stop it."""
    return shielded(deferToThreadPool(reactor, pool, function, *args))


def threads_of(reactor: Any) -> RunInThread:
    """Return a function that runs functions in *reactor*'s thread pool."""
    return partial(on_thread, reactor, reactor.getThreadPool())
