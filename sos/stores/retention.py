"""Renewing and deleting objects, as clients ask for it."""

from __future__ import annotations

from attrs import frozen

from sos.errors import Deleted
from sos.stores.cache.reads import CachedReads
from sos.stores.replicated.store import ReplicatedStore


@frozen
class Retention:
    """Keeps and deletes the objects of *store*.

    :param least_age: seconds since its last upload before which no object is deleted.
    :param cached: the shared cache of small objects, if there is one.
    """

    store: ReplicatedStore
    least_age: float = 0.0
    cached: CachedReads | None = None

    async def renew(self, id: str) -> int:
        """Record that an object is stored now, see :meth:`sos.stores.spool.IPlacingStore.renew`."""
        return await self.store.renew(id)

    async def delete(self, id: str) -> int:
        """Delete an object; return the number of servers that have recorded it.

        Raises as :meth:`~sos.stores.replicated.deletion.Deletion.run` does.
        """
        try:
            count = await self.store.delete(id, self.least_age)
        except Deleted:
            await self._forget(id)  # perhaps the cache failed when it was deleted
            raise
        await self._forget(id)
        return count

    async def _forget(self, id: str) -> None:
        if self.cached is not None:
            await self.cached.forget(id)
