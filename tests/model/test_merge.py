"""What is kept of two versions of one blob."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import Conflict
from sos.model.manifest import MARK
from sos.model.merge import other_body, replaces_body, replaces_metadata
from sos.model.metadata import timed

ID = "a9993e364706816aba3e25717850c26c9cd0d89d"
OPAQUE = "name"

described = st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.sampled_from("xy"), max_size=2)
versions = st.builds(timed, described, st.integers(1, 3))


@given(st.lists(versions, min_size=1, max_size=4))
def test_replicas_agree_in_whichever_order_versions_come(all):
    """And the version that they keep was set first."""
    kept = set()
    for order in permutations(all):
        stored = order[0]
        for received in order[1:]:
            if replaces_metadata(ID, stored, received):
                stored = received
        kept.add(tuple(sorted(stored.items())))
    assert len(kept) == 1


@given(versions)
def test_the_same_metadata_replaces_nothing(version):
    assert not replaces_metadata(ID, version, dict(version))


@pytest.mark.parametrize(("stored", "received"), [({MARK: "1"}, {}), ({}, {MARK: "1"})])
def test_metadata_of_an_object_is_none_of_its_manifest(stored, received):
    with pytest.raises(Conflict, match=r"one copy of .* is the object, the other its manifest"):
        replaces_metadata(ID, stored, received)


def test_an_object_replaces_its_manifest():
    """With the metadata that it had; not with what comes now."""
    stored = {MARK: "1", "X-Name": "first"}
    assert replaces_body(ID, stored, {"X-Name": "second"}) == {"X-Name": "first"}
    assert stored[MARK] == "1"


@pytest.mark.parametrize("stored", [{}, {"X-Name": "first"}, {MARK: "1"}])
def test_a_manifest_replaces_nothing(stored):
    """The object stands for it, and so does another manifest."""
    assert replaces_body(ID, stored, {MARK: "2"}) is None


@pytest.mark.parametrize("received", [{}, {MARK: "1"}])
@pytest.mark.parametrize("stored", [{}, {MARK: "1"}])
def test_an_opaque_name_has_one_body(stored, received):
    """Nothing says that a manifest of that name is of what is stored."""
    with pytest.raises(Conflict, match="another body is already stored under the name name"):
        replaces_body(OPAQUE, stored, received)


def test_two_bodies_with_the_same_hash():
    """Neither replaces the other; the error names the hash."""
    with pytest.raises(Conflict, match="both have this SHA-1"):
        replaces_body(ID, {}, {})
    assert "both have this SHA-256" in str(other_body("0" * 64))
