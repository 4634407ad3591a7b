"""The right to drop blobs, which one pass at a time has in a group."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from sos.aio.gather import together, within
from sos.errors import Conflict, NotFound, SOSError
from sos.interfaces import IReplicaStore

#: Seconds for which a lease is asked for.  That of a process which was killed
#: keeps others waiting for so long.
SECONDS = 120
# Seconds after which it is made to last longer, while there is a pass.
_BEAT_SECONDS = 40.0
# Seconds that a server has to give or prolong one, and to take it back.
_GRANT_SECONDS = 30.0
_RELEASE_SECONDS = 2.0

_log = Logger()


class Leases:
    """The leases of all *stores* of a group.

    Two passes that think differently about who should hold a blob could each
    see the copies that they ask for, and drop what the other has seen.  So
    one pass alone drops, while it has the lease of every server, and while no
    server has heard of an API server that goes by other servers.  A server of
    the original system grants none, and drops nothing either.

    A lease that could not be had, or that could not be made to last, is not
    asked for again.
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
        """Return the leases, by the names of the servers.

        Raises what a server refuses its lease with: Conflict when another pass has it.
        """
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._tokens is None:
                await self._acquire()
            assert self._tokens is not None
            return self._tokens

    async def _acquire(self) -> None:
        tokens: dict[str, str] = {}
        try:
            # In one order, so that of two passes one gets all of them.
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
            _log.failure("a lease could not be prolonged")
            self._failure = error

    async def _check_others(self) -> None:
        """Raise Conflict while another API server goes by other servers than this one."""
        granted = _GRANT_SECONDS
        told = await together(
            within(granted, each.status(), self._clock) for each in self._stores.values()
        )
        for status in told:
            if status.others:
                raise Conflict(str(status.others[0]))

    async def release(self) -> None:
        """Give back what there is; it would expire, but others may be waiting."""
        async with self._lock:  # one that is being asked for has to be given back as well
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
        with suppress(SOSError):  # then it expires
            await within(_RELEASE_SECONDS, self._stores[name].release(token), self._clock)
