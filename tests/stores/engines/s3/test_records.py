"""What is written into a bucket, and read again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import Unavailable
from sos.model import ids, merge
from sos.model import metadata as metadata_format
from sos.model.digest import BlobDigest, record_sum
from sos.model.metadata import DELETED_AT, EXPIRES_AT, PART_AT, STORED_AT
from sos.stores.block_hashes import BLOCK, HASH_BYTES, Blocks
from sos.stores.engines.s3 import records

NAMES = st.text("0123456789abcdefz", min_size=1, max_size=64) | st.text(
    "0123456789abcdef", min_size=40, max_size=40
)
VALUES = st.binary(max_size=300).map(
    lambda data: data.translate(None, b"\r\n\0").decode("utf-8", "surrogateescape")
)
TIMES = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 10**15 - 1).map(str)
        for name in (STORED_AT, PART_AT, DELETED_AT, EXPIRES_AT)
    },
).filter(lambda times: times.keys() != {EXPIRES_AT})
METADATA = st.dictionaries(st.text("ab", min_size=1).map("X-{}".format), VALUES, max_size=12)


@given(NAMES, st.integers(0, 10**18), METADATA, TIMES)
def test_a_marker_says_what_listings_tell(id, size, metadata, times):
    """Its key is read as it was written."""
    metadata |= times
    hash = "5a" * 32 if ids.algorithm(id) is None else ""
    marker = records.marker(id, size, metadata, hash)
    assert records.read_marker(marker.key) == marker
    assert marker.key.startswith(records.markers_of(id))
    assert marker.digest == BlobDigest(size, metadata_format.version(metadata), hash)
    assert marker.sum == record_sum(id, metadata_format.encode(metadata), bytes.fromhex(hash))
    assert marker.digest.times == merge.times(metadata)


@given(NAMES, NAMES)
def test_keys_are_in_the_order_of_listings(one, other):
    """And a key behind an id is behind its markers, and before those of what follows."""
    keys = [records.marker(id, 7, {}, None).key for id in (one, other)]
    assert (keys[0] < keys[1]) == (ids.sort_key(one) < ids.sort_key(other))
    assert keys[0] < records.behind(one)
    if ids.sort_key(one) < ids.sort_key(other):
        assert records.behind(one) < keys[1]


@pytest.mark.parametrize(
    "key",
    [
        "index/abc/name",
        "index/000/name/1-" + "0" * 65 + "-" + "0" * 32,  # of another partition
        records.marker("name", 1, {}, "5a" * 32).key + "0",
        records.marker("name", 1, {}, "5a" * 32).key + "\n",
        records.marker("name", 1, {}, "5a" * 32).key.upper(),
        records.marker("name", 1, {}, "5a" * 32).key + "-",
        records.marker("name", 1, {}, "5a" * 32).key + "-d5s4",
    ],
)
def test_what_is_no_marker_is_left_alone(key):
    """Somebody else may keep things in the same bucket."""
    assert records.read_marker(key) is None


@given(METADATA, st.none() | st.just("ab" * 32))
def test_metadata_come_back_from_the_fields_of_an_object(metadata, hash):
    """Any bytes do; the fields are ASCII, of at most 2 KiB, and of 256 bytes each."""
    fields, sidecar = records.to_fields(metadata, hash)
    assert all(value.isascii() and value.isprintable() for value in fields.values())
    assert all(len(value) <= 256 for value in fields.values())
    assert sum(len(f"x-amz-meta-{name}{value}") for name, value in fields.items()) <= 2048
    assert records.metadata_in("name", fields, sidecar) == metadata
    assert records.hash_in(fields) == hash
    assert (sidecar is None) == (records.sidecar_in(fields) is None)


@given(METADATA, st.none() | st.just("ab" * 32), st.integers(0, 100))
def test_block_hashes_come_back_from_the_fields_beside_metadata(metadata, hash, count):
    """Or from a sidecar if they do not fit; the metadata come back as before."""
    hashes = bytes(n * 7 % 256 for n in range(count * HASH_BYTES))
    others, sidecar = records.to_fields(metadata, hash)
    fields = others | records.hashes_to_fields(hashes, others)
    assert all(len(value) <= 256 for value in fields.values())
    assert sum(len(f"x-amz-meta-{name}{value}") for name, value in fields.items()) <= 2048
    assert records.metadata_in("name", fields, sidecar) == metadata
    assert records.hash_in(fields) == hash
    beside = None if records.hashes_sidecar_in(fields) is None else hashes
    if count < 2:
        assert fields == others
        return
    for size in (count * BLOCK, (count - 1) * BLOCK + 1):
        assert records.blocks_in(size, fields, beside) == Blocks(hashes)
    assert records.blocks_in(count * BLOCK + 1, fields, beside) is None


@pytest.mark.parametrize(
    ("fields", "sidecar"),
    [
        ({}, None),
        ({"sos-hashes-0": "!"}, None),
        ({"sos-hashes-0": "AAAA"}, None),
        ({"sos-hashes-0": "\udcff"}, None),
        ({"sos-hashes-1": "A" * 44}, None),
        ({"sos-hashes-at": "0" * 32}, None),
        ({"sos-hashes-at": "0" * 32}, b"0" * 32),
        ({"sos-hashes-at": "../" * 3}, None),
    ],
)
def test_block_hashes_that_somebody_has_changed_are_not_used(fields, sidecar):
    """Then a part is read as that of a body without block hashes."""
    assert records.blocks_in(2 * BLOCK, fields, sidecar) is None


@pytest.mark.parametrize(
    ("fields", "sidecar"),
    [
        ({"sos-0": "!"}, None),
        ({"sos-0": "AAAA"}, None),
        ({"sos-at": "0" * 65}, None),
        ({"sos-at": "0" * 65}, b"{}"),
    ],
)
def test_fields_that_somebody_has_changed_are_not_believed(fields, sidecar):
    """What metadata they were cannot be told."""
    with pytest.raises(Unavailable, match="cannot be read"):
        records.metadata_in("name", fields, sidecar)
