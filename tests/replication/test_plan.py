"""What a replication pass has to do, as a function of who holds what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sos.model.digest import BlobDigest
from sos.model.placement import rank
from sos.replication.plan import ALL, Placing, Step, holders, in_sync, plan

NAMES = "abcde"
CONTENT_IDS = [character * 40 for character in "123456"]

#: What a copy can be: an object or a manifest, with some metadata.
objects = st.sampled_from(["0a", "0b", "0c"])
copies = st.one_of(objects, st.sampled_from(["1a", "1b"]))
blobs = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(CONTENT_IDS, copies.map(lambda version: BlobDigest(7, version))),
        **dict.fromkeys(
            ["name", "other"],
            st.builds(BlobDigest, st.sampled_from([7, 7, 8]), objects, st.sampled_from("aab")),
        ),
    },
)
clusters = st.dictionaries(st.sampled_from(NAMES), blobs, min_size=1)
weights = st.dictionaries(st.sampled_from(NAMES), st.floats(0.1, 10), min_size=1)


class Cluster:
    """Servers that do what a plan says, as the executor has them do it.

    :param original: of these nobody tells more than ids.
    """

    def __init__(self, held, original=frozenset()):
        self.held = {name: dict(blobs) for name, blobs in held.items()}
        self.original = original

    def listings(self):
        return {
            name: dict.fromkeys(blobs) if name in self.original else dict(blobs)
            for name, blobs in self.held.items()
        }

    def carry_out(self, steps):
        for step in steps:
            source = self.held[step.sources[0]][step.id]
            for target in step.targets:
                there = self.held[target].get(step.id)
                if there is None:
                    self.held[target][step.id] = source
                else:  # the object takes its manifest's place, and keeps its metadata
                    assert (there.version[0], source.version[0]) == ("1", "0")
                    self.held[target][step.id] = BlobDigest(7, "0" + there.version[1:])
            for name in step.metadata_targets:
                there = self.held[name][step.id]
                assert there.version[0] == source.version[0]
                self.held[name][step.id] = min(there, source, key=lambda each: each.version)
            for name, known in step.drops:
                assert all(step.id in self.held[holder] for holder in step.holders)
                assert self.held[name][step.id] == known
                del self.held[name][step.id]

    def ids(self):
        return set().union(*self.held.values())


def is_in_both_kinds(held, id):
    return len({each[id].version[0] for each in held.values() if id in each}) > 1


def is_disputed(held, id):
    bodies = {(each[id].size, each[id].hash) for each in held.values() if id in each}
    return len(id) < 40 and len(bodies) > 1


@given(clusters, weights, st.integers(1, 5) | st.just(ALL), st.booleans())
def test_after_the_plan_every_blob_is_where_it_belongs(held, weights, copies, all_there):
    """The same on all its holders, and nowhere else if all can be asked."""
    weights = {name: weight for name, weight in weights.items() if name in held}
    wanted = holders(weights, "123", copies)
    movable = frozenset(held) if all_there else frozenset()
    cluster = Cluster(held)
    found = plan(cluster.listings(), Placing(wanted, movable=movable))
    assert set(found.disputed) == {id for id in cluster.ids() if is_disputed(held, id)}
    cluster.carry_out(found.steps)
    if any(is_in_both_kinds(held, id) for id in cluster.ids()):
        # An object that takes a manifest's place keeps metadata that nobody else may know yet.
        cluster.carry_out(plan(cluster.listings(), Placing(wanted, movable=movable)).steps)
    for id in set().union(*held.values()):
        now = {name: blobs[id] for name, blobs in cluster.held.items() if id in blobs}
        before = {name: blobs[id] for name, blobs in held.items() if id in blobs}
        assert now, "the last copy is gone"
        if is_disputed(held, id):
            assert now == before
            continue
        assert set(wanted) <= set(now)
        assert len({now[name] for name in wanted}) <= 1
        if wanted:
            first = min(before.values(), key=lambda each: each.version)
            assert now[wanted[0]].version <= first.version
            assert now[wanted[0]].version == first.version or is_in_both_kinds(held, id)
            extra = set(now) - set(wanted)
            assert not extra if all_there else extra == set(before) - set(wanted)
        else:
            assert now == before
    again = plan(cluster.listings(), Placing(wanted, movable=movable))
    assert (again.steps, again.disputed) == ((), found.disputed)


@given(clusters, weights, st.integers(1, 3), st.frozensets(st.sampled_from(NAMES)), st.data())
def test_servers_that_tell_less_and_servers_that_are_away(held, weights, copies, original, data):
    """Neither those of the original system nor those that cannot be asked lose anything."""
    objects = {
        name: {id: BlobDigest(7, "0" + each.version[1:]) for id, each in blobs.items()}
        for name, blobs in held.items()
    }
    cluster = Cluster(objects, original)
    away = data.draw(st.frozensets(st.sampled_from(sorted(held)), max_size=len(held) - 1))
    listed = {name: blobs for name, blobs in cluster.listings().items() if name not in away}
    wanted = holders(
        {name: weight for name, weight in weights.items() if name in listed}, "123", copies
    )
    movable = frozenset() if away else frozenset(held) - original
    found = plan(listed, Placing(wanted, movable=movable))
    for step in found.steps:
        dropping = {name for name, _ in step.drops}
        assert not away & {*step.sources, *step.targets, *step.metadata_targets, *dropping}
        assert not original & {*step.metadata_targets, *dropping}
    cluster.carry_out(found.steps)
    for name in away | original:
        assert set(objects.get(name, {})) <= set(cluster.held.get(name, {}))
    for id in set().union(*listed.values()):
        assert all(id in cluster.held[name] for name in wanted)
    left = {name: blobs for name, blobs in cluster.listings().items() if name not in away}
    assert plan(left, Placing(wanted, movable=movable)).steps == ()


@given(clusters, weights, st.integers(1, 4), st.booleans())
def test_nothing_is_planned_for_what_is_in_sync(held, weights, copies, all_there):
    """By digests that are equal for equal blobs; and what is planned comes to be in sync."""
    wanted = holders({name: w for name, w in weights.items() if name in held}, "123", copies)
    movable = frozenset(held) if all_there else frozenset()

    def digests(cluster):
        return {name: frozenset(blobs.items()) for name, blobs in cluster.items() if blobs}

    found = plan(held, Placing(wanted, movable=movable))
    if in_sync(digests(held), wanted, movable):
        assert (found.steps, found.disputed) == ((), ())
    cluster = Cluster(held)
    cluster.carry_out(found.steps)
    both = any(is_in_both_kinds(held, id) for id in cluster.ids())
    if all_there and wanted and not found.disputed and not both:
        assert in_sync(digests(cluster.held), wanted, movable)


@given(weights, st.integers(1, 6))
def test_the_holders_are_those_that_uploads_go_to(weights, copies):
    assert set(holders(weights, "0ab", copies)) == set(rank(weights, "0ab")[:copies])
    assert set(holders(weights, "0ab", ALL)) == set(weights)


def test_a_plan_in_words():
    """A copy that is missing, one with other metadata, and one that is elsewhere."""
    id = CONTENT_IDS[0]
    held = {"a": {id: BlobDigest(5, "0b")}, "b": {id: BlobDigest(5, "0a")}, "c": {}, "d": {}}
    held["d"][id] = BlobDigest(5, "0c")
    drops = (("b", BlobDigest(5, "0a")), ("d", BlobDigest(5, "0c")))
    assert plan(held, Placing(("a", "c"), movable=frozenset("abcd"))).steps == (
        Step(id, 5, ("b", "a", "d"), ("c",), ("a",), drops, ("a", "c")),
    ) or plan(held, Placing(("a", "c"), movable=frozenset("abcd"))).steps == (
        Step(id, 5, ("b", "d", "a"), ("c",), ("a",), drops, ("a", "c")),
    )


def test_sources_are_spread():
    """Of two servers that hold the same, one does not have to give it all."""
    ids = [f"{n:040x}"[::-1] for n in range(100)]
    blobs = dict.fromkeys(ids, BlobDigest(1, "0a"))
    found = plan({"a": blobs, "b": blobs, "c": {}}, Placing(("a", "b", "c")))
    assert 30 < [step.sources[0] for step in found.steps].count("a") < 70


@given(
    clusters,
    weights,
    st.integers(1, 4),
    st.frozensets(st.sampled_from(NAMES)),
    st.frozensets(st.sampled_from(NAMES), max_size=1),
)
def test_servers_that_take_nothing_are_given_nothing(held, weights, copies, full, drained):
    """Every blob has its copies where there is room for them, and none is dropped before."""
    order = [name for name in rank(weights, "123") if name in held and name not in drained]
    placing = Placing(order, copies, frozenset(held), full, drained)
    cluster = Cluster(held)
    found = plan(cluster.listings(), placing)
    for step in found.steps:
        assert not full & {*step.targets, *step.metadata_targets, *step.spares}
    cluster.carry_out(found.steps)
    again = plan(cluster.listings(), placing)
    cluster.carry_out(again.steps)  # for an object that took a manifest's place
    for id in set().union(*held.values()):
        if is_disputed(held, id):
            continue
        before = {name for name, blobs in held.items() if id in blobs}
        now = {name for name, blobs in cluster.held.items() if id in blobs}
        able = {name for name in order if name not in full}
        assert now, "the last copy is gone"
        assert len(now - drained) >= min(copies, len(able | (before & {*order})))
        assert before & full <= now or len(now & {*order}) >= copies
        if before - now:
            assert len(now & {*order}) >= copies
    assert plan(cluster.listings(), placing).steps == ()
