"""A look at the blob servers every now and then, whether or not anybody asks."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.stores.replicated.store import ReplicatedStore

#: Seconds from one look to the next.
LOOK_SECONDS = 30.0

_log = Logger()


class Watch(PeriodicService):
    """Asks the servers behind *members* how they are doing, and logs what is wrong with them."""

    def __init__(self, members: ReplicatedStore, clock: IReactorTime) -> None:
        super().__init__("a look at the servers", clock)
        self._members = members
        self._delay = 0.0
        self._told: set[str] = set()

    def delay(self) -> float:
        return self._delay

    def look_now(self) -> None:
        """Look at once: there are other servers than before, which others are to be told."""
        self._delay = 0.0
        self.restart()

    async def work(self) -> None:
        self._delay = LOOK_SECONDS
        errors = await self._members.look()
        for error in errors:
            if error not in self._told:
                _log.error("{error}", error=error)
        if self._told and not errors:
            _log.info("the servers are in order again")
        self._told = set(errors)
