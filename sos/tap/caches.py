"""The cache that API servers share."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from sos.interfaces import Read
from sos.model.cache_address import CacheAddress
from sos.stores.cache import memcached
from sos.stores.cache.reads import CachedReads
from sos.stores.cache.shared import SharedCache
from sos.tap import admission


class CacheService(Service):
    """Closes the connection to the cache when the daemon stops."""

    def __init__(self, cache: SharedCache) -> None:
        self._cache = cache

    def stopService(self) -> None:
        super().stopService()
        self._cache.stop()


def cached(read: Read, cache: SharedCache | None, secret_file: str | None) -> CachedReads | None:
    """Return *read* with a cache of small blobs; None without a cache or a secret file."""
    if cache is None or secret_file is None:
        return None
    return CachedReads(read, cache, admission.keys_in(secret_file))


def shared_cache(address: CacheAddress, reactor: Any) -> SharedCache:
    """Return the cache at *address*, without connecting to it."""
    endpoint: IStreamClientEndpoint
    if address.socket is not None:
        endpoint = UNIXClientEndpoint(reactor, address.socket)
    else:
        endpoint = HostnameEndpoint(reactor, address.host, address.port)
    if address.kind == "memcached":
        return SharedCache(
            str(address), partial(memcached.connect, endpoint), reactor, memcached.ERRORS
        )
    # Import it late: the module installs a reactor if there is none.
    from sos.stores.cache import redis

    return SharedCache(
        str(address), partial(redis.connect, endpoint, address), reactor, redis.ERRORS
    )
