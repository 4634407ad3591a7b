"""Blobs in a Redis: ``--store redis://...``."""

from __future__ import annotations

from typing import Any

from sos.interfaces import IEngineStore
from sos.stores.engines.redis.address import store_address


def make(url: str, algorithm: str, reactor: Any) -> IEngineStore:
    """Return the store that *url* describes; see :class:`~sos.interfaces.IStoreFactory`."""
    address = store_address(url)
    # Import only for a valid URL: importing txredisapi installs a reactor.
    from sos.stores.engines.redis.store import RedisStore

    return RedisStore(address, reactor, algorithm)
