"""Hashes of bodies and of partitions."""

from __future__ import annotations

from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import Incomplete, Mismatch
from sos.model.digest import BodyDigest, PartitionDigest, body_digest, hash_of, record_sum
from sos.model.manifest import MARK, MAX_BYTES, Chunk, Manifest, encode


@given(st.lists(st.binary(max_size=50)))
def test_a_body_is_hashed_as_it_passes(pieces):
    """How it is cut makes no difference."""
    body = b"".join(pieces)
    digest = BodyDigest(None)
    for piece in pieces:
        digest.update(piece)
    assert digest.verified_id() == sha1(body).hexdigest()
    assert digest.size == len(body)
    assert digest.value() == hash_of(digest.verified_id(), body)


def test_a_body_that_is_not_what_was_announced():
    """Too short comes before wrong."""
    with pytest.raises(Incomplete):
        BodyDigest("0" * 40, expected_size=1).verified_id()
    with pytest.raises(Mismatch):
        BodyDigest("0" * 40).verified_id()
    assert BodyDigest("opaque").verified_id() == "opaque"


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2**128 - 1)), max_size=8))
def test_a_partition_does_not_depend_on_the_order(blobs):
    """Two servers that hold the same have the same digest, however they came by it."""
    forward, backward = PartitionDigest(), PartitionDigest()
    for size, sum in blobs:
        forward = forward.with_blob(size, sum)
    for size, sum in reversed(blobs):
        backward = backward.with_blob(size, sum)
    assert forward == backward
    assert 0 <= forward.sum < 2**128


def test_metadata_is_part_of_what_is_held():
    """The same body with other metadata makes another digest."""
    assert record_sum("a", b"{}", b"1") != record_sum("a", b'{"X-A":"1"}', b"1")
    assert record_sum("a", b"{}", b"1") != record_sum("b", b"{}", b"1")
    assert record_sum("a", b"{}", b"1") != record_sum("a", b"{}", b"2")
    assert record_sum("a" * 40, b"{}", b"1") == record_sum("a" * 40, b"{}", b"2")


WHOLE = sha1(b"abc").hexdigest()
MANIFEST = encode(Manifest(WHOLE, 3, (Chunk("0" * 40, 1), Chunk("1" * 40, 2))))


def digest_of(body, id=WHOLE, mark="3", expected_size=None):
    digest = body_digest(id, {MARK: mark, "X-Name": "abc"}, expected_size=expected_size)
    for start in range(0, len(body), 50):
        digest.update(body[start : start + 50])
    return digest


def test_a_manifest_is_verified_as_one():
    """It does not hash to its id, and is the manifest of it; its hash is that of its bytes."""
    digest = digest_of(MANIFEST)
    assert digest.verified_id() == WHOLE
    assert (digest.size, digest.value()) == (len(MANIFEST), hash_of(WHOLE, MANIFEST))
    assert body_digest(WHOLE, {"X-Name": "abc"}).value() == BodyDigest(WHOLE).value()
    with pytest.raises(Incomplete):
        digest_of(MANIFEST, expected_size=1).verified_id()


@pytest.mark.parametrize(
    ("body", "id", "mark"),
    [
        (b"abc", WHOLE, "3"),
        (MANIFEST[:-1], WHOLE, "3"),
        (MANIFEST, WHOLE, "4"),
        (MANIFEST, "0" * 40, "3"),
        (MANIFEST, sha1(MANIFEST).hexdigest(), "3"),
        (MANIFEST, "name", "3"),
        (MANIFEST, None, "3"),
    ],
)
def test_what_is_marked_as_a_manifest_and_is_none(body, id, mark):
    """Neither the object itself nor the manifest of another is taken for it."""
    with pytest.raises(Mismatch):
        digest_of(body, id, mark).verified_id()


def test_a_manifest_is_not_gathered_without_end():
    """What is too long for one is refused as it comes."""
    digest = body_digest(WHOLE, {MARK: "3"})
    digest.update(bytes(MAX_BYTES))
    with pytest.raises(Mismatch):
        digest.update(b"x")
