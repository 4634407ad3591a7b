"""Locks by blob id, within this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock


class IdLocks:
    """Locks by id; each exists while it is held or awaited."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[DeferredLock, int]] = {}

    @asynccontextmanager
    async def of(self, id: str) -> AsyncGenerator[None, None]:
        """Hold the lock of *id* for the time of the block."""
        lock, wanted = self._locks.get(id, (DeferredLock(), 0))
        self._locks[id] = lock, wanted + 1
        try:
            async with lock:
                yield
        finally:
            lock, wanted = self._locks.pop(id)
            if wanted > 1:
                self._locks[id] = lock, wanted - 1
