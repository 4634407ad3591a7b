"""Simulated servers, and what the placement gives each of them to hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from attrs import field, frozen

from sos.model.placement import rank

#: Every partition of a group.
PARTITIONS = tuple(f"{number:03x}" for number in range(4096))


@frozen
class Cluster:
    """Servers in groups of the same size, and what is stored on them.

    :param size: servers of a group.
    :param copies: of each object.
    :param objects: of all groups together.
    :param object_bytes: mean size of an object.
    """

    servers: int
    size: int
    copies: int
    objects: int
    object_bytes: int

    @property
    def groups(self) -> int:
        return self.servers // self.size

    @property
    def partition_objects(self) -> float:
        """Objects of a partition of a group, in the mean."""
        return self.objects / (self.groups * len(PARTITIONS))

    @property
    def partition_bytes(self) -> float:
        """Size of one copy of a partition of a group, in the mean."""
        return self.partition_objects * self.object_bytes


@frozen
class Group:
    """Servers that replicate among themselves.

    :param weights: of the servers, by their names.
    :param copies: of each partition.
    :param orders: all servers in the order of the placement, by partition.
    """

    weights: Mapping[str, float]
    copies: int
    orders: Mapping[str, tuple[str, ...]] = field(repr=False)

    @classmethod
    def of(
        cls, weights: Mapping[str, float], copies: int, partitions: Collection[str] = PARTITIONS
    ) -> Group:
        """Place *partitions* on the servers in *weights*."""
        return cls(weights, copies, {each: rank(weights, each) for each in partitions})

    def holders(self, partition: str, lost: str | None = None) -> tuple[str, ...]:
        """Return who should hold *partition*, when the server *lost* is no more."""
        first = self.orders[partition][: self.copies + 1]
        return tuple(name for name in first if name != lost)[: self.copies]

    def holder_sets(self) -> set[frozenset[str]]:
        """Return the sets of servers of which each holds all copies of some partition."""
        return {frozenset(self.holders(partition)) for partition in self.orders}

    def held(self) -> Counter[str]:
        """Count the partitions of each server."""
        return Counter(name for partition in self.orders for name in self.holders(partition))


def names(size: int, number: int = 0) -> dict[str, float]:
    """Return servers for group *number*, all of weight 1."""
    return {f"http://blob{number * size + each}.example:3001": 1.0 for each in range(size)}


def shares(group: Group) -> dict[str, float]:
    """Return what each server holds of all copies, over its weight's share of them."""
    held, whole = group.held(), sum(group.weights.values())
    fair = group.copies * len(group.orders) / whole
    return {name: held[name] / (fair * weight) for name, weight in group.weights.items()}


@frozen
class Growth:
    """What a server that is added to a group changes, in copies of partitions.

    :param moved: copies that it is given.
    :param elsewhere: copies that a server is given which was there before.
    :param least: that have to move, if each server is to hold its weight's share.
    :param copies: of all partitions.
    """

    moved: int
    elsewhere: int
    least: float
    copies: int


def grown(group: Group, added: str, weight: float = 1.0) -> Growth:
    """Add a server to *group*."""
    weights = {**group.weights, added: weight}
    after = Group.of(weights, group.copies, tuple(group.orders))
    moved = elsewhere = 0
    for partition in group.orders:
        before = group.holders(partition)
        new = [name for name in after.holders(partition) if name not in before]
        moved += new.count(added)
        elsewhere += len(new) - new.count(added)
    copies = group.copies * len(group.orders)
    return Growth(moved, elsewhere, copies * weight / sum(weights.values()), copies)


def redirected(groups: int, size: int, ids: Collection[str]) -> tuple[float, float]:
    """Add a group; return which parts of *ids* go to it, and to another old one, from then on.

    :param groups: that there were, each of *size* servers of weight 1.
    """
    before = {f"group{number}": float(size) for number in range(groups)}
    added = f"group{groups}"
    to_new = elsewhere = 0
    for id in ids:
        order = rank({**before, added: float(size)}, id)
        if order[0] == added:
            to_new += 1
        elsewhere += order[0] != added and order[0] != rank(before, id)[0]
    return to_new / len(ids), elsewhere / len(ids)
