"""The cache that API servers share, from its address to what asks it."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from sos.cache_address import CacheAddress
from sos.stores.cache import memcached
from sos.stores.cache.shared import SharedCache


def shared_cache(address: CacheAddress, reactor: Any) -> SharedCache:
    """Return the cache at *address*, which is asked for nothing yet."""
    endpoint: IStreamClientEndpoint
    if address.socket is not None:
        endpoint = UNIXClientEndpoint(reactor, address.socket)
    else:
        endpoint = HostnameEndpoint(reactor, address.host, address.port)
    if address.kind == "memcached":
        return SharedCache(str(address), partial(memcached.connect, endpoint), reactor)
    # Not before there is a reactor: the module's import would choose one.
    from sos.stores.cache import redis

    return SharedCache(str(address), partial(redis.connect, endpoint, address), reactor)
