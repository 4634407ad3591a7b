"""Manifests that are kept: which, and how many."""

from __future__ import annotations

from sos.model.manifest import Chunk, Manifest
from sos.stores.chunked.manifest_cache import MOST_CHUNKS, ManifestCache


def manifest(id, chunks):
    return Manifest(id, chunks, (Chunk("c", 1),) * chunks)


def test_what_was_asked_for_last_is_kept():
    """Whatever is over the limit goes, that which nobody wanted for longest first."""
    cache = ManifestCache()
    third = MOST_CHUNKS // 3
    for id in "abc":
        cache.keep(manifest(id, third))
    assert cache.get("a") == manifest("a", third)
    cache.keep(manifest("d", third))
    assert cache.get("b") is None
    assert all(cache.get(id) is not None for id in "acd")
    cache.keep(manifest("e", 2 * third))
    assert [id for id in "abcde" if cache.get(id) is not None] == ["d", "e"]


def test_the_largest_is_kept():
    """It takes the room of all others."""
    cache = ManifestCache()
    cache.keep(manifest("a", 2))
    cache.keep(manifest("b", MOST_CHUNKS))
    assert cache.get("a") is None
    assert cache.get("b") is not None


def test_what_is_forgotten_makes_room():
    """As does another manifest of the same object."""
    cache = ManifestCache()
    for _ in range(3):
        cache.keep(manifest("a", MOST_CHUNKS))
    cache.forget("a")
    cache.forget("a")
    assert cache.get("a") is None
    cache.keep(manifest("b", MOST_CHUNKS - 2))
    cache.keep(manifest("c", 2))
    assert cache.get("b") is not None
