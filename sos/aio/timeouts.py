"""Deadlines that are cheap to set and clear, because most are met."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import Any, Protocol


class HasDeadline(Protocol):
    """An object with a deadline."""

    def on_deadline(self) -> None:
        """Handle a missed deadline."""


class Deadlines:
    """Deadlines of any number of objects, checked by one timer.

    It calls ``on_deadline`` of an object in the context where its deadline was set.  A
    delayed call for each, most of which would be cancelled, would cost more than
    the work that it guards.

    :param tick: seconds between checks; ``on_deadline`` can be called so much later.
    """

    def __init__(self, clock: Any, tick: float) -> None:
        self.clock = clock
        self._tick = tick
        self._due: dict[HasDeadline, tuple[float, Context]] = {}
        self._ticking = False

    def set(self, who: HasDeadline, seconds: float) -> None:
        """Set the deadline of *who* to *seconds* from now."""
        self._due[who] = self.clock.seconds() + seconds, copy_context()
        if not self._ticking:
            self._ticking = True
            self.clock.callLater(self._tick, self._look)

    def clear(self, who: HasDeadline) -> None:
        """Clear the deadline of *who*, if it has one."""
        self._due.pop(who, None)

    def _look(self) -> None:
        self._ticking = bool(self._due)
        if self._ticking:
            self.clock.callLater(self._tick, self._look)
            now = self.clock.seconds()
            for who in [who for who, (due, _) in self._due.items() if due <= now]:
                _, context = self._due.pop(who, (now, None))
                if context is not None:  # unless another's on_deadline() cleared it
                    context.run(who.on_deadline)
