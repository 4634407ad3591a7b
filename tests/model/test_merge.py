"""What is kept of two copies of one blob."""

from __future__ import annotations

from functools import reduce

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import Conflict, Deleted, InvalidRequest
from sos.model.manifest import MARK
from sos.model.merge import (
    Times,
    check_change,
    check_upload,
    join,
    merge,
    other_body,
    reconcile,
    times,
    tombstone,
)
from sos.model.metadata import (
    DELETED_AT,
    EXPIRES_AT,
    NEVER,
    PART_AT,
    SET_AT,
    STORED_AT,
    check,
    decode,
    encode,
    from_header,
    is_tombstone,
    to_client,
    to_header,
    version,
)

ID = "a9993e364706816aba3e25717850c26c9cd0d89d"
OPAQUE = "name"

# In ticks: in 2026.
BASE = 179 * 10**12
moments = st.integers(BASE, BASE + 5)


@st.composite
def operations(draw):
    """The copy that one operation by itself leaves: an upload, a chunk, a deletion."""
    time = draw(moments)
    kind = draw(st.sampled_from(["object", "expiring", "chunk", "deletion", "before times"]))
    if kind == "object":
        said = draw(st.dictionaries(st.just("X-A"), st.sampled_from("xy")))
        return {**said, SET_AT: str(time)}
    if kind == "expiring":
        end = str(draw(moments))
        return {SET_AT: str(time), STORED_AT: str(time), EXPIRES_AT: end}
    return {
        "chunk": {PART_AT: str(time)},
        "deletion": tombstone(time),
        "before times": draw(st.sampled_from([{}, {"X-A": "old"}])),
    }[kind]


copies = st.lists(operations(), min_size=1, max_size=4).map(lambda all: reduce(merge, all))


@given(copies, copies)
def test_the_order_of_two_copies_does_not_matter(one, other):
    assert merge(one, other) == merge(other, one)


@given(copies)
def test_a_copy_that_comes_again_changes_nothing(one):
    assert merge(one, one) == one
    assert check(one) == decode(encode(one)) == from_header(to_header(one)) == one


@given(copies, copies, copies)
def test_times_agree_whatever_the_order(one, other, third):
    """So does whether there is an object, and a body."""
    left, right = merge(merge(one, other), third), merge(one, merge(other, third))
    assert evolve(times(left), expires=None) == evolve(times(right), expires=None)


@given(st.lists(operations(), min_size=1, max_size=5), st.randoms())
def test_the_last_expiry_since_the_deletion_counts(all, random):
    """And none is the last of all.  In some orders an expiry of before a deletion counts too."""
    found = times(reduce(merge, all))
    since = found.deleted or 0
    alive = [times(each) for each in all if (times(each).stored or -1) >= since]
    alive += [times(each) for each in all if times(each).stored == 0 and not since]
    ends = [each.expires or NEVER for each in alive]
    assert (found.expires or NEVER) >= max(ends, default=NEVER)
    ordered = sorted(all, key=lambda each: not is_tombstone(each))
    for _ in range(3):
        first = reduce(merge, ordered)
        assert (times(first).expires or NEVER) == max(ends, default=NEVER)
        random.shuffle(tail := ordered[sum(map(is_tombstone, all)) :])
        ordered[sum(map(is_tombstone, all)) :] = tail


def test_a_version_tells_the_expiry():
    """So digests of copies with different ends differ, and replication merges them."""
    short, long = (
        {SET_AT: str(BASE), STORED_AT: str(BASE), EXPIRES_AT: str(BASE + left)} for left in (8, 9)
    )
    assert len({version(each) for each in (short, long, {SET_AT: str(BASE)})}) == 3
    assert merge(short, long) == long
    for_ever = merge(short, {SET_AT: str(BASE - 1)})
    assert for_ever == {SET_AT: str(BASE - 1), STORED_AT: str(BASE)}
    assert EXPIRES_AT not in merge(tombstone(BASE + 1), long)


def test_an_expiry_without_a_time_of_storing_is_refused():
    for refuse in (check_upload, lambda found: check_change(found, 1.79e9)):
        with pytest.raises(InvalidRequest, match="without X-Sos-Stored-At"):
            refuse({SET_AT: "1", EXPIRES_AT: str(BASE)})


@given(st.lists(copies, min_size=2, max_size=4))
def test_replicas_that_go_on_telling_each_other_agree(stored):
    """Also about what was said of the object."""
    for _ in range(3):
        for n in range(len(stored)):
            stored[n] = reduce(merge, stored, stored[n])
    assert all(each == stored[0] for each in stored)


@given(st.lists(operations(), min_size=1, max_size=5))
def test_the_last_operation_decides(all):
    """An upload wins over a deletion at the same time."""
    found = times(reduce(merge, all))
    stored = [int(each[SET_AT]) for each in all if SET_AT in each]
    stored += [0 for each in all if each in ({}, {"X-A": "old"})]
    deleted = [int(each[DELETED_AT]) for each in all if DELETED_AT in each]
    assert found.is_object == (max(stored, default=-1) >= max(deleted, default=0))
    assert found.has_body == (found.is_object or any(PART_AT in each for each in all))


@given(st.lists(operations(), min_size=1, max_size=4))
def test_what_was_said_first_stays_but_not_beyond_a_deletion(all):
    found = reduce(merge, all)
    deleted = max((int(each[DELETED_AT]) for each in all if DELETED_AT in each), default=-1)
    if SET_AT in found:
        assert int(found[SET_AT]) >= deleted
    if deleted < 0 and (set := [int(each[SET_AT]) for each in all if SET_AT in each]):
        assert int(found.get(SET_AT, 0)) in (0, min(set))
    assert to_client(found) in ([], *([(b"X-A", value)] for value in (b"x", b"y", b"old")))


def test_metadata_of_before_a_deletion_is_forgotten():
    """A server that has slept through the deletion has kept it."""
    before, after = {"X-A": "x", SET_AT: str(BASE)}, {"X-A": "y", SET_AT: str(BASE + 2)}
    assert reduce(merge, [before, tombstone(BASE + 1), after])["X-A"] == "y"
    assert reduce(merge, [before, merge(tombstone(BASE + 1), after)])["X-A"] == "y"


def test_times_of_metadata():
    """What is not said follows from the rest."""
    assert times({}) == times({"X-A": "old"}) == Times(0, None, None)
    assert times({SET_AT: str(BASE)}) == Times(BASE, None, None)
    assert times({SET_AT: str(BASE), STORED_AT: str(BASE + 1)}) == Times(BASE + 1, None, None)
    assert times({PART_AT: str(BASE)}) == Times(None, BASE, None)
    assert times({PART_AT: str(BASE), STORED_AT: "0"}) == Times(0, BASE, None)
    assert times(tombstone(BASE)) == Times(None, None, BASE)


def test_a_chunk_that_was_an_object_before_stays_one():
    """No collection of garbage is to find it."""
    assert times(merge({}, {PART_AT: str(BASE)})) == Times(0, BASE, None)


def test_the_chunk_outlives_the_object_with_its_bytes():
    """Another object needs it."""
    found = merge(merge({SET_AT: str(BASE)}, {PART_AT: str(BASE)}), tombstone(BASE + 1))
    assert found == {PART_AT: str(BASE), DELETED_AT: str(BASE + 1)}
    assert not is_tombstone(found)


STORED = {"X-A": "x", SET_AT: str(BASE)}
DELETED = tombstone(BASE + 1)
AGAIN = {"X-A": "y", SET_AT: str(BASE + 2)}
# After both: versions do not tell SET_AT, so that the time of storing has to stand there, too.
SINCE = {**AGAIN, **DELETED, STORED_AT: AGAIN[SET_AT]}


def test_metadata_that_comes_alone():
    """It cannot bring back a body."""
    assert reconcile(ID, STORED, {"X-A": "z", SET_AT: str(BASE - 1)})["X-A"] == "z"
    assert reconcile(ID, STORED, DELETED) == DELETED
    assert reconcile(ID, DELETED, STORED) == DELETED
    with pytest.raises(Deleted) as caught:
        reconcile(ID, DELETED, AGAIN)
    assert caught.value.metadata == DELETED
    assert reconcile(ID, {**STORED, MARK: "5"}, DELETED) == DELETED
    again = reconcile(ID, {**AGAIN, MARK: "5"}, DELETED)
    assert again == {**SINCE, MARK: "5"}


def test_metadata_from_a_server_that_keeps_no_times():
    """It replaces none that has one."""
    assert reconcile(OPAQUE, STORED, {"X-A": "a"}) == STORED
    assert reconcile(ID, {"X-A": "b"}, {"X-A": "a"}) in ({"X-A": "a"}, {"X-A": "b"})
    assert reconcile(OPAQUE, STORED, {}) == STORED
    assert reconcile(ID, STORED, {}) == {**STORED, PART_AT: "0", STORED_AT: STORED[SET_AT]}


@pytest.mark.parametrize(("stored", "received"), [({MARK: "1"}, {}), ({}, {MARK: "1"})])
def test_metadata_of_an_object_is_none_of_its_manifest(stored, received):
    with pytest.raises(Conflict, match=r"one copy of .* is the object, the other its manifest"):
        reconcile(ID, stored, received)


@pytest.mark.parametrize("mark", [{}, {MARK: "5"}])
def test_an_upload_after_the_deletion(mark):
    """The tombstone has no body, so any takes its place."""
    merged, takes = join(ID, DELETED, {**AGAIN, **mark}, False)
    assert (merged, takes) == ({**SINCE, **mark}, True)


def test_a_chunk_that_an_older_version_stores_again_is_never_garbage():
    """That version does not renew it, and may name it in a manifest later."""
    merged, _ = join(ID, {PART_AT: str(BASE)}, {}, True)
    assert times(merged) == Times(0, BASE, None)
    assert times(merged).is_object


@given(st.sampled_from([{}, {"X-A": "old"}, {SET_AT: "0", "X-A": "old"}]), operations())
def test_what_may_be_a_chunk_of_an_older_version_stays_one(old, other):
    """Such chunks had no mark, and objects with the same bytes may have been stored since."""
    for stored, received in ((old, other), (other, old)):
        if not is_tombstone(stored):
            kept = reconcile(ID, stored, received)
            assert not is_tombstone(reconcile(ID, kept, tombstone(BASE + 9)))
        if not is_tombstone(stored) and not is_tombstone(received):
            kept, _ = join(ID, stored, received, True)
            assert not is_tombstone(reconcile(ID, kept, tombstone(BASE + 9)))


def test_an_upload_from_before_the_deletion_is_refused():
    """It was under way, or its server's clock is behind."""
    with pytest.raises(Deleted) as caught:
        join(ID, DELETED, STORED, False)
    assert caught.value.metadata == DELETED


@pytest.mark.parametrize(("end", "refused"), [(None, True), (9, True), (8, False), (7, False)])
def test_an_upload_from_before_a_deletion_whose_end_would_not_count_is_refused(end, refused):
    """The object was stored again since, and expires: the upload would be acknowledged in vain."""
    again = {SET_AT: str(BASE + 2), STORED_AT: str(BASE + 2), EXPIRES_AT: str(BASE + 8)}
    stored = merge(tombstone(BASE + 1), again)
    late = {SET_AT: str(BASE), STORED_AT: str(BASE)}
    if end is not None:
        late[EXPIRES_AT] = str(BASE + end)
    if not refused:
        assert join(ID, stored, late, True) == (stored, False)
        return
    with pytest.raises(Deleted) as caught:
        join(ID, stored, late, True)
    assert caught.value.metadata == stored
    assert join(ID, stored, {**late, STORED_AT: str(BASE + 3)}, True)[0].get(EXPIRES_AT) == (
        None if end is None else str(BASE + end)
    )


def test_an_outdated_upload_of_a_chunk_is_refused():
    """The bytes are there, as a part of another object: but not the object that was uploaded."""
    stored = {PART_AT: str(BASE), DELETED_AT: str(BASE + 2)}
    with pytest.raises(Deleted) as caught:
        join(ID, stored, {SET_AT: str(BASE + 1)}, True)
    assert caught.value.metadata == stored
    part = {PART_AT: str(BASE + 1)}
    for received in (part, {**part, SET_AT: str(BASE + 1)}):
        assert join(ID, stored, received, True) == ({**stored, **part}, False)
    whole = {DELETED_AT: str(BASE + 2)}
    assert join(ID, whole, {**part, SET_AT: str(BASE)}, False) == ({**whole, **part}, True)


def test_a_later_upload_is_noted():
    """Or a deletion between the two could undo it.  What was said first stays."""
    assert join(ID, STORED, AGAIN, True) == ({**STORED, STORED_AT: AGAIN[SET_AT]}, False)
    assert join(ID, AGAIN, STORED, True) == (AGAIN, False)


def test_an_object_replaces_its_manifest():
    """With the metadata that was set first."""
    stored = {MARK: "1", "X-Name": "first", SET_AT: str(BASE)}
    merged, takes = join(ID, stored, {"X-Name": "second", SET_AT: str(BASE)}, False)
    assert takes
    assert MARK not in merged
    assert stored[MARK] == "1"


@pytest.mark.parametrize("stored", [{}, {"X-Name": "first"}, {MARK: "1"}])
def test_a_manifest_replaces_nothing(stored):
    """The object stands for it, and so does another manifest."""
    assert join(ID, stored, {MARK: "2"}, False) == (stored, False)


@pytest.mark.parametrize("received", [{}, {MARK: "1"}])
@pytest.mark.parametrize("stored", [{}, {MARK: "1"}])
def test_an_opaque_name_has_one_body(stored, received):
    """Nothing says that a manifest of that name is of what is stored."""
    with pytest.raises(Conflict, match="another body is already stored under the name name"):
        join(OPAQUE, stored, received, False)


def test_two_bodies_with_the_same_hash():
    """Neither replaces the other; the error names the hash."""
    with pytest.raises(Conflict, match="both have this SHA-1"):
        join(ID, {}, {}, False)
    assert "both have this SHA-256" in str(other_body("0" * 64))
