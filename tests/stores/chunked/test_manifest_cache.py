"""Manifests that are kept: which, and how many."""

from __future__ import annotations

from sos.model.manifest import Chunk, Manifest
from sos.stores.chunked.manifest_cache import MOST_CHUNKS, ManifestCache


def manifest(id, chunks):
    return Manifest(id, chunks, (Chunk("c", 1),) * chunks)


def keep(cache, manifest):
    cache.keep(b"body of " + manifest.id.encode(), manifest)


def test_what_was_asked_for_last_is_kept():
    """Whatever is over the limit goes, that which nobody wanted for longest first."""
    cache = ManifestCache()
    third = MOST_CHUNKS // 3
    for id in "abc":
        keep(cache, manifest(id, third))
    assert cache.get("a") == manifest("a", third)
    keep(cache, manifest("d", third))
    assert cache.get("b") is None
    assert all(cache.get(id) is not None for id in "acd")
    keep(cache, manifest("e", 2 * third))
    assert [id for id in "abcde" if cache.get(id) is not None] == ["d", "e"]


def test_the_largest_is_kept():
    """It takes the room of all others."""
    cache = ManifestCache()
    keep(cache, manifest("a", 2))
    keep(cache, manifest("b", MOST_CHUNKS))
    assert cache.get("a") is None
    assert cache.get("b") is not None


def test_what_is_forgotten_makes_room():
    """As does another manifest of the same object."""
    cache = ManifestCache()
    for _ in range(3):
        keep(cache, manifest("a", MOST_CHUNKS))
    cache.forget("a")
    cache.forget("a")
    assert cache.get("a") is None
    keep(cache, manifest("b", MOST_CHUNKS - 2))
    keep(cache, manifest("c", 2))
    assert cache.get("b") is not None


def test_a_body_that_was_parsed_is_not_parsed_again():
    """But any other is."""
    cache = ManifestCache()
    kept = manifest("a", 2)
    cache.keep(b"text", kept)
    assert cache.parsed("a", b"text") is kept
    assert cache.parsed("a", b"other") is None
    assert cache.parsed("b", b"text") is None


def test_what_is_verified_is_known_until_it_is_replaced():
    """Another manifest of the same object, even an equal one, is not verified by that."""
    cache = ManifestCache()
    one, other = manifest("a", 2), manifest("a", 3)
    cache.verified(one)
    cache.keep(b"one", one)
    assert not cache.is_verified(one)
    cache.verified(one)
    assert cache.is_verified(one)
    assert not cache.is_verified(other)
    cache.keep(b"other", other)
    cache.verified(one)
    assert not cache.is_verified(one)
    assert not cache.is_verified(other)
