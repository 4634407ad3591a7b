"""What a replication pass has to do, as a function of who holds what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sos.plan import Copy, plan

ids = st.text("0123456789abcdef", min_size=1, max_size=3)
listings = st.dictionaries(st.sampled_from("abcde"), st.frozensets(ids, max_size=12), max_size=5)


def carried_out(held, steps):
    after = {name: set(ids) for name, ids in held.items()}
    for step in steps:
        for target in step.targets:
            after[target].add(step.id)
    return after


@given(listings, st.integers(1, 4), st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 10)))
def test_after_the_plan_every_blob_has_its_copies(held, min_copies, weights):
    """As many as asked for, or as there are servers to write to; and no more than that."""
    after = carried_out(held, plan(held, min_copies, weights))
    for id in set().union(*held.values()):
        before = {name for name in held if id in held[name]}
        now = {name for name in after if id in after[name]}
        possible = len(before | (set(held) & set(weights)))
        assert len(now) == max(len(before), min(min_copies, possible))


@given(listings, st.integers(1, 4), st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 10)))
def test_a_second_plan_is_empty(held, min_copies, weights):
    """Nothing is left to do."""
    assert list(plan(carried_out(held, plan(held, min_copies, weights)), min_copies, weights)) == []


@given(listings, st.integers(1, 4), st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 10)))
def test_copies_come_from_where_they_are_and_go_where_they_are_not(held, min_copies, weights):
    """And never to a server that is not written to."""
    for step in plan(held, min_copies, weights):
        assert step.sources
        assert all(step.id in held[source] for source in step.sources)
        assert all(step.id not in held[target] for target in step.targets)
        assert set(step.targets) <= set(weights)


def test_targets_are_spread():
    """Of three servers the second copies do not all go to the same."""
    held = {"a": frozenset(f"{n:040x}"[::-1] for n in range(100)), "b": set(), "c": set()}
    targets = [step.targets for step in plan(held, 2, dict.fromkeys("abc", 1.0))]
    assert 30 < targets.count(("b",)) < 70
    assert list(plan({"a": {"x"}, "b": set()}, 2, {"a": 1.0, "b": 1.0})) == [
        Copy("x", ("a",), ("b",))
    ]
