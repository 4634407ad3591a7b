"""Blocking work on a file, for an owner that may be cancelled meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from sos.aio.limited_log import LimitedLog

T = TypeVar("T")

_log = LimitedLog(Logger())


class RunInThread(Protocol):
    """Runs ``function(*args)`` on some other thread; the result comes back on this one."""

    def __call__(self, function: Callable[..., T], *args: Any) -> Deferred[T]: ...


def shielded(work: Deferred[T]) -> Deferred[T]:
    """Return a Deferred of *work*'s result; cancelling it leaves *work* alone."""
    result: Deferred[T] = Deferred()
    work.chainDeferred(result)
    return result


class Lane:
    """Runs things on other threads, and cleans up when they have ended.

    The owner's cancellation does not stop what a thread is in the middle of,
    so cleaning up has to wait for that: closing a descriptor under a running
    write would let the write hit whatever file is opened next.
    """

    def __init__(self, run_in_thread: RunInThread) -> None:
        self._run_in_thread = run_in_thread
        self._running = 0
        self._clean_ups: list[Callable[[], None]] = []

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run ``function(*args)``."""
        work = self._run_in_thread(function, *args)
        self._running += 1
        # Another Deferred, whose cancellation leaves the work alone.
        result: Deferred[T] = Deferred()

        def pass_on(outcome: Any) -> None:
            self._running -= 1
            while self._clean_ups and not self._running:
                _clean_up(self._clean_ups.pop(0))
            result.callback(outcome)

        work.addBoth(pass_on)
        return result

    def afterwards(self, clean_up: Callable[[], None]) -> None:
        """Call *clean_up* now, or as soon as nothing runs any more."""
        if self._running:
            self._clean_ups.append(clean_up)
        else:
            _clean_up(clean_up)


def _clean_up(clean_up: Callable[[], None]) -> None:
    try:
        clean_up()
    except Exception:
        # What is left over is settled at the next start; the work itself is done.
        _log.failure("what is not needed any more could not be cleaned up")


def threads_of(reactor: Any) -> RunInThread:
    """Return how to run something on the threads that *reactor* keeps."""
    return partial(deferToThreadPool, reactor, reactor.getThreadPool())
