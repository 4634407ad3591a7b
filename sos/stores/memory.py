"""A store in this process's memory: for tests and for scratch use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from attrs import evolve, frozen
from zope.interface import implementer

from sos.errors import NotFound, StoreUnusable
from sos.interfaces import (
    SMALL_BODY,
    Blob,
    BlobInfo,
    IBlobWriter,
    IEngineStore,
    Span,
    StoreStatus,
)
from sos.model import ids, merge
from sos.model import lease as leases
from sos.model.digest import (
    BlobDigest,
    PartitionDigest,
    blob_digest,
    body_digest,
    check_held,
    hash_of,
    record_sum,
)
from sos.model.metadata import EMPTY, Metadata, encode, is_tombstone
from sos.transfer import cut


@frozen
class _Stored:
    info: BlobInfo
    body: bytes
    hash: bytes

    def digest(self) -> BlobDigest:
        return blob_digest(self.info.id, len(self.body), self.info.metadata, self.hash)


@implementer(IEngineStore)
class MemoryStore:
    """A store that keeps blobs until the process ends.

    :param algorithm: the hash of new content ids.
    :param now: returns the time in seconds since the epoch.
    :param identity: the id of the store, a UUID, if it has one.
    """

    def __init__(
        self,
        name: str = "memory:",
        algorithm: str = ids.DEFAULT_ALGORITHM,
        now: Callable[[], float] = time.time,
        identity: str | None = None,
    ) -> None:
        self.identity = identity
        self.name = name
        self.algorithm = algorithm
        self.now = now
        self.blobs: dict[str, _Stored] = {}
        self._lease: leases.Lease | None = None

    async def open(self, require: bool = False) -> None:
        """Raise StoreUnusable if a store must exist already: this one is always new."""
        if require:
            raise StoreUnusable(f"{self.name} is always a new store: omit --require-store")

    async def close(self) -> None:
        """Do nothing: the blobs vanish with the process."""

    async def stat(self, id: str) -> BlobInfo:
        return self._stored(id).info

    async def read(self, id: str, span: Span | None = None) -> Blob:
        stored = self._stored(id)
        body = stored.body if span is None else stored.body[slice(*span)]
        return Blob(stored.info, body if len(body) <= SMALL_BODY else cut(body))

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        return _MemoryWriter(self, id, metadata, size)

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        start = "" if after is None else ids.sort_key(after)
        keys = sorted(
            key
            for key in map(ids.sort_key, self.blobs)
            if not is_tombstone(self.blobs[key[3:]].info.metadata)
            if key > start and key.startswith(partition or "")
        )
        return [key[3:] for key in keys[:limit]]

    async def digests(self) -> Mapping[str, PartitionDigest]:
        found: dict[str, PartitionDigest] = {}
        for id, stored in self.blobs.items():
            before = found.get(ids.partition(id), PartitionDigest())
            sum = record_sum(id, encode(stored.info.metadata), stored.hash)
            found[ids.partition(id)] = before.with_blob(len(stored.body), sum)
        return found

    async def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        return {
            id: stored.digest()
            for id, stored in self.blobs.items()
            if ids.partition(id) == partition
        }

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        stored = self.blobs.get(id)
        kept = merge.reconcile(id, None if stored is None else stored.info.metadata, metadata)
        if stored is None or is_tombstone(kept):
            info = BlobInfo(id, 0, kept, self.now())
            self.blobs[id] = _Stored(info, b"", hash_of(id, b""))
        else:
            self.blobs[id] = evolve(stored, info=evolve(stored.info, metadata=kept))

    async def lease(self, seconds: float, token: str | None = None) -> str:
        self._lease = leases.grant(self._lease, seconds, self.now(), token)
        return self._lease.token

    async def release(self, token: str) -> None:
        if self._lease is not None and self._lease.token == token:
            self._lease = None

    async def drop(self, id: str, token: str, known: BlobDigest | None = None) -> None:
        leases.check(self._lease, token, self.now())
        stored = self.blobs.get(id)
        if stored is not None:
            check_held(id, stored.digest(), known)
            del self.blobs[id]

    async def status(self) -> StoreStatus:
        size = sum(len(stored.body) for stored in self.blobs.values())
        return StoreStatus(True, None, len(self.blobs), size, id=self.identity, tombstones=True)

    def _stored(self, id: str) -> _Stored:
        try:
            stored = self.blobs[id]
        except KeyError:
            raise NotFound(f"there is no blob {id}") from None
        if is_tombstone(stored.info.metadata):
            raise merge.deleted(id, stored.info.metadata)
        return stored


def make(url: str, algorithm: str, reactor: Any) -> IEngineStore:
    """Return an empty store.  Raises ValueError for any *url* but ``memory:``."""
    if url != "memory:":
        raise ValueError(f"the URL of a store in memory is memory: alone, not {url!r}")
    return MemoryStore(algorithm=algorithm, identity=str(uuid4()))


@implementer(IBlobWriter)
class _MemoryWriter:
    def __init__(
        self, store: MemoryStore, id: str | None, metadata: Metadata, size: int | None
    ) -> None:
        self._store = store
        self._metadata = metadata
        self._digest = body_digest(id, metadata, store.algorithm, size)
        self._pieces: list[bytes] = []

    async def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._pieces.append(piece)

    async def commit(self) -> BlobInfo:
        id = self._digest.verified_id()
        info = BlobInfo(id, self._digest.size, dict(self._metadata), self._store.now())
        new = _Stored(info, b"".join(self._pieces), self._digest.value())
        held = self._store.blobs.setdefault(id, new)
        if held is not new:
            same = held.body == new.body
            kept, takes_new = merge.join(id, held.info.metadata, self._metadata, same)
            taken = new if takes_new else held
            info = evolve(taken.info, metadata=kept)
            self._store.blobs[id] = evolve(taken, info=info)
        return evolve(info, size=self._digest.size, store=self._store.identity)

    def abort(self) -> None:
        self._pieces.clear()
