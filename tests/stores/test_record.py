"""The records of blobs: which one stays when two bodies have the same id."""

from __future__ import annotations

import pytest

from sos.errors import Conflict
from sos.model import digest, metadata
from sos.stores.record import Record, encode, is_tombstone_head, joined, tombstone
from tests.support.blobs import body_of, content_id, manifest_of

WHOLE = body_of(1000)
ID, MANIFEST, MARKED = manifest_of(WHOLE, 100)


def record_of(body, metadata_of, id=ID):
    return Record(id, len(body), digest.hash_of(id, body), metadata.encode(metadata_of), 1.0, body)


def test_an_object_replaces_its_manifest_and_keeps_its_metadata():
    """All but the mark: what a client has set stays."""
    object = record_of(WHOLE, {"X-Name": "later"})
    assert joined(record_of(MANIFEST, MARKED), object, same=False) == (
        record_of(WHOLE, {"X-Name": "n"}),
        True,
    )


@pytest.mark.parametrize("stored", [(WHOLE, {}), (manifest_of(WHOLE, 10)[1], MARKED)])
def test_a_manifest_replaces_nothing(stored):
    """Neither its object nor another manifest of it."""
    kept, takes = joined(record_of(*stored), record_of(MANIFEST, MARKED), same=False)
    assert (kept.body, takes) == (stored[0], False)


@pytest.mark.parametrize(
    ("id", "metadata_of"), [(content_id(WHOLE), {}), ("name", {}), ("name", MARKED)]
)
def test_no_other_body_replaces_one(id, metadata_of):
    """Two bodies with one hash, or of a name that says nothing about the body."""
    with pytest.raises(Conflict):
        joined(record_of(WHOLE, {}, id), record_of(b"other", metadata_of, id), same=False)


def test_a_tombstone_is_known_by_its_head():
    """A listing looks at nothing else; a damaged head is not one."""
    stone = encode(tombstone(ID, {metadata.DELETED_AT: "5"}, 1.0))
    assert is_tombstone_head(ID, stone.head)
    assert not is_tombstone_head(ID, stone.head[:-1])
    part = record_of(WHOLE, {metadata.DELETED_AT: "5", metadata.PART_AT: "4"})
    for other in (part, record_of(WHOLE, {"X-A": metadata.DELETED_AT}), record_of(WHOLE, {})):
        assert not is_tombstone_head(ID, encode(other).head)
