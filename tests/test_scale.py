"""What the simulation of clusters makes of placement, machines and failures."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor

from benchmarks.scale import durability, traffic
from benchmarks.scale.groups import Cluster, Group, grown, names, redirected, shares
from benchmarks.scale.rebuild import Rates, Rebuild, rebuild, worst_rebuild
from benchmarks.scale.wire import counted
from sos.model.digest import BlobDigest
from sos.replication.plan import Placing, holders, plan
from sos.stores.memory import MemoryStore

EQUAL = dict.fromkeys("abcd", 1.0)

#: Placed by hand: a holds 000 and 001, b all but 001, c 001 and 002; d nothing.
GROUP = Group(
    EQUAL,
    2,
    {
        "000": ("a", "b", "c", "d"),
        "001": ("c", "a", "d", "b"),
        "002": ("b", "c", "d", "a"),
    },
)

#: Whose copies go through API servers at any speed.
FREE = Rates(link=10.0, disk=1e9, apis=1000)


def test_the_holders_are_those_that_replication_takes():
    """Without a lost server as well, which the placement then does not know."""
    group = Group.of(EQUAL, 2)
    left = dict.fromkeys("abd", 1.0)
    for partition in group.orders:
        assert group.holders(partition) == holders(EQUAL, partition, 2)
        assert group.holders(partition, lost="c") == holders(left, partition, 2)


def test_a_rebuild_is_what_the_planner_plans():
    """For a blob in each partition, of which one of two holders is lost."""
    group = Group.of(EQUAL, 2)
    left = dict.fromkeys("abd", 1.0)
    written, sources = Counter(), Counter()
    for partition in group.orders:
        id, digest = f"{partition}{0:037x}", BlobDigest(1, "0")
        held = {name: {id: digest} if name in group.holders(partition) else {} for name in left}
        for step in plan(held, Placing(holders(left, partition, 2))).steps:
            written.update(step.targets)
            sources.update(step.sources)
    assert rebuild(group, "c") == Rebuild(written.total(), 0, sources, written)


def test_a_share_is_what_a_server_holds_over_what_it_should():
    """Of six copies on servers that are alike each should hold one and a half."""
    assert shares(GROUP) == {"a": 2 / 1.5, "b": 2 / 1.5, "c": 2 / 1.5, "d": 0.0}
    heavy = Group({**EQUAL, "a": 3.0}, 2, GROUP.orders)
    assert shares(heavy) == {"a": 2 / 3, "b": 2.0, "c": 2.0, "d": 0.0}


def test_sets_of_holders_are_counted_once():
    """The order of the holders does not matter."""
    again = Group(EQUAL, 2, {**GROUP.orders, "003": ("a", "c", "b", "d")})
    assert again.holder_sets() == {frozenset("ab"), frozenset("ac"), frozenset("bc")}


def test_a_lost_server_is_copied_from_who_is_left_to_who_is_next():
    """Each copy is read from the other holder, and written to the third in the order."""
    found = rebuild(GROUP, "a")
    assert (found.copies, found.lost) == (2, 0)
    assert found.read == {"b": 1, "c": 1}
    assert found.written == {"c": 1, "d": 1}


def test_several_sources_share_the_reading():
    """With three copies each of the two that are left gives half."""
    found = rebuild(Group(EQUAL, 3, GROUP.orders), "a")
    assert found.read == {"b": 0.5, "c": 1.0, "d": 0.5}
    assert found.written == {"d": 1, "b": 1}


def test_a_last_copy_cannot_be_made_anew():
    """It is counted as lost."""
    found = rebuild(Group(EQUAL, 1, GROUP.orders), "a")
    assert (found.copies, found.lost) == (0, 1)


def test_the_slowest_decides_how_long_a_rebuild_takes():
    """Links carry both ways at once, a disk one thing after another, and all goes through APIs."""
    found = rebuild(GROUP, "a")  # two copies; c reads one and writes one
    assert found.seconds(100.0, FREE) == 10.0
    assert found.seconds(100.0, Rates(link=10.0, disk=5.0, apis=1000)) == 40.0
    assert found.seconds(100.0, Rates(link=10.0, disk=1e9, apis=1)) == 20.0
    assert found.seconds(100.0, Rates(link=10.0, disk=1e9, apis=4)) == 10.0


def test_the_worst_server_to_lose_is_looked_for():
    """Without c two copies go to d; without a or b no server gets more than one; d has none."""
    cluster = Cluster(servers=4, size=4, copies=2, objects=4096, object_bytes=100)
    found, seconds = worst_rebuild(cluster, [GROUP], FREE)
    assert found.written == {"d": 2}
    assert seconds == 20.0


def test_a_server_more_is_given_its_share_and_nothing_else_moves():
    """The least that has to move is that share, of all copies."""
    found = grown(Group.of(names(4), 2), "http://new.example:3001")
    assert found.copies == 8192
    assert found.least == pytest.approx(8192 / 5)
    assert found.moved == pytest.approx(found.least, rel=0.1)
    assert found.elsewhere == 0


def test_a_heavier_server_is_given_more():
    """As much as its weight is of all weights."""
    found = grown(Group.of(names(4), 1), "http://new.example:3001", weight=4.0)
    assert found.least == pytest.approx(4096 / 2)
    assert found.moved == pytest.approx(found.least, rel=0.1)


def test_a_group_more_is_given_its_share_of_ids():
    """None goes to another of the old ones."""
    to_new, elsewhere = redirected(3, 10, [f"{number:040x}" for number in range(2000)])
    assert to_new == pytest.approx(1 / 4, abs=0.04)
    assert elsewhere == 0


def test_the_closed_form_of_two_servers():
    """Twice a year one of them fails, and for a hundredth of the time the other one is."""
    assert durability.loss_rate(sets=1, copies=2, failures=1.0, years=0.01) == 0.02
    assert durability.loss_rate(sets=10, copies=2, failures=1.0, years=0.01) == 0.2
    assert durability.loss_rate(sets=1, copies=3, failures=1.0, years=0.01) == pytest.approx(3e-4)


def test_a_probability_never_exceeds_one():
    """However often something happens in the mean; and a small rate is not rounded to nothing."""
    assert durability.probability(0.0) == 0.0
    assert durability.probability(1e-18) == 1e-18
    assert durability.probability(1.0) == pytest.approx(0.632, abs=0.001)
    assert durability.probability(1000.0) == 1.0


def simulate(servers, sets, failures, years, events):
    chance = random.Random(7)
    sets = {frozenset(each) for each in sets}
    return durability.simulate(tuple(servers), sets, failures, years, events, chance)


def test_who_never_comes_back_is_lost_with_its_fellow():
    """Of two servers both are failed in the end; then both begin again."""
    # Of the failures that are drawn, every other one then hits who is failed already.
    assert simulate("ab", ["ab"], 1.0, 1e9, 3000).losses == pytest.approx(1000, rel=0.1)


def test_who_comes_back_at_once_is_not_lost():
    """Two failures do not meet."""
    assert simulate("ab", ["ab"], 1.0, 1e-12, 2000).losses == 0


def test_servers_that_share_nothing_may_fail_together():
    """Only a set that holds something can be lost."""
    both = simulate("abcd", ["ab", "cd"], 1.0, 0.05, 20_000)
    one = simulate("abcd", ["ab"], 1.0, 0.05, 20_000)
    assert one.losses > 100
    assert both.losses / one.losses == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize("copies", [2, 3])
def test_what_is_simulated_agrees_with_the_closed_form(copies):
    """Where few servers are failed at a time."""
    group = Group.of(names(6), copies)
    years = 0.05 / 6
    seen = durability.simulate(
        tuple(group.weights), group.holder_sets(), 1.0, years, 100_000, random.Random(7)
    )
    expected = durability.loss_rate(len(group.holder_sets()), copies, 1.0, years)
    rate, error = seen.rate()
    assert abs(rate - expected) < 0.1 * expected + error


@pytest_twisted.ensureDeferred
async def test_a_pass_in_sync_costs_what_is_asked_and_answered():
    """Each row of the digests is in it, and nothing of a partition that a server does not hold."""
    cluster = Cluster(servers=8, size=4, copies=2, objects=8192 * 50, object_bytes=1000)
    requests = await traffic.measured(cluster, GROUP, reactor, random.Random(1))
    row = len('"000":[50,50000,"00112233445566778899aabbccddeeff"],')
    *three, none = requests.digests
    # A body of three digits' length, braces and all, and a comma less.
    assert three == [none + len("00") + 2 * row - 1] * 3
    assert requests.unchanged < none


@pytest_twisted.ensureDeferred
async def test_a_listing_costs_what_each_blob_in_it_does():
    """An id, a size, and what tells whether the metadata is the same."""
    cluster = Cluster(servers=8, size=4, copies=2, objects=8192 * 50, object_bytes=1000)
    requests = await traffic.measured(cluster, GROUP, reactor, random.Random(1))
    blob = len('"0123456789012345678901234567890123456789":[1000,""],') + 65
    twice = await traffic.measured(
        evolve(cluster, objects=2 * cluster.objects), GROUP, reactor, random.Random(1)
    )
    assert twice.listing == requests.listing + 50 * blob + len("0")  # of its length in digits
    assert requests.head > len("HEAD /blob/ HTTP/1.1HTTP/1.1 200 OK") + 40


def test_the_traffic_of_a_pass_is_that_of_all_groups():
    """The holders of a partition that differs list it, and nobody else is asked."""
    cluster = Cluster(servers=8, size=4, copies=2, objects=8192 * 50, object_bytes=1000)
    requests = traffic.Requests(digests=(10, 20, 30, 40), unchanged=3, listing=1000, head=500)
    passing = traffic.Traffic(cluster, requests)
    assert passing.idle() == 8 * 3
    assert passing.in_sync() == passing.differing(0.0) == 200
    assert passing.partition() == 2 * 1000
    assert passing.differing(0.5) == 200 + 4096 * 2000
    assert passing.head_for_each() == 8192 * 50 * 500
    three = traffic.Traffic(evolve(cluster, copies=3), requests)
    assert three.head_for_each() == 2 * passing.head_for_each()


@pytest_twisted.ensureDeferred
async def test_what_is_asked_is_counted_to_the_byte():
    """As the digests show it for what is answered."""
    async with counted(MemoryStore(), reactor) as (client, count):
        short = await count(client.listing(after="a"))
        assert await count(client.listing(after="a" * 101)) == short + 100
