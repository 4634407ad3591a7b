"""Hashes of bodies and of partitions."""

from __future__ import annotations

from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.digest import BodyDigest, PartitionDigest, hash_of, record_sum
from sos.errors import Incomplete, Mismatch


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
    assert record_sum("a", b"{}") != record_sum("a", b'{"X-A":"1"}')
    assert record_sum("a", b"{}") != record_sum("b", b"{}")
