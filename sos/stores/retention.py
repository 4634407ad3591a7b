"""Renewing and deleting objects, as clients ask for it."""

from __future__ import annotations

from attrs import frozen
from twisted.internet.defer import ensureDeferred

from sos.aio.threads import shielded
from sos.errors import Deleted, Unavailable
from sos.model import ids
from sos.stores.cache.reads import CachedReads
from sos.stores.replicated.store import ReplicatedStore


@frozen
class Retention:
    """Renews and deletes the objects of *store*.

    :param least_age: seconds since its last upload before which no object is deleted.
    :param cached: the shared cache of small objects, if there is one.
    """

    store: ReplicatedStore
    least_age: float = 0.0
    cached: CachedReads | None = None

    async def renew(self, id: str, expires: int | None = None) -> int:
        """Record that an object is stored now, see :meth:`sos.stores.spool.IPlacingStore.renew`."""
        return await self.store.renew(id, expires=expires)

    async def delete(self, id: str) -> int:
        """Delete an object; return the number of servers that have recorded it.

        Once begun, it goes on though the client leaves.  Raises as
        :meth:`~sos.stores.replicated.deletion.Deletion.run` does, and Unavailable if the shared
        cache may still have the object.
        """
        return await shielded(ensureDeferred(self._delete(id)))

    async def _delete(self, id: str) -> int:
        try:
            count = await self.store.delete(id, self.least_age)
        except (Deleted, Unavailable):  # some servers may have recorded it, now or before
            await self._forget(id)
            raise
        await self._forget(id)
        return count

    async def _forget(self, id: str) -> None:
        if self.cached is not None and ids.algorithm(id) is not None:
            await self.cached.forget(id)
