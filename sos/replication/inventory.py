"""Inventories: which blobs each server holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from hashlib import blake2b
from typing import Protocol

from sos.errors import NotFound
from sos.interfaces import IReplicaStore
from sos.model import ids
from sos.model.digest import PartitionDigest
from sos.replication.plan import Held


class Inventory(Protocol):
    """The partitions that one server held when it was asked."""

    @property
    def digests(self) -> Mapping[str, Hashable]:
        """Digests by partition; equal digests mean equal contents.

        Empty partitions have none.
        """

    #: Whether the server can drop copies.
    drops: bool

    def count(self, partition: str) -> int:
        """Return the number of blobs that the server holds in *partition*."""

    async def held(self, partition: str) -> Held:
        """Return the blobs that the server holds in *partition*.  Raises Unavailable."""


async def take(store: IReplicaStore) -> Inventory:
    """Return the inventory of *store*.

    This takes one request, for the digests of all partitions.  A server of the original
    system has none, and lists all its blobs in a second request.  Raises Unavailable.
    """
    try:
        return _Digested(store, await store.digests())
    except NotFound:
        return _Listed(await store.listing())


class _Digested:
    drops = True

    def __init__(self, store: IReplicaStore, digests: Mapping[str, PartitionDigest]) -> None:
        self.digests = digests
        self._store = store

    def count(self, partition: str) -> int:
        known = self.digests.get(partition)
        return known.count if known else 0

    async def held(self, partition: str) -> Held:
        return await self._store.blob_digests(partition)


class _Listed:
    """Inventory from the listing of a server of the original system, which has no digests."""

    drops = False

    def __init__(self, listed: list[str]) -> None:
        self._partitions: defaultdict[str, list[str]] = defaultdict(list)
        for id in listed:  # in order
            self._partitions[ids.partition(id)].append(id)
        self.digests = {
            partition: blake2b(" ".join(found).encode("ascii"), digest_size=16).digest()
            for partition, found in self._partitions.items()
        }

    def count(self, partition: str) -> int:
        return len(self._partitions.get(partition, ()))

    async def held(self, partition: str) -> Held:
        return dict.fromkeys(self._partitions.get(partition, ()))
