"""Deadlines, of which most are met."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import Any, Protocol


class Hurried(Protocol):
    """Who has a deadline."""

    def late(self) -> None:
        """The deadline is over."""


class Deadlines:
    """Tells those who are late, in the context where they were given their time.

    One timer serves them all: a delayed call for each, which is cancelled as a
    rule, would cost more than what it guards.

    :param tick: seconds between looks; so much later one may be told.
    """

    def __init__(self, clock: Any, tick: float) -> None:
        self.clock = clock
        self._tick = tick
        self._due: dict[Hurried, tuple[float, Context]] = {}
        self._ticking = False

    def set(self, who: Hurried, seconds: float) -> None:
        """Give *who* so many *seconds* from now."""
        self._due[who] = self.clock.seconds() + seconds, copy_context()
        if not self._ticking:
            self._ticking = True
            self.clock.callLater(self._tick, self._look)

    def clear(self, who: Hurried) -> None:
        """Free *who* from its deadline, if it has one."""
        self._due.pop(who, None)

    def _look(self) -> None:
        self._ticking = bool(self._due)
        if self._ticking:
            self.clock.callLater(self._tick, self._look)
            now = self.clock.seconds()
            for who in [who for who, (due, _) in self._due.items() if due <= now]:
                _, context = self._due.pop(who, (now, None))
                if context is not None:  # unless an earlier one freed it
                    context.run(who.late)
