"""The bytes of a pass, as a real client and a real server send them.

TCP, IP and TLS come on top of them.
"""

from __future__ import annotations

import random
from typing import Any

from attrs import frozen

from benchmarks.scale.groups import PARTITIONS, Cluster, Group
from benchmarks.scale.wire import counted
from sos.model.digest import BlobDigest, PartitionDigest
from sos.model.metadata import version
from sos.stores.memory import MemoryStore
from sos.transfer import transfer

_METADATA = {"X-Mime-Type": "image/jpeg", "X-Orig-Filename": "photo.jpg"}


@frozen
class Requests:
    """The bytes of requests and their answers.

    :param digests: of asking each server of a group for its digests, which have changed.
    :param unchanged: of asking one whose digests have not.
    :param listing: of asking a server that holds a partition for what it holds of it.
    :param head: of asking for the head of a blob.
    """

    digests: tuple[int, ...]
    unchanged: int
    listing: int
    head: int


@frozen
class Traffic:
    """The bytes of a pass over all groups of a cluster, which are all like one."""

    cluster: Cluster
    requests: Requests

    def idle(self) -> int:
        """Return those of a pass that finds all as it was."""
        return self.cluster.servers * self.requests.unchanged

    def in_sync(self) -> int:
        """Return those of a pass that finds nothing to do, though all have changed."""
        return self.cluster.groups * sum(self.requests.digests)

    def partition(self) -> int:
        """Return those of comparing one partition: those who should hold it are asked."""
        return self.cluster.copies * self.requests.listing

    def differing(self, share: float) -> int:
        """Return those of a pass in which a *share* of all partitions differs."""
        partitions = round(share * self.cluster.groups * len(PARTITIONS))
        return self.in_sync() + partitions * self.partition()

    def head_for_each(self) -> int:
        """Return those of a HEAD for each object to each other server that should have it."""
        return self.cluster.objects * (self.cluster.copies - 1) * self.requests.head


async def measured(cluster: Cluster, group: Group, reactor: Any, chance: random.Random) -> Requests:
    """Ask a real blob server for what each server of *group* would answer."""
    store = _Holding(cluster, chance)
    blob = await transfer(b"", store.writer(None, _METADATA))
    async with counted(store, reactor) as (client, count):
        head = await count(client.stat(blob.id))
        digests = []
        await client.digests()
        for name in group.weights:
            store.hold({each for each in group.orders if name in group.holders(each)})
            digests.append(await count(client.digests()))
        unchanged = await count(client.digests())
        store.hold(set(PARTITIONS))
        listing = await count(client.blob_digests(PARTITIONS[0]))
    return Requests(tuple(digests), unchanged, listing, head)


class _Holding(MemoryStore):
    """A store that tells of the partitions that it is to hold what a server of *cluster* would."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        super().__init__()
        self._digests: dict[str, PartitionDigest] = {}
        self._cluster = cluster
        self._chance = chance

    def hold(self, partitions: set[str]) -> None:
        count, size = round(self._cluster.partition_objects), round(self._cluster.partition_bytes)
        self._digests = {
            each: PartitionDigest(count, size, self._chance.getrandbits(128))
            for each in sorted(partitions)
        }

    async def digests(self) -> dict[str, PartitionDigest]:
        return self._digests

    async def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        count = round(self._cluster.partition_objects)
        digest = BlobDigest(self._cluster.object_bytes, version(_METADATA))
        return {f"{partition}{number:037x}": digest for number in range(count)}
