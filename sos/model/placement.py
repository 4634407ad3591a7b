"""Where blobs belong: the order of a cluster's groups, and of a group's members.

Both are rendezvous orders (highest random weight): each name is given a score
by a hash of the name and of what is to be placed, and the best comes first.
Whoever knows the names comes to the same order, and when a name is added or
taken away nothing moves but to or from that name.

Groups are ordered for each id, members for each partition: it is by partition
that the members of a group are compared with each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from sos.model import ids

_UNIT = 1 << 64


def rank(weights: Mapping[str, float], key: str) -> tuple[str, ...]:
    """Order the names in *weights* for what is called *key*.

    A name comes first for a share of all keys that is as its weight, above
    zero, to the sum of all weights.
    """
    if len(weights) == 1:
        return tuple(weights)
    return tuple(sorted(weights, key=lambda name: _score(name, weights[name], key)))


def _score(name: str, weight: float, key: str) -> tuple[float, str]:
    digest = blake2b(f"{key} {name}".encode(), digest_size=8).digest()
    # An exponential variable of this rate: the least of several is that of a
    # name with a probability of its share in the sum of the rates.
    return -math.log((int.from_bytes(digest, "big") + 0.5) / _UNIT) / weight, name


class Placement:
    """The order in which the servers of a cluster are to be tried.

    :param groups: the members' weights by their names, by group.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, float]]) -> None:
        self._groups = {name: dict(weights) for name, weights in groups.items() if weights}
        self._weights = {name: sum(weights.values()) for name, weights in self._groups.items()}
        self._members: dict[tuple[str, str], tuple[str, ...]] = {}

    def groups(self, id: str) -> Sequence[str]:
        """Return the groups that have members, the one where *id* belongs first."""
        return rank(self._weights, id)

    def members(self, group: str, id: str) -> Sequence[str]:
        """Return the members of *group*, if it has any, those that should keep *id* first."""
        partition = ids.partition(id)
        known = self._members.get((group, partition))
        if known is None:
            known = rank(self._groups.get(group, {}), partition)
            self._members[group, partition] = known
        return known
