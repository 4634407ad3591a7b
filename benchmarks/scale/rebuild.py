"""How long it takes until all that a lost server held has its copies again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from attrs import frozen

from benchmarks.scale.groups import Cluster, Group


@frozen
class Rates:
    """What machines can do, in bytes a second.

    :param link: of a server, each way.
    :param disk: of a server, reads and writes together.
    :param apis: API servers that replicate, whose links are the same: copies
        pass through them.
    """

    link: float
    disk: float
    apis: int


@frozen
class Rebuild:
    """The copies to make when a server is lost, in partitions.

    :param copies: to be made.
    :param lost: partitions of which no copy is left.
    :param read: from each server; where there are several sources each gives
        as much.
    :param written: to each server.
    """

    copies: int
    lost: int
    read: Mapping[str, float]
    written: Mapping[str, int]

    def server_seconds(self, partition_bytes: float, rates: Rates) -> float:
        """Return how long the server with the most to do is at work."""
        busiest = 0.0
        for name in {*self.read, *self.written}:
            read, written = self.read.get(name, 0.0), self.written.get(name, 0)
            busiest = max(
                busiest, read / rates.link, written / rates.link, (read + written) / rates.disk
            )
        return busiest * partition_bytes

    def api_seconds(self, partition_bytes: float, rates: Rates) -> float:
        """Return how long the API servers are at work, which share it."""
        return self.copies * partition_bytes / (rates.link * rates.apis)

    def seconds(self, partition_bytes: float, rates: Rates) -> float:
        """Return how long it takes, all of them being at work at the same time."""
        return max(
            self.server_seconds(partition_bytes, rates), self.api_seconds(partition_bytes, rates)
        )


def rebuild(group: Group, lost: str) -> Rebuild:
    """Return what is to be done in *group* when the server *lost* does not come back."""
    copies = gone = 0
    read: defaultdict[str, float] = defaultdict(float)
    written: Counter[str] = Counter()
    for partition in group.orders:
        before = group.holders(partition)
        if lost not in before:
            continue
        sources = [name for name in before if name != lost]
        if not sources:
            gone += 1
            continue
        for target in set(group.holders(partition, lost)) - set(sources):
            copies += 1
            written[target] += 1
            for source in sources:
                read[source] += 1 / len(sources)
    return Rebuild(copies, gone, dict(read), dict(written))


def worst_rebuild(cluster: Cluster, groups: list[Group], rates: Rates) -> tuple[Rebuild, float]:
    """Return the longest rebuild there can be when one server is lost, and its seconds."""
    rebuilds = [rebuild(group, name) for group in groups for name in group.weights]
    timed = [(each.seconds(cluster.partition_bytes, rates), each) for each in rebuilds]
    seconds, found = max(timed, key=lambda pair: pair[0])
    return found, seconds
