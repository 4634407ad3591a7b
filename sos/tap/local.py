"""A local store in a daemon: its options, and the services that keep it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, ensureDeferred

from sos.daemon.options import DaemonOptions, parameter
from sos.daemon.reload import Reloading
from sos.daemon.services import give_up
from sos.daemon.status import StorePart
from sos.errors import StoreUnusable
from sos.model import config
from sos.model.config import Reserve
from sos.monitoring.commit_metrics import Commits
from sos.scrub import ScrubService
from sos.stores.local import LocalStore

PARAMETERS = [
    parameter("reserve", None, Reserve(percent=1), "Of the disk, to stay free.", config.reserve),
    parameter("scrub-rate", None, 20 << 20, "Bytes to read again in a second.", config.size),
    parameter(
        "scrub-every",
        None,
        None,
        "Seconds from scrub to scrub, 0: none. [default: 604800 in a directory, else 0]",
        config.seconds,
    ),
]
_SCRUB_EVERY = 604800.0
FLAGS = [
    ["no-fsync", None, "Acknowledge what a power cut would lose: for scratch use."],
    ["require-store", None, "Make no new store where there is none, as on a disk not mounted."],
]


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
    whole: MultiService, options: DaemonOptions, reactor: Any, algorithm: str
) -> tuple[LocalStore, StorePart]:
    """Add the store that *options* describe, and its scrub, to the service *whole*.

    Returns it, and how it is doing.
    """
    directory = Path(options["store"])
    commits = Commits()
    store = LocalStore(
        directory,
        reactor,
        algorithm,
        durable=not options["no-fsync"],
        reserve=options["reserve"],
        committed=commits.observe,
        require=bool(options["require-store"]),
    )
    StoreService(store).setServiceParent(whole)
    # Which would end the process, as who sends it to every daemon does not mean.
    Reloading(lambda: "there is no configuration to read again", reactor).setServiceParent(whole)
    path, every = directory / "scrub.json", _scrub_every(options)
    scrub = ScrubService(store.by_place, path, options["scrub-rate"], every, reactor, time.time)
    if every:
        scrub.setServiceParent(whole)
    return store, StorePart(store, scrub.report, commits)


def _scrub_every(options: DaemonOptions) -> float:
    every: float | None = options["scrub-every"]
    return _SCRUB_EVERY if every is None else every


def describe(options: DaemonOptions) -> list[str]:
    """Tell of the store that *options* describe."""
    lines = [
        f"store {options['store']}, {options['reserve']} in reserve",
        "fsync OFF: a power cut loses what was acknowledged" if options["no-fsync"] else "fsync on",
    ]
    every = _scrub_every(options)
    if every:
        rate = options["scrub-rate"]
        lines.append(f"scrub every {every:g} s at {rate} bytes/s")
    else:
        lines.append("no scrub: run sos scrub")
    return lines
