"""The store that a daemon keeps itself: what ``--store`` means."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.python.usage import UsageError

from sos import ids
from sos.interfaces import IReplicaStore
from sos.stores.factories import scheme_of
from sos.tap import engine, local
from sos.tap.options import DaemonOptions
from sos.tap.overview import Part
from sos.tap.worker import Worker


def check(options: DaemonOptions) -> None:
    """Settle what ``--store`` of *options* means; raises UsageError when it means nothing."""
    place = options["store"]
    scheme = scheme_of(place)
    if scheme is None:
        # Paths mean what they meant when they were typed, wherever twistd goes.
        options["store"] = os.path.abspath(place.removeprefix("file:"))
        return
    if scheme == "memory" and options["workers"] > 1:
        raise UsageError("--store memory: is the memory of one process, and has no --workers")
    try:
        engine.check(place)
    except ValueError as error:
        raise UsageError(f"--store: {error}") from None


def claim(options: DaemonOptions, reactor: Any) -> Callable[[], int] | None:
    """Return what locks the store for workers; None where that needs no lock."""
    if engine.is_engine(options["store"]):
        return None
    return partial(local.claim_store, options, reactor)


def add_store(
    whole: MultiService,
    options: DaemonOptions,
    reactor: Any,
    algorithm: str = ids.DEFAULT_ALGORITHM,
    worker: Worker | None = None,
) -> tuple[IReplicaStore, Part]:
    """Add the store of *options* to the service *whole*; return it, and how it is doing.

    :param worker: the process that this is, if others share the store.
    """
    add = engine.add_store if engine.is_engine(options["store"]) else local.add_store
    return add(whole, options, reactor, algorithm, worker)


def describe(options: DaemonOptions) -> list[str]:
    """Tell of the store that *options* describe, and nothing of its password."""
    place = options["store"]
    return engine.describe(options) if engine.is_engine(place) else local.describe(options)
