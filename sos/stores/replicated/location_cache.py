"""Cache of the locations of blobs outside of their replica sets."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

# Blobs whose location this process remembers.
_MOST = 100_000
# Prefix of the id in the keys of the shared cache.
_PREFIX = b"sos:where:"


class ICache(Protocol):
    """Cache that several processes share.

    It may forget values or return wrong ones, so verify them.  It never raises, and
    answers soon.
    """

    async def get(self, key: bytes) -> bytes | None:
        """Return the value of *key*, None if there is none or the cache has failed."""

    def set(self, key: bytes, value: bytes) -> None:
        """Set *key* to *value* in the background, if the cache works."""

    def add(self, key: bytes, value: bytes) -> None:
        """Do the same, unless *key* has a value."""

    async def replace(self, key: bytes, value: bytes) -> bool:
        """Set *key* to *value*, and return whether that succeeded."""


class LocationCache:
    """The servers on which blobs were found, by the ids of the blobs.

    :param cache: shares the locations with other API servers.
    """

    def __init__(self, cache: ICache | None = None) -> None:
        self._cache = cache
        self._names: OrderedDict[str, str] = OrderedDict()

    def known(self, id: str) -> str | None:
        """Return the name of the server that this process remembers for *id*, if any."""
        return self._names.get(id)

    async def shared(self, id: str) -> str | None:
        """Return the server name in the shared cache, if any; it can be wrong."""
        if self._cache is None:
            return None
        value = await self._cache.get(_PREFIX + id.encode("ascii"))
        return None if value is None else value.decode("utf-8", "replace")

    def remember(self, id: str, name: str) -> None:
        """Remember, in this process and in the shared cache, that the server *name* has *id*."""
        self._names[id] = name
        self._names.move_to_end(id)
        if len(self._names) > _MOST:
            self._names.popitem(last=False)
        if self._cache is not None:
            self._cache.set(_PREFIX + id.encode("ascii"), name.encode())

    def forget(self, id: str) -> None:
        """Forget *id* in this process; its entry in the shared cache expires by itself."""
        self._names.pop(id, None)
