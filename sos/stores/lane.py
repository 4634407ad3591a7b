"""Blocking work on a file, for an owner that may be cancelled meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")


class RunInThread(Protocol):
    """Runs ``function(*args)`` on some other thread; the result comes back on this one."""

    def __call__(self, function: Callable[..., T], *args: Any) -> Deferred[T]: ...


def shielded(work: Deferred[T]) -> Deferred[T]:
    """Return a Deferred of *work*'s result; cancelling it leaves *work* alone."""
    result: Deferred[T] = Deferred()
    work.chainDeferred(result)
    return result


class Lane:
    """Runs one thing at a time on another thread.

    The owner's cancellation does not stop what a thread is in the middle of,
    so cleaning up has to wait for that: closing a descriptor under a running
    write would let the write hit whatever file is opened next.
    """

    def __init__(self, run_in_thread: RunInThread) -> None:
        self._run_in_thread = run_in_thread
        self._running: Deferred[Any] | None = None

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Run ``function(*args)``; the one before it has ended."""
        work = self._run_in_thread(function, *args)
        # Another reference to the work's end, which never carries its failure.
        ended: Deferred[None] = Deferred()
        self._running = ended
        result: Deferred[T] = Deferred()

        def pass_on(outcome: Any) -> None:
            ended.callback(None)
            result.callback(outcome)

        work.addBoth(pass_on)
        return result

    def afterwards(self, clean_up: Callable[[], None]) -> None:
        """Call *clean_up* now, or as soon as what runs has ended."""
        if self._running is None:
            clean_up()
        else:
            self._running.addCallback(lambda _: clean_up())


def threads_of(reactor: Any) -> RunInThread:
    """Return how to run something on the threads that *reactor* keeps."""
    return partial(deferToThreadPool, reactor, reactor.getThreadPool())
