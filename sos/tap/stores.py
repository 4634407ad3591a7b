"""The daemon's own store: the option ``--store``."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import MultiService
from twisted.python.usage import UsageError

from sos.daemon.options import DaemonOptions
from sos.daemon.status import Part
from sos.interfaces import IReplicaStore
from sos.model import ids
from sos.stores.factories import scheme_of
from sos.tap import engine, local


def check(options: DaemonOptions) -> None:
    """Check ``--store`` of *options*, and make a path absolute; raises UsageError."""
    place = options["store"]
    scheme = scheme_of(place)
    if scheme is None:
        # Resolve relative paths now: twistd may change its directory.
        options["store"] = os.path.abspath(place.removeprefix("file:"))
        return
    try:
        engine.check(place)
    except ValueError as error:
        raise UsageError(f"--store: {error}") from None
    for name in ("max-bytes", "max-blobs"):
        if options[name] is not None:
            raise UsageError(
                f"--{name} limits a store in a directory; limit an engine by its own settings"
            )


def add_store(
    whole: MultiService,
    options: DaemonOptions,
    reactor: Any,
    algorithm: str = ids.DEFAULT_ALGORITHM,
) -> tuple[IReplicaStore, Part]:
    """Add the store of *options* to the service *whole*; return it and its status."""
    add = engine.add_store if engine.is_engine(options["store"]) else local.add_store
    return add(whole, options, reactor, algorithm)


def describe(options: DaemonOptions) -> list[str]:
    """Return lines for the log that describe the store of *options*, without its password."""
    place = options["store"]
    return engine.describe(options) if engine.is_engine(place) else local.describe(options)
