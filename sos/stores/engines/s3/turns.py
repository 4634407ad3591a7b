"""Turns: what is done to one blob is done one after the other, by one process at least."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock


class Turns:
    """A lock for each id, for as long as somebody wants it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[DeferredLock, int]] = {}

    @asynccontextmanager
    async def of(self, id: str) -> AsyncGenerator[None, None]:
        """Be the only one to change *id* while the block runs."""
        lock, wanted = self._locks.get(id, (DeferredLock(), 0))
        self._locks[id] = lock, wanted + 1
        try:
            async with lock:
                yield
        finally:
            lock, wanted = self._locks.pop(id)
            if wanted > 1:
                self._locks[id] = lock, wanted - 1
