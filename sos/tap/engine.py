"""A daemon's store in an engine: ``--store redis://...`` and similar URLs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from sos.daemon.options import DaemonOptions
from sos.daemon.reload import Reloading
from sos.daemon.services import shut_down
from sos.daemon.status import StorePart
from sos.errors import StoreUnusable, Unavailable
from sos.interfaces import IEngineStore
from sos.model import ids
from sos.scrub import ScrubService
from sos.stores.factories import factory, scheme_of

# Seconds until the next attempt to open an engine: at first, and at most.
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0

_log = Logger()


class EngineService(Service):
    """Opens a store as soon as its engine is reachable, and closes it at the end.

    Until then the daemon runs, and answers 503.

    :param unusable: ends the daemon; called with the reason if the engine cannot be used, and
        waiting does not help.
    :param require: whether the store must exist; if not, a missing store is created.
    """

    def __init__(
        self,
        store: IEngineStore,
        unusable: Callable[[Exception], None],
        reactor: Any,
        require: bool = False,
    ) -> None:
        self._store = store
        self._require = require
        self._unusable = unusable
        self._reactor = reactor
        self._opening: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._opening = ensureDeferred(self._open())

    async def _open(self) -> None:
        delay = _FIRST_DELAY
        while True:
            try:
                await self._store.open(self._require)
            except Unavailable as error:
                _log.warn(
                    "cannot open the store yet: {error}; trying again in {delay:g} s",
                    error=error,
                    delay=delay,
                )
                await deferLater(self._reactor, delay)
                delay = min(2 * delay, _LONGEST_DELAY)
            except CancelledError:
                raise
            except StoreUnusable as error:
                self._unusable(error)
                return
            except Exception as error:  # a bug must not leave a daemon without a store
                _log.failure("cannot open the store: store={store}", store=self._store.name)
                self._unusable(error)
                return
            else:
                _log.info("opened the store: store={store}", store=self._store.name)
                return

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return ensureDeferred(self._close())

    async def _close(self) -> None:
        if self._opening is not None:
            self._opening.addErrback(lambda failure: failure.trap(CancelledError))
            self._opening.cancel()
        await self._store.close()


def is_engine(place: str | None) -> bool:
    """Return whether *place*, the value of ``--store``, is the URL of an engine."""
    return place is not None and scheme_of(place) is not None


def check(place: str) -> None:
    """Raise ValueError unless *place* is the valid URL of a store."""
    from twisted.internet import reactor

    make(place, ids.DEFAULT_ALGORITHM, reactor)


def make(place: str, algorithm: str, reactor: Any) -> IEngineStore:
    """Return the store at *place*, without opening it; raises ValueError."""
    scheme = scheme_of(place)
    assert scheme is not None
    return factory(scheme).make(place, algorithm, reactor)


def add_store(
    whole: MultiService, options: DaemonOptions, reactor: Any, algorithm: str
) -> tuple[IEngineStore, StorePart]:
    """Add the store, and its scrub if it has one, to the service *whole*."""
    store = make(options["store"], algorithm, reactor)
    unusable = partial(shut_down, reactor=reactor)
    require = bool(options["require-store"])
    EngineService(store, unusable, reactor, require).setServiceParent(whole)
    # Without a handler, SIGHUP would end the process.
    Reloading(lambda: "this daemon has no list of servers to reload", reactor).setServiceParent(
        whole
    )
    every = options["scrub-every"]
    if not every:
        return store, StorePart(store, None)
    scrub = ScrubService(lambda: store, None, options["scrub-rate"], every, reactor, time.time)
    scrub.setServiceParent(whole)
    return store, StorePart(store, scrub.report)


def describe(options: DaemonOptions) -> list[str]:
    """Return lines for the log that describe the store of *options*."""
    from twisted.internet import reactor

    lines = [f"store {make(options['store'], ids.DEFAULT_ALGORITHM, reactor).name}"]
    if options["scrub-every"]:
        every, rate = options["scrub-every"], options["scrub-rate"]
        lines.append(f"scrubs every {every:g} s at {rate} bytes/s")
    return lines
