"""Reads through a shared cache of small blobs."""

from __future__ import annotations

import time
from collections.abc import Callable

from sos.auth.request_signing import Keys
from sos.errors import Unavailable
from sos.interfaces import Blob, BlobInfo, Read, Span
from sos.model import ids
from sos.model.expiry import has_expired
from sos.model.manifest import MARK
from sos.stores.cache.sealed_blob import seal, unseal
from sos.stores.replicated.location_cache import ICache

# A key in the cache is this prefix and the id.
_PREFIX = b"sos:blob:"


class CachedReads:
    """Reads of a store that look for small blobs in *cache* first.

    Only blobs with content ids are cached, because they never change, and no manifests.
    An entry counts only if it was sealed with one of the keys; so nothing depends on
    a cache that loses, damages or forges entries.  It does not count once the object has expired:
    a later upload can have prolonged its life.

    :param uncached: reads a blob from the store.
    :param keys: returns the keys shared by the processes that use the cache.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        uncached: Read,
        cache: ICache,
        keys: Callable[[], Keys],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._uncached = uncached
        self._cache = cache
        self._keys = keys

    async def read(self, id: str, span: Span | None = None) -> Blob:
        """Open a blob for reading, see :meth:`sos.interfaces.IBlobStore.read`."""
        if span is not None or ids.algorithm(id) is None:
            return await self._uncached(id, span)
        entry = await self._cache.get(_PREFIX + id.encode("ascii"))
        if entry is not None:
            for key in self._keys().all:
                found = unseal(key, id, entry)
                if found is not None and not has_expired(found[0], self._now()):
                    return Blob(BlobInfo(id, len(found[1]), found[0]), found[1])
        blob = await self._uncached(id, None)
        if isinstance(blob.body, bytes):  # a larger body is not
            self._keep(blob.info, blob.body)
        return blob

    async def forget(self, id: str) -> None:
        """Remove a blob that was deleted from the cache, and keep it out.

        Raises Unavailable if the cache does not confirm that.
        """
        # An entry that is not sealed: reads in progress cannot add the blob again.
        if not await self._cache.replace(_PREFIX + id.encode("ascii"), b"deleted"):
            raise Unavailable(f"the shared cache may still have {id}, which is deleted; try again")

    def _keep(self, info: BlobInfo, body: bytes) -> None:
        if MARK not in info.metadata:
            entry = seal(self._keys().first, info.id, info.metadata, body)
            self._cache.add(_PREFIX + info.id.encode("ascii"), entry)
