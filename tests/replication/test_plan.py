"""What a replication pass has to do, as a function of who holds what."""

from __future__ import annotations

from functools import reduce

from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import Conflict
from sos.model.digest import BlobDigest
from sos.model.manifest import MARK
from sos.model.merge import join, may_be_part, merge, reconcile, times, tombstone
from sos.model.metadata import PART_AT, SET_AT, is_tombstone, set_at, version
from sos.model.placement import rank
from sos.replication.metadata import Merged
from sos.replication.plan import ALL, Placing, Step, holders, in_sync, plan

NAMES = "abcde"
CONTENT_IDS = [character * 40 for character in "123456"]
# In ticks: in 2026.
BASE = 179 * 10**12

moments = st.integers(BASE, BASE + 4).map(str)
uploads = st.builds(
    lambda said, time: {**said, SET_AT: time},
    st.dictionaries(st.just("X-A"), st.sampled_from("xy")),
    moments,
)
chunks = st.builds(lambda time: {PART_AT: time}, moments)
deletions = st.builds(lambda time: tombstone(int(time)), moments)
#: What a copy can be: an object or a manifest, a chunk, a tombstone.
histories = st.lists(
    st.one_of(uploads, uploads, chunks, deletions, st.just({})), min_size=1, max_size=3
).map(lambda all: reduce(merge, all))


@frozen
class Copy:
    """A copy on a server."""

    metadata: dict
    size: int = 7
    hash: str = ""

    @property
    def digest(self):
        size = 0 if is_tombstone(self.metadata) else self.size
        times_ = times(self.metadata)
        return BlobDigest(size, version(self.metadata), self.hash, set_at(self.metadata), times_)


def manifest_or_object(history, is_manifest):
    marked = is_manifest and times(history).is_object
    return Copy({**history, MARK: "7"} if marked else history)


copies = st.builds(manifest_or_object, histories, st.booleans())
blobs = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(CONTENT_IDS, copies),
        **dict.fromkeys(
            ["name", "other"],
            st.builds(Copy, uploads, st.sampled_from([7, 7, 8]), st.sampled_from("aab")),
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
            name: dict.fromkeys(blobs)
            if name in self.original
            else {id: copy.digest for id, copy in blobs.items()}
            for name, blobs in self.held.items()
        }

    def carry_out(self, steps):
        for step in steps:
            for target in step.targets:
                self.put(step.id, target, self.held[step.sources[0]][step.id])
            if step.metadata_targets:
                found = [self.held[name][step.id].metadata for name in step.metadata_sources]
                mark = next((each[MARK] for each in found if MARK in each), None)
                wanted = Merged(reduce(merge, found, found[0]), mark)
                for name, known in step.metadata_targets:
                    self.reconcile(step.id, name, known, wanted.of_kind(known[:1]))
            for name, known in step.drops:
                for holder in step.holders:
                    there = self.held[holder][step.id].metadata
                    assert (
                        not is_tombstone(there)
                        or known.version[0] == "2"
                        or (times(there).deleted > times(self.held[name][step.id].metadata).stored)
                    )
                assert self.held[name][step.id].digest == known
                del self.held[name][step.id]

    def put(self, id, target, source):
        there = self.held[target].get(id)
        if there is None:
            self.held[target][id] = source
            return
        same = (MARK in there.metadata) == (MARK in source.metadata)
        metadata, takes = join(id, there.metadata, source.metadata, same)
        self.held[target][id] = evolve(source if takes else there, metadata=metadata)

    def reconcile(self, id, name, known, metadata):
        if version(metadata) == known:
            return
        there = self.held[name].get(id)
        try:
            kept = reconcile(id, None if there is None else there.metadata, metadata)
        except Conflict:  # it has got a manifest, and kept its object: the next pass sees that
            return
        self.held[name][id] = evolve(there or Copy({}), metadata=kept)

    def ids(self):
        return set().union(*self.held.values())

    def come_to_rest(self, placing, rounds=6):
        """Make passes until there is nothing to do; return the steps of the first."""
        first = None
        for _ in range(rounds):
            found = plan(self.listings(), placing)
            first = first or found
            self.carry_out(found.steps)
        before = self.listings()
        # Nothing but to look once more at copies that were set at the same time.
        left = plan(before, placing).steps
        assert all(not (step.targets or step.drops) for step in left)
        self.carry_out(left)
        assert self.listings() == before
        return first


def merged_of(held, id):
    return reduce(
        merge, [blobs[id].metadata for blobs in held.values() if id in blobs], tombstone(0)
    )


def is_disputed(held, id):
    bodies = {(each[id].size, each[id].hash) for each in held.values() if id in each}
    return len(id) < 40 and len(bodies) > 1


@given(clusters, weights, st.integers(1, 5) | st.just(ALL), st.booleans())
def test_after_the_plan_every_blob_is_where_it_belongs(held, weights, copies, all_there):
    """The same on all its holders, and nowhere else if all can be asked; or nowhere at all."""
    weights = {name: weight for name, weight in weights.items() if name in held}
    wanted = holders(weights, "123", copies)
    movable = frozenset(held) if all_there else frozenset()
    cluster = Cluster(held)
    found = cluster.come_to_rest(Placing(wanted, movable=movable))
    assert set(found.disputed) == {id for id in cluster.ids() if is_disputed(held, id)}
    for id in set().union(*held.values()):
        now = {name: blobs[id] for name, blobs in cluster.held.items() if id in blobs}
        before = {name: blobs[id] for name, blobs in held.items() if id in blobs}
        assert now, "the last copy is gone"
        if is_disputed(held, id):
            assert now == before
            continue
        if not wanted:
            continue
        assert set(wanted) <= set(now)
        assert len({now[name].digest for name in wanted}) == 1
        kept, expected = times(now[wanted[0]].metadata), times(merged_of(held, id))
        assert kept.is_object == expected.is_object
        if any(may_be_part(id, copy.metadata) for copy in before.values()):
            assert kept.has_body >= expected.has_body  # it may be a chunk of another object
        else:
            assert kept.has_body == expected.has_body
        extra = set(now) - set(wanted)
        assert not extra if all_there else extra == set(before) - set(wanted)


@given(clusters, weights, st.integers(1, 3), st.frozensets(st.sampled_from(NAMES)), st.data())
def test_servers_that_tell_less_and_servers_that_are_away(held, weights, copies, original, data):
    """Neither those of the original system nor those that cannot be asked lose anything."""
    objects = {
        name: {id: evolve(each, metadata={SET_AT: str(BASE)}) for id, each in blobs.items()}
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
        told = {name for name, _ in step.metadata_targets}
        assert not away & {*step.sources, *step.targets, *told, *dropping}
        assert not original & {*told, *dropping}
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
        listings = cluster.listings()
        return {name: frozenset(blobs.items()) for name, blobs in listings.items() if blobs}

    cluster = Cluster(held)
    found = plan(cluster.listings(), Placing(wanted, movable=movable))
    if in_sync(digests(cluster), wanted, movable):
        assert (found.steps, found.disputed) == ((), ())
    cluster.come_to_rest(Placing(wanted, movable=movable))
    if all_there and wanted and not found.disputed:
        assert in_sync(digests(cluster), wanted, movable)


@given(weights, st.integers(1, 6))
def test_the_holders_are_those_that_uploads_go_to(weights, copies):
    assert set(holders(weights, "0ab", copies)) == set(rank(weights, "0ab")[:copies])
    assert set(holders(weights, "0ab", ALL)) == set(weights)


def test_a_plan_in_words():
    """A copy that is missing, one with other metadata, and one that is elsewhere."""
    id = CONTENT_IDS[0]
    said = [Copy({"X-A": each, SET_AT: str(BASE + n)}).digest for n, each in enumerate("abc")]
    held = {"a": {id: said[1]}, "b": {id: said[0]}, "c": {}, "d": {id: said[2]}}
    (step,) = plan(held, Placing(("a", "c"), movable=frozenset("abcd"))).steps
    assert step == Step(
        id,
        7,
        ("b", "a", "d"),
        ("c",),
        (("a", said[1].version), ("c", said[0].version)),
        (("b", said[0]), ("d", said[2])),
        ("a", "c"),
        metadata_sources=("a", "b", "d"),
    )


def test_a_deletion_in_words():
    """Holders get the tombstone, and so does whoever has a copy still."""
    id = CONTENT_IDS[0]
    stone, old = Copy(tombstone(BASE + 1)).digest, Copy({SET_AT: str(BASE)}).digest
    held = {"a": {id: stone}, "b": {id: old}, "c": {}, "d": {id: old}}
    (step,) = plan(held, Placing(("a", "c"), movable=frozenset("abcd"))).steps
    assert step == Step(
        id,
        0,
        ("a",),
        (),
        (("c", "2"), ("b", old.version), ("d", old.version)),
        (),
        ("a", "c"),
        surplus=ALL,
        metadata_sources=("a", "b"),
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
        told = {name for name, _ in step.metadata_targets}
        assert not full & {*step.targets, *told, *step.spares}
    cluster.come_to_rest(placing)
    for id in set().union(*held.values()):
        if is_disputed(held, id) or not times(merged_of(held, id)).has_body:
            continue
        before = {name for name, blobs in held.items() if id in blobs}
        now = {name for name, blobs in cluster.held.items() if id in blobs}
        able = {name for name in order if name not in full}
        assert now, "the last copy is gone"
        assert len(now - drained) >= min(copies, len(able | (before & {*order})))
        assert before & full <= now or len(now & {*order}) >= copies
        if before - now:
            assert len(now & {*order}) >= copies
