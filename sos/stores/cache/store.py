"""A shared cache of small blobs, in front of a slow store."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from sos.auth.request_signing import Keys
from sos.interfaces import Blob, BlobInfo, IBlobWriter, Span, StoreStatus
from sos.model import ids
from sos.model.manifest import MARK
from sos.model.metadata import EMPTY, Metadata
from sos.stores.cache.sealed_blob import seal, unseal
from sos.stores.replicated.location_cache import ICache
from sos.stores.spool import IPlacingStore, Spooled

# A key in the cache is this prefix and the id.
_PREFIX = b"sos:blob:"


@implementer(IPlacingStore)
class CachedStore:
    """A store that reads small blobs from *cache* first, and else from *store*.

    Only blobs with content ids are cached, because they never change, and no manifests.
    An entry counts only if it was sealed with one of the keys; so nothing depends on
    a cache that loses, damages or forges entries.

    :param keys: returns the keys shared by the processes that use the cache.
    """

    def __init__(self, store: IPlacingStore, cache: ICache, keys: Callable[[], Keys]) -> None:
        self.name = store.name
        self._store = store
        self._cache = cache
        self._keys = keys

    async def read(self, id: str, span: Span | None = None) -> Blob:
        if span is not None or ids.algorithm(id) is None:
            return await self._store.read(id, span)
        entry = await self._cache.get(_PREFIX + id.encode("ascii"))
        if entry is not None:
            for key in self._keys().all:
                found = unseal(key, id, entry)
                if found is not None:
                    return Blob(BlobInfo(id, len(found[1]), found[0]), found[1])
        blob = await self._store.read(id)
        if isinstance(blob.body, bytes):  # a larger body is not
            self._keep(blob.info, blob.body)
        return blob

    def _keep(self, info: BlobInfo, body: bytes) -> None:
        if MARK not in info.metadata:
            entry = seal(self._keys().first, info.id, info.metadata, body)
            self._cache.set(_PREFIX + info.id.encode("ascii"), entry)

    async def stat(self, id: str) -> BlobInfo:
        return await self._store.stat(id)

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        return self._store.writer(id, metadata, size)

    async def place(self, spooled: Spooled) -> BlobInfo:
        return await self._store.place(spooled)

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        return await self._store.listing(after, limit, partition)

    async def status(self) -> StoreStatus:
        return await self._store.status()
