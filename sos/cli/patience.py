"""How long a command waits for a server that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, ensureDeferred

from sos.errors import Unavailable

T = TypeVar("T")

#: Is called each time that something has moved.
Moved = Callable[[], object]


async def patiently(
    work: Callable[[Moved], Coroutine[Any, Any, T]], seconds: float, clock: Any, whom: str
) -> T:
    """Return the result of *work*, as long as it gets on.

    It is called with what it calls each time that it does, and cancelled when that
    has not been for so many *seconds*: then Unavailable is raised, which names *whom*
    was waited for.
    """
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        working.cancel()

    timer = clock.callLater(seconds, give_up)

    def moved() -> None:
        if timer.active():
            timer.reset(seconds)

    working = ensureDeferred(work(moved))
    try:
        return await working
    except CancelledError:
        if late:
            raise Unavailable(f"{whom} did nothing for {seconds:g} s") from None
        raise
    finally:
        if timer.active():
            timer.cancel()
