"""What a cache can do to a blob, and that it is seen."""

from __future__ import annotations

from hashlib import sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.auth.request_signing import Key
from sos.stores.cache.sealed_blob import seal, unseal

KEY = Key(b"k" * 32)
BODIES = st.binary(max_size=200)
METADATA = st.dictionaries(
    st.text("abc", min_size=1).map("X-{}".format), st.text("\u00e9 x\udcff", max_size=9), max_size=3
)


@given(BODIES, METADATA, st.sampled_from([sha1, sha256]))
def test_what_was_sealed_is_opened(body, metadata, algorithm):
    """By who has the key, and under the same id."""
    id = algorithm(body).hexdigest()
    entry = seal(KEY, id, metadata, body)
    assert unseal(KEY, id, entry) == (metadata, body)
    assert unseal(Key(b"o" * 32), id, entry) is None
    assert unseal(KEY, algorithm(body + b"!").hexdigest(), entry) is None


@given(BODIES, METADATA, st.data())
def test_what_was_damaged_is_not(body, metadata, data):
    """Whatever bit it is, and wherever it was cut."""
    id = sha1(body).hexdigest()
    entry = bytearray(seal(KEY, id, metadata, body))
    place = data.draw(st.integers(0, len(entry) - 1))
    assert unseal(KEY, id, bytes(entry[:place])) is None
    entry[place] ^= 1 << data.draw(st.integers(0, 7))
    assert unseal(KEY, id, bytes(entry)) is None


@given(st.binary(max_size=300))
def test_junk_is_not(junk):
    assert unseal(KEY, sha1(b"").hexdigest(), junk) is None


def test_a_body_of_another_id_is_not():
    """Even when somebody with the key has sealed it."""
    id = sha1(b"one").hexdigest()
    assert unseal(KEY, id, seal(KEY, id, {}, b"other")) is None


@pytest.mark.parametrize("metadata", [{"X-A": "a\nb"}, {"x": "y"}])
def test_metadata_that_cannot_be_are_not(metadata):
    id = sha1(b"x").hexdigest()
    assert unseal(KEY, id, seal(KEY, id, metadata, b"x")) is None
