"""Where blobs are that are not where they belong."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

# Blobs whose place is remembered here.
_MOST = 100_000
# Keys of the shared cache are this and the id.
_PREFIX = b"sos:where:"


class ICache(Protocol):
    """A cache that several processes share.

    It may forget, and nothing that it says is to be trusted; but it never
    fails, and it answers soon.
    """

    async def get(self, key: bytes) -> bytes | None:
        """Return the value of *key*, None where there is none or the cache is in trouble."""

    def set(self, key: bytes, value: bytes) -> None:
        """Let *key* have *value* soon, if the cache can."""


class Locations:
    """Remembers servers by what blobs were found on them.

    :param cache: where others who look for the same blobs remember them.
    """

    def __init__(self, cache: ICache | None = None) -> None:
        self._cache = cache
        self._names: OrderedDict[str, str] = OrderedDict()

    def known(self, id: str) -> str | None:
        """Return the name of the server that is remembered here."""
        return self._names.get(id)

    async def told(self, id: str) -> str | None:
        """Return the name that the shared cache tells, which can be anything."""
        if self._cache is None:
            return None
        value = await self._cache.get(_PREFIX + id.encode("ascii"))
        return None if value is None else value.decode("utf-8", "replace")

    def remember(self, id: str, name: str) -> None:
        """Remember, here and in the shared cache, that the server *name* has *id*."""
        self._names[id] = name
        self._names.move_to_end(id)
        if len(self._names) > _MOST:
            self._names.popitem(last=False)
        if self._cache is not None:
            self._cache.set(_PREFIX + id.encode("ascii"), name.encode())

    def forget(self, id: str) -> None:
        """Forget *id* here, which no server has; what is shared goes by itself."""
        self._names.pop(id, None)
