"""Where blobs belong: shares, movement, and agreement."""

from __future__ import annotations

import math
from collections import Counter
from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.model.placement import Placement, rank

PARTITIONS = [f"{number:03x}" for number in range(4096)]
EXPECTED = [
    ("http://a:1", "http://c:1", "http://b:1"),
    ("http://c:1", "http://b:1", "http://a:1"),
    ("http://b:1", "http://a:1", "http://c:1"),
    ("http://b:1", "http://c:1", "http://a:1"),
]
NAMES = st.lists(st.text("abcdefgh.:/0123456789", min_size=1), min_size=1, max_size=8, unique=True)


def servers(count):
    return [f"http://server{number}.example:3001" for number in range(count)]


def ids(count):
    return [sha1(b"%d" % number).hexdigest() for number in range(count)]


def holders(weights, copies, partition):
    return rank(weights, partition)[:copies]


@given(NAMES, st.sampled_from(PARTITIONS), st.randoms())
def test_the_order_is_that_of_the_names_alone(names, key, random):
    """Every API server computes the same, however its file lists them."""
    shuffled = random.sample(names, len(names))
    expected = rank(dict.fromkeys(names, 1.0), key)
    assert rank(dict.fromkeys(shuffled, 1.0), key) == expected
    assert sorted(expected) == sorted(names)


def test_the_order_is_the_same_for_ever():
    """Or all blobs would have to move when the program is renewed."""
    weights = {"http://a:1": 1.0, "http://b:1": 2.0, "http://c:1": 0.5}
    assert [rank(weights, key) for key in ("000", "001", "abc", "fff")] == EXPECTED


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("count", [4, 10, 100])
def test_shares_are_as_chance_has_it(count, copies):
    """A server's share is a sum of 4096 draws: all are within four deviations of it."""
    weights = dict.fromkeys(servers(count), 1.0)
    shares = Counter(name for key in PARTITIONS for name in holders(weights, copies, key))
    expected = 4096 * copies / count
    deviation = math.sqrt(expected * (1 - copies / count))
    assert max(abs(shares[name] - expected) for name in weights) < 4 * deviation


def test_a_hundred_servers_in_groups_are_within_five_percent():
    """25 groups of four, two copies of each blob: what a large cluster should look like."""
    groups = {
        f"group{number}": {f"http://{number}.{member}:1": 1.0 for member in range(4)}
        for number in range(25)
    }
    placement = Placement(groups)
    by_group = Counter(placement.groups(id)[0] for id in ids(100_000))
    for name in groups:
        assert abs(by_group[name] / 4000 - 1) < 0.05
        shares = Counter(
            member for key in PARTITIONS for member in placement.members(name, key + 37 * "0")[:2]
        )
        assert all(abs(shares[member] / 2048 - 1) < 0.05 for member in groups[name])


def test_a_weight_is_a_share():
    """Three times the weight is three times the partitions."""
    weights = {"http://a:1": 1.0, "http://b:1": 3.0, "http://c:1": 0.5}
    shares = Counter(rank(weights, key)[0] for key in PARTITIONS)
    for name, weight in weights.items():
        expected = 4096 * weight / 4.5
        assert abs(shares[name] - expected) < 4 * math.sqrt(expected)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("count", [3, 9, 99])
def test_only_what_goes_to_a_new_server_moves(count, copies):
    """And the same in reverse, when it goes: from it, and nothing else."""
    before = dict.fromkeys(servers(count), 1.0)
    after = dict.fromkeys(servers(count + 1), 1.0)
    (new,) = after.keys() - before.keys()
    moved = 0
    for key in PARTITIONS:
        old, now = holders(before, copies, key), holders(after, copies, key)
        gained = set(now) - set(old)
        assert gained <= {new}
        assert len(set(old) - set(now)) == len(gained)
        assert [name for name in now if name != new] == list(old[: copies - len(gained)])
        moved += len(gained)
    share = 4096 * copies / (count + 1)
    assert moved < share + 4 * math.sqrt(share)


@given(NAMES, st.data())
def test_members_of_a_group_are_ordered_by_partition(names, data):
    """All ids of a partition have the same holders, so that digests can be compared."""
    placement = Placement({"g": dict.fromkeys(names, 1.0), "empty": {}})
    one, other = data.draw(st.sampled_from(ids(50))), data.draw(st.sampled_from(ids(50)))
    assert placement.groups(one) == ("g",)
    if one[:3] == other[:3]:
        assert placement.members("g", one) == placement.members("g", other)
    assert placement.members("g", one) == rank(dict.fromkeys(names, 1.0), one[:3])
