"""Manifests that have been read, kept for the next part of the same object."""

from __future__ import annotations

from collections import OrderedDict

from sos.model.manifest import MAX_CHUNKS, Manifest

#: Most chunks in all the manifests that are kept, some 200 bytes each.  The
#: largest manifest is kept as well.
MOST_CHUNKS = MAX_CHUNKS


class ManifestCache:
    """Keeps those manifests that were asked for last.

    None is ever out of date: it says what bytes have a content id.  But its
    chunks can be gone where those of another manifest of the object are not.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Manifest] = OrderedDict()
        self._chunks = 0

    def get(self, id: str) -> Manifest | None:
        """Return the manifest of the object *id*, if it is kept."""
        found = self._kept.get(id)
        if found is not None:
            self._kept.move_to_end(id)
        return found

    def keep(self, manifest: Manifest) -> None:
        """Keep *manifest*, in the place of any other of its object."""
        self.forget(manifest.id)
        self._kept[manifest.id] = manifest
        self._chunks += len(manifest.chunks)
        while self._chunks > MOST_CHUNKS:
            self.forget(next(iter(self._kept)))

    def forget(self, id: str) -> None:
        """Keep the manifest of the object *id* no longer."""
        gone = self._kept.pop(id, None)
        if gone is not None:
            self._chunks -= len(gone.chunks)
