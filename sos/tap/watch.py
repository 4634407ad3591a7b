"""Regular health checks of the blob servers."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from sos.aio.periodic import PeriodicService
from sos.stores.replicated.store import ReplicatedStore

#: Seconds between checks.
LOOK_SECONDS = 30.0

_log = Logger()


class HealthCheck(PeriodicService):
    """Asks the servers of *members* for their status, and logs conflicts between them.

    Conflicts are two addresses of one store, an address with another store than before, and API
    servers with other views of the cluster.
    """

    def __init__(self, members: ReplicatedStore, clock: IReactorTime) -> None:
        super().__init__("health check of the blob servers", clock)
        self._members = members
        self._delay = 0.0
        self._reported: set[str] = set()

    def delay(self) -> float:
        return self._delay

    def check_now(self) -> None:
        """Check at once, after a change of the servers, which this also announces to them."""
        self._delay = 0.0
        self.restart()

    async def work(self) -> None:
        self._delay = LOOK_SECONDS
        errors = await self._members.look()
        for error in errors:
            if error not in self._reported:
                _log.error("{error}", error=error)
        if self._reported and not errors:
            _log.info("the conflicts between blob servers are resolved")
        self._reported = set(errors)
