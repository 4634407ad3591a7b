"""A local store in a daemon: its options, and the services that keep it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, ensureDeferred

from sos import config, ids
from sos.config import Reserve
from sos.errors import StoreUnusable
from sos.scrub import Report, ScrubService
from sos.stores.local import LocalStore
from sos.tap.options import DaemonOptions, parameter
from sos.tap.services import give_up

PARAMETERS = [
    parameter("reserve", None, Reserve(percent=1), "Of the disk, to stay free.", config.reserve),
    parameter("scrub-rate", None, 20 << 20, "Bytes to read again in a second.", config.size),
    parameter(
        "scrub-every", None, 604800.0, "Seconds from scrub to scrub, 0: none.", config.seconds
    ),
]
FLAGS = [["no-fsync", None, "Acknowledge what a power cut would lose: for scratch use."]]


class StoreService(Service):
    """Keeps a local store open while the daemon runs."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def startService(self) -> None:
        try:
            self._store.open()
        except StoreUnusable as error:
            give_up(error)
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return ensureDeferred(self._store.close())


def add_store(
    whole: MultiService,
    options: DaemonOptions,
    reactor: Any,
    algorithm: str = ids.DEFAULT_ALGORITHM,
) -> tuple[LocalStore, Report, list[str]]:
    """Add the store that *options* describe, and its scrub, to the service *whole*.

    Returns it with the report of its scrub, and with lines that tell of it.
    """
    durable = not options["no-fsync"]
    directory = Path(options["store"])
    store = LocalStore(directory, reactor, algorithm, durable, options["reserve"])
    StoreService(store).setServiceParent(whole)
    lines = [
        f"store {directory}, {options['reserve']} in reserve",
        "fsync on" if durable else "fsync OFF: a power cut loses what was acknowledged",
    ]
    every = options["scrub-every"]
    scrub = ScrubService(
        store, directory / "scrub.json", options["scrub-rate"], every, reactor, time.time
    )
    if every:
        scrub.setServiceParent(whole)
        lines.append(f"scrub every {every:g} s at {options['scrub-rate']} bytes/s")
    else:
        lines.append("no scrub: run sos scrub")
    return store, scrub.report, lines
