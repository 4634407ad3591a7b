"""A cache of manifests, for further reads of the same object."""

from __future__ import annotations

from collections import OrderedDict

from attrs import define

from sos.model.manifest import MAX_CHUNKS, Manifest

#: Most chunks in all cached manifests, some 300 bytes each.  The largest possible
#: manifest still fits.
MOST_CHUNKS = MAX_CHUNKS


@define
class _Entry:
    text: bytes
    manifest: Manifest
    verified: bool = False


class ManifestCache:
    """An LRU cache of manifests.

    An entry is never stale: it lists the bytes of a content id.  But its chunks can
    be gone while those of another manifest of the object are still there.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Entry] = OrderedDict()
        self._chunks = 0

    def get(self, id: str) -> Manifest | None:
        """Return the manifest of the object *id*, None if it is not cached."""
        found = self._kept.get(id)
        if found is None:
            return None
        self._kept.move_to_end(id)
        return found.manifest

    def parsed(self, id: str, text: bytes) -> Manifest | None:
        """Return the manifest of the object *id* if *text* is its body, else None."""
        found = self._kept.get(id)
        return self.get(id) if found is not None and found.text == text else None

    def keep(self, text: bytes, manifest: Manifest) -> None:
        """Cache *manifest*, whose body is *text*, and replace any other of the same object."""
        self.forget(manifest.id)
        self._kept[manifest.id] = _Entry(text, manifest)
        self._chunks += len(manifest.chunks)
        while self._chunks > MOST_CHUNKS:
            self.forget(next(iter(self._kept)))

    def forget(self, id: str) -> None:
        """Remove the manifest of the object *id* from the cache, if it is there."""
        gone = self._kept.pop(id, None)
        if gone is not None:
            self._chunks -= len(gone.manifest.chunks)

    def is_verified(self, manifest: Manifest) -> bool:
        """Return whether the chunks of *manifest* are known to hash to the id of its object."""
        found = self._kept.get(manifest.id)
        return found is not None and found.manifest is manifest and found.verified

    def verified(self, manifest: Manifest) -> None:
        """Remember that the chunks of *manifest*, if cached, hash to the id of its object."""
        found = self._kept.get(manifest.id)
        if found is not None and found.manifest is manifest:
            found.verified = True
