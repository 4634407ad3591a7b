"""Placement: the order of a cluster's groups, and of a group's members, for a blob.

Both use rendezvous hashing (highest random weight): each name gets a score from
a hash of the name and a key, and the best score comes first.  Every process that
knows the names computes the same order.  When a name is added or removed, blobs
move only to or from that name.

Groups are ordered by id, members by partition, because anti-entropy passes
compare the members of a group by partition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from sos.model import ids

_UNIT = 1 << 64


def rank(weights: Mapping[str, float], key: str) -> tuple[str, ...]:
    """Order the names in *weights* for *key*.

    The share of keys for which a name comes first is its weight, above zero,
    divided by the sum of all weights.
    """
    if len(weights) == 1:
        return tuple(weights)
    return tuple(sorted(weights, key=lambda name: _score(name, weights[name], key)))


def _score(name: str, weight: float, key: str) -> tuple[float, str]:
    digest = blake2b(f"{key} {name}".encode(), digest_size=8).digest()
    # An exponential variable with the weight as its rate.  The probability that a
    # name's is the least of all is its rate divided by the sum of the rates.
    return -math.log((int.from_bytes(digest, "big") + 0.5) / _UNIT) / weight, name


class Placement:
    """The order in which to try the servers of a cluster.

    :param groups: the members' weights by their names, by group.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, float]]) -> None:
        self._groups = {name: dict(weights) for name, weights in groups.items() if weights}
        self._weights = {name: sum(weights.values()) for name, weights in self._groups.items()}
        self._members: dict[tuple[str, str], tuple[str, ...]] = {}

    def groups(self, id: str) -> Sequence[str]:
        """Return the groups that have members, first the one where *id* belongs."""
        return rank(self._weights, id)

    def members(self, group: str, id: str) -> Sequence[str]:
        """Return the members of *group*, if it has any, first the replica set of *id*."""
        partition = ids.partition(id)
        known = self._members.get((group, partition))
        if known is None:
            known = rank(self._groups.get(group, {}), partition)
            self._members[group, partition] = known
        return known
