"""Idle timeouts: cancel work that makes no progress."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, ensureDeferred

from sos.errors import Unavailable

T = TypeVar("T")

#: Called after each bit of progress.
OnProgress = Callable[[], object]


async def with_stall_timeout(
    work: Callable[[OnProgress], Coroutine[Any, Any, T]], seconds: float, clock: Any, whom: str
) -> T:
    """Return the result of *work*; cancel it after *seconds* without progress.

    :param work: called with a function that it must call after each bit of progress.
    :param whom: the server, for the error.
    :raises Unavailable: on a timeout.
    """
    stalled = False

    def give_up() -> None:
        nonlocal stalled
        stalled = True
        working.cancel()

    timer = clock.callLater(seconds, give_up)

    def moved() -> None:
        if timer.active():
            timer.reset(seconds)

    working = ensureDeferred(work(moved))
    try:
        return await working
    except CancelledError:
        if stalled:
            raise Unavailable(f"timed out: {whom} made no progress for {seconds:g} s") from None
        raise
    finally:
        if timer.active():
            timer.cancel()
