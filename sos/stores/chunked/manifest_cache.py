"""A cache of manifests, for further reads of the same object."""

from __future__ import annotations

from collections import OrderedDict

from sos.model.manifest import MAX_CHUNKS, Manifest

#: Most chunks in all cached manifests, some 200 bytes each.  The largest possible
#: manifest still fits.
MOST_CHUNKS = MAX_CHUNKS


class ManifestCache:
    """An LRU cache of manifests.

    An entry is never stale: it lists the bytes of a content id.  But its chunks can
    be gone while those of another manifest of the object are still there.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Manifest] = OrderedDict()
        self._chunks = 0

    def get(self, id: str) -> Manifest | None:
        """Return the manifest of the object *id*, None if it is not cached."""
        found = self._kept.get(id)
        if found is not None:
            self._kept.move_to_end(id)
        return found

    def keep(self, manifest: Manifest) -> None:
        """Cache *manifest*, and replace any other of the same object."""
        self.forget(manifest.id)
        self._kept[manifest.id] = manifest
        self._chunks += len(manifest.chunks)
        while self._chunks > MOST_CHUNKS:
            self.forget(next(iter(self._kept)))

    def forget(self, id: str) -> None:
        """Remove the manifest of the object *id* from the cache, if it is there."""
        gone = self._kept.pop(id, None)
        if gone is not None:
            self._chunks -= len(gone.chunks)
