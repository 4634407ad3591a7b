"""The leases that allow one pass at a time to drop blobs in a group."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from sos.aio.gather import together, within
from sos.errors import Conflict, NotFound, SOSError
from sos.interfaces import IReplicaStore

#: Duration of a lease in seconds.  The lease of a killed process blocks others for so long.
SECONDS = 120
# Seconds between renewals during a pass.
_BEAT_SECONDS = 40.0
# Timeouts, in seconds: to grant or renew a lease, and to release it.
_GRANT_SECONDS = 30.0
_RELEASE_SECONDS = 2.0

_log = Logger()


class Leases:
    """The leases of all servers of a group.

    Two passes with different views of the replica set could each confirm the copies that the
    other one drops.  So a pass drops copies only while it holds the lease of every server,
    and while no server knows of an API server with another view.  A server of the original
    system grants no leases, and drops nothing.

    After a lease was refused or could not be renewed, none is requested again.
    """

    def __init__(self, stores: Mapping[str, IReplicaStore], clock: IReactorTime) -> None:
        self._stores = stores
        self._clock = clock
        self._lock = DeferredLock()
        self._tokens: dict[str, str] | None = None
        self._failure: Exception | None = None
        self._beat: IDelayedCall | None = None
        self._prolonging: Deferred[None] | None = None

    async def tokens(self) -> Mapping[str, str]:
        """Return the tokens of the leases, by server name; acquire them if need be.

        Raises Conflict when another pass holds a lease or an API server has another view,
        or any other error of a server.
        """
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._tokens is None:
                await self._acquire()
            assert self._tokens is not None
            return self._tokens

    async def confirm(self) -> None:
        """Renew all leases now.  Raises as :meth:`tokens` does if one was lost meanwhile."""
        await self.tokens()
        await self._prolong_all()
        await self.tokens()

    async def _acquire(self) -> None:
        tokens: dict[str, str] = {}
        try:
            # Always in the same order, so that one of two competing passes gets all leases.
            for name in sorted(self._stores):
                with suppress(NotFound):
                    granted = self._stores[name].lease(SECONDS)
                    tokens[name] = await within(_GRANT_SECONDS, granted, self._clock)
        except Exception as error:
            self._failure = error
            await self._give_all_back(tokens)
            raise
        try:
            await self._check_others()
        except Exception as error:
            self._failure = error
            await self._give_all_back(tokens)
            raise
        self._tokens = tokens
        self._beat = self._clock.callLater(_BEAT_SECONDS, self._prolong)

    def _prolong(self) -> None:
        self._prolonging = ensureDeferred(self._prolong_all())
        self._beat = self._clock.callLater(_BEAT_SECONDS, self._prolong)

    async def _prolong_all(self) -> None:
        try:
            await together(
                within(_GRANT_SECONDS, self._stores[name].lease(SECONDS, token), self._clock)
                for name, token in (self._tokens or {}).items()
            )
            await self._check_others()
        except CancelledError:
            pass
        except SOSError as error:
            self._failure = error
        except Exception as error:
            _log.failure("cannot extend a lease")
            self._failure = error

    async def _check_others(self) -> None:
        """Raise Conflict if a server knows of an API server with another view."""
        granted = _GRANT_SECONDS
        statuses = await together(
            within(granted, each.status(), self._clock) for each in self._stores.values()
        )
        for status in statuses:
            if status.others:
                raise Conflict(str(status.others[0]))

    async def release(self) -> None:
        """Release all leases: they would expire, but other passes may be waiting."""
        async with self._lock:  # wait for a request in flight, to release its lease as well
            tokens, self._tokens = self._tokens or {}, None
            if self._beat is not None:
                self._beat.cancel()
                self._beat = None
            if self._prolonging is not None:
                self._prolonging.cancel()
            await self._give_all_back(tokens)

    async def _give_all_back(self, tokens: Mapping[str, str]) -> None:
        await together(self._give_back(name, token) for name, token in tokens.items())

    async def _give_back(self, name: str, token: str) -> None:
        with suppress(SOSError):  # otherwise the lease expires
            await within(_RELEASE_SECONDS, self._stores[name].release(token), self._clock)
