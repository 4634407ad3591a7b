"""Hints of the workers that do not replicate, for the one that does."""

from __future__ import annotations

from typing import Any

from sos.repeating import RepeatingService
from sos.replication import Hints
from sos.tap.siblings import Siblings
from sos.tap.worker import FIRST

#: Seconds for which a hint waits for others to go with.
HINT_SECONDS = 1.0


class PassingOn(RepeatingService):
    """Sends *hints* of this worker to the one that replicates.

    One that is being started again misses them: it then compares everything anyway.
    """

    def __init__(self, hints: Hints, siblings: Siblings, clock: Any) -> None:
        super().__init__("passing hints on", clock)
        self._hints = hints
        self._siblings = siblings

    def delay(self) -> float:
        return HINT_SECONDS

    async def work(self) -> None:
        if self._hints:
            noticed = sorted(self._hints)
            self._hints.clear()
            self._siblings.inform(FIRST, noticed)


def take_from(siblings: Siblings, hints: Hints) -> None:
    """Note among *hints* those that other workers send."""

    def learn(news: Any) -> None:
        hints.update((group, partition) for group, partition in news)

    siblings.learn = learn
