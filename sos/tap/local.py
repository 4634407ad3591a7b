"""A daemon's store in a directory: its options and its services."""

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
from sos.model import quantities
from sos.model.quantities import Quota, Reserve
from sos.monitoring.commit_metrics import Commits
from sos.scrub import ScrubService
from sos.stores.local import LocalStore

PARAMETERS = [
    parameter(
        "reserve",
        None,
        Reserve(percent=1),
        "Space to keep free on the disk: bytes (10G), or a percentage of its size.",
        quantities.reserve,
    ),
    parameter(
        "max-bytes",
        None,
        None,
        "Most bytes of blobs to hold (64K, 8M, 5G, 1T); by default unlimited.",
        quantities.limit,
    ),
    parameter(
        "max-blobs", None, None, "Most blobs to hold; by default unlimited.", quantities.count
    ),
    parameter(
        "scrub-rate",
        None,
        20 << 20,
        "Bytes per second that a scrub may read (64K, 8M); 0 for no limit.",
        quantities.size,
    ),
    parameter(
        "scrub-every",
        None,
        None,
        "Seconds between scrubs; 0 for none. [default: 604800 (a week) for a directory, 0 for an "
        "engine]",
        quantities.seconds,
    ),
]
_SCRUB_EVERY = 604800.0
FLAGS = [
    [
        "no-fsync",
        None,
        "Acknowledge uploads before they are on disk: a power failure loses some. For tests only.",
    ],
    [
        "require-store",
        None,
        "Do not start if there is no store, for example because its disk is not mounted, instead "
        "of creating one.",
    ],
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
    """Add the store of *options*, and its scrub, to the service *whole*.

    Returns the store and its status.
    """
    directory = Path(options["store"])
    commits = Commits()
    store = LocalStore(
        directory,
        reactor,
        algorithm,
        durable=not options["no-fsync"],
        reserve=options["reserve"],
        quota=_quota(options),
        committed=commits.observe,
        require=bool(options["require-store"]),
    )
    StoreService(store).setServiceParent(whole)
    # Without a handler, SIGHUP would end the process.
    Reloading(lambda: "this daemon has no list of servers to reload", reactor).setServiceParent(
        whole
    )
    path, every = directory / "scrub.json", _scrub_every(options)
    scrub = ScrubService(store.disk_order, path, options["scrub-rate"], every, reactor, time.time)
    if every:
        scrub.setServiceParent(whole)
    return store, StorePart(store, scrub.report, commits)


def _quota(options: DaemonOptions) -> Quota:
    return Quota(options["max-bytes"], options["max-blobs"])


def _scrub_every(options: DaemonOptions) -> float:
    every: float | None = options["scrub-every"]
    return _SCRUB_EVERY if every is None else every


def describe(options: DaemonOptions) -> list[str]:
    """Return lines for the log that describe the store of *options*."""
    quota = str(_quota(options))
    lines = [
        f"store {options['store']}, {options['reserve']} in reserve"
        + (f", at most {quota}" if quota else ""),
        "fsync OFF: a power failure loses acknowledged uploads"
        if options["no-fsync"]
        else "fsync on",
    ]
    every = _scrub_every(options)
    if every:
        rate = options["scrub-rate"]
        lines.append(f"scrubs every {every:g} s at {rate} bytes/s")
    else:
        lines.append("does not scrub: stop the daemon and run sos scrub now and then")
    return lines
