"""The right to drop blobs, which one pass at a time has in a group."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from sos.errors import NotFound, SOSError
from sos.interfaces import IReplicaStore

#: Seconds for which a lease is asked for.  That of a process which was killed
#: keeps others waiting for so long.
SECONDS = 120
# Seconds after which another is asked for, so that there is time to use it.
_FRESH_SECONDS = 60.0


class Leases:
    """The leases of all *stores* of a group.

    Two passes that think differently about who should hold a blob could each
    see the copies that they ask for, and drop what the other has seen.  So
    one pass alone drops, while it has the lease of every server.  A server of
    the original system grants none, and drops nothing either.

    A lease that could not be had once is not asked for again.
    """

    def __init__(self, stores: Mapping[str, IReplicaStore], clock: IReactorTime) -> None:
        self._stores = stores
        self._clock = clock
        self._lock = DeferredLock()
        self._tokens: dict[str, str] = {}
        self._since: float | None = None
        self._failure: SOSError | None = None

    async def tokens(self) -> Mapping[str, str]:
        """Return the leases, by the names of the servers.

        Raises what a server refuses its lease with: Conflict when another pass has it.
        """
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._since is None or self._clock.seconds() - self._since > _FRESH_SECONDS:
                await self._acquire()
            return self._tokens

    async def _acquire(self) -> None:
        await self.release()
        self._since = self._clock.seconds()
        try:
            # In one order, so that of two passes one gets all of them.
            for name in sorted(self._stores):
                with suppress(NotFound):
                    self._tokens[name] = await self._stores[name].lease(SECONDS)
        except SOSError as error:
            self._failure = error
            await self.release()
            raise

    async def release(self) -> None:
        """Give back what there is; it would expire, but others may be waiting."""
        tokens, self._tokens, self._since = self._tokens, {}, None
        for name, token in tokens.items():
            with suppress(SOSError):  # then it expires
                await self._stores[name].release(token)
