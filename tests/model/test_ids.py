"""Ids and partitions."""

from __future__ import annotations

from hashlib import sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import InvalidId
from sos.model import ids


@pytest.mark.parametrize("id", ["a", "0", "abc123", "z" * 128])
def test_letters_and_digits_are_an_id(id):
    """1 to 128 of them."""
    assert ids.check(id) == id


@pytest.mark.parametrize(
    "text", ["", "A", "a b", "a\n", "a\0", "..", "a/b", "a-b", "\u00e9", "\uff11", "a" * 129]
)
def test_anything_else_is_none(text):
    """A trailing newline and digits of other scripts neither."""
    with pytest.raises(InvalidId):
        ids.check(text)


def test_a_content_id_tells_its_hash():
    """By its length, if it is hex."""
    assert ids.algorithm(sha1(b"").hexdigest()) == "sha1"
    assert ids.algorithm(sha256(b"").hexdigest()) == "sha256"
    assert ids.algorithm("g" * 40) is None
    assert ids.algorithm("a" * 41) is None


@given(st.binary(max_size=10))
def test_the_partition_of_a_content_id_is_its_beginning(body):
    """So that the blobs of a partition stand together in a listing."""
    id = sha1(body).hexdigest()
    assert ids.partition(id) == id[:3]
    assert ids.sort_key(id) == id[:3] + id


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=128))
def test_every_id_has_a_partition(id):
    """Three hex digits, whatever it is."""
    assert ids.check_partition(ids.partition(id))


@pytest.mark.parametrize("text", ["", "ab", "abcd", "ABC", "xyz", "ab\n"])
def test_three_hex_digits_are_a_partition(text):
    """And nothing else."""
    with pytest.raises(InvalidId):
        ids.check_partition(text)
