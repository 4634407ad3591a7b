"""A store in a directory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lmdb
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from sos.aio.threads import ThreadJobs, on_thread
from sos.errors import (
    Deleted,
    NotFound,
    Quarantined,
    ReadOnly,
    SOSError,
    StoreUnusable,
    Unavailable,
)
from sos.interfaces import (
    Blob,
    BlobInfo,
    IBlobWriter,
    IPromptStore,
    IReplicaStore,
    Span,
    StoreStatus,
)
from sos.model import ids
from sos.model.digest import BlobDigest, PartitionDigest, body_digest
from sos.model.metadata import EMPTY, Metadata
from sos.model.quantities import NO_QUOTA, NO_RESERVE, Quota, Reserve
from sos.stores import record as records
from sos.stores.disk_errors import SyncFailed
from sos.stores.local.blob_writes import BlobWrites
from sos.stores.local.body_file import Unreadable, open_body
from sos.stores.local.body_removal import BodyRemoval
from sos.stores.local.committer import Committer
from sos.stores.local.disk import Layout
from sos.stores.local.disk_order import DiskOrder
from sos.stores.local.opening import open_index
from sos.stores.local.quarantine import Quarantine
from sos.stores.local.quota import QuotaAccount
from sos.stores.local.reading import FileBody, verify_body
from sos.stores.local.recovery import clear_incoming
from sos.stores.local.replicas import Replicas
from sos.stores.local.space import Space
from sos.stores.local.writer import LocalWriter, add_inline, record_of
from sos.stores.record import Damaged, Encoded

T = TypeVar("T")

_MOST_THREADS = 8
_WHOLE = 1 << 62
# Most ids of lost blobs in a status.
_LOST_IDS = 200

_log = Logger()


@implementer(IReplicaStore, IPromptStore)
class LocalStore:
    """A store that keeps blobs in a directory.  Open it before use.

    :param algorithm: the hash of new content ids.
    :param durable: False acknowledges blobs that a power cut would lose.
    :param reserve: the space to keep free on the disk.
    :param quota: the most blobs and bytes to hold.
    :param now: returns the time in seconds since the epoch.
    :param committed: see :class:`~sos.stores.local.committer.Committer`.
    :param require: whether the directory must be a store already; else a new store is
        created where there is none.
    :ivar identity: the id of the store, a UUID, once it is open.
    """

    def __init__(
        self,
        directory: Path,
        reactor: IReactorFromThreads,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        durable: bool = True,
        reserve: Reserve = NO_RESERVE,
        quota: Quota = NO_QUOTA,
        now: Callable[[], float] = time.time,
        committed: Callable[[int, float], None] = lambda changes, seconds: None,
        require: bool = False,
    ) -> None:
        self.name = str(directory)
        self.identity: str | None = None
        self._reactor = reactor
        self._algorithm = algorithm
        self._now = now
        self._committed = committed
        self._require = require
        self._layout = Layout(directory, durable)
        account = None if quota == NO_QUOTA else QuotaAccount(quota, lambda: self._index.totals())
        self._space = Space(directory, reserve, lambda: self._index.reusable(), account)

    def open(self) -> None:
        """Lock the directory, clean up after a crash, and start the threads.

        :raises StoreUnusable: if another process uses the directory, or it is no usable store.
        """
        self._lock = self._layout.lock(not self._require)
        self._prepare()
        self._pool = ThreadPool(0, _MOST_THREADS, "sos-store")
        self._pool.start()
        self._committer = Committer(self._index, self._reactor, self._committed)
        self._committer.start()
        self._index.damaged = self._committer.give_up
        if (obstacle := self._layout.obstacle) is not None:
            self._committer.give_up(obstacle)
        body_removal = BodyRemoval(self._layout, self._committer, self._run_in_thread)
        self._quarantine = Quarantine(self.name, self._layout, self._committer, self._index)
        self._blob_writes = BlobWrites(
            self._layout, self._committer, self._quarantine, body_removal, self._run_in_thread
        )
        self._replicas = Replicas(self._layout, self._committer, body_removal)

    def _prepare(self) -> None:
        try:
            self._index = open_index(self._layout, self._lock)
            self.identity = self._index.identity
            cleared = 0 if self._layout.readonly else self._clear_incoming()
        except BaseException:
            os.close(self._lock)
            raise
        if cleared:
            _log.info(
                "removed unfinished uploads, store={store}, n={n}", store=self.name, n=cleared
            )

    def _clear_incoming(self) -> int:
        try:
            return clear_incoming(self._layout, self._index)
        except (lmdb.Error, OSError, SyncFailed, SOSError) as error:
            self._index.close()
            raise StoreUnusable(
                f"{self.name} cannot clean up after the last run: {error}"
            ) from error

    async def close(self) -> None:
        """Finish the changes in flight, and unlock the directory."""
        await self._blob_writes.underway.finish()
        await self._run_in_thread(self._committer.stop)
        self._pool.stop()
        self._index.close()
        os.close(self._lock)

    @property
    def failure(self) -> str | None:
        """Why the store accepts no blobs until it is opened again, None while it does."""
        return self._committer.failure

    async def stat(self, id: str) -> BlobInfo:
        encoded = self._index.get(id)
        if encoded is None:
            raise self._not_found(id)
        try:
            record = records.decode(id, encoded)
            if not record.readable:
                raise Unreadable("an earlier read failed")
            return record.live_info()
        except (Damaged, Unreadable) as error:
            await self._refuse(id, encoded, error)
        return await self.stat(id)

    async def read(self, id: str, span: Span | None = None) -> Blob:
        return await self._opened(id, self._index.get(id), span)

    def peek(self, id: str) -> Blob | None:
        try:
            encoded = self._index.get(id)
            if encoded is None or encoded.body is None:
                return None
            record = records.decode(id, encoded)
            record.verify_inline()
            return Blob(record.live_info(), encoded.body)
        except (Damaged, Deleted, Unavailable):
            return None

    async def _opened(
        self, id: str, encoded: Encoded | None, span: Span | None, thorough: bool = False
    ) -> Blob:
        if encoded is None:
            raise self._not_found(id)
        try:
            record = records.decode(id, encoded)
            info = record.live_info()
            if record.body is not None:
                record.verify_inline()
                return Blob(info, record.body if span is None else record.body[slice(*span)])
            jobs = ThreadJobs(self._run_in_thread)
            if not record.readable or self._index.is_suspect(id):
                await jobs.run(self._blob_writes.verify, record)
                self._index.clear_suspect(id)
                with suppress(SOSError):  # the body is sound even if the mark cannot be removed
                    await self._quarantine.mark(id, encoded, readable=True)
            path = self._layout.body(id)
            file, blocks = await jobs.run(open_body, path, record)
            try:
                if blocks is None and span is not None:
                    blocks = await jobs.run(verify_body, path, record)
            except BaseException:
                file.close()
                raise
            failed = partial(self._failed, id, encoded)
            return Blob(info, FileBody(path, file, blocks, record, span, thorough, jobs, failed))
        except (Damaged, Unreadable) as error:
            await self._refuse(id, encoded, error)
        # The record has been replaced meanwhile, as a manifest by its object.
        return await self._opened(id, self._index.get(id), span, thorough)

    def disk_order(self) -> DiskOrder:
        """Return the blobs in disk order, for a scrub.  The store must be open."""
        opened = partial(self._opened, span=None, thorough=True)
        return DiskOrder(self._index, self._layout, self._run_in_thread, opened)

    async def put(self, id: str | None, metadata: Metadata, body: bytes) -> BlobInfo:
        if self.failure is not None:
            raise ReadOnly(self.failure)
        taken = self._space.take_blob(len(body))
        try:
            digest = body_digest(id, metadata, self._algorithm)
            digest.update(body)
            record = record_of(digest, metadata, self._now(), body)
        except BaseException:
            self._space.end(taken)
            raise
        return await add_inline(self._blob_writes, self._space, record, taken)

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        if self.failure is not None:
            raise ReadOnly(self.failure)
        digest = body_digest(id, metadata, self._algorithm, size)
        return LocalWriter(self._blob_writes, self._space, id, metadata, size, digest, self._now)

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        return self._index.listing(after, _WHOLE if limit is None else limit, partition)

    async def digests(self) -> Mapping[str, PartitionDigest]:
        self._check_in_place()
        return self._index.digests()

    async def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        # In a thread: a large partition would block the reactor.
        digests = self._index.blob_digests
        return await self._run_in_thread(self._index.read_in_thread, digests, partition)

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        encoded = self._index.get(id)
        try:
            await self._blob_writes.underway.to_its_end(self._replicas.reconcile(id, metadata))
        except Damaged as damage:
            assert encoded is not None
            await self._refuse(id, encoded, damage)
            await self.reconcile(id, metadata)

    async def lease(self, seconds: float, token: str | None = None) -> str:
        return await self._blob_writes.underway.to_its_end(self._replicas.lease(seconds, token))

    async def release(self, token: str) -> None:
        await self._blob_writes.underway.to_its_end(self._replicas.release(token))

    async def drop(self, id: str, token: str, known: BlobDigest | None = None) -> None:
        await self._blob_writes.underway.to_its_end(self._replicas.drop(id, token, known))

    def _check_in_place(self) -> None:
        """Raise Unavailable if the store's files were removed or replaced, as by an unmount."""
        try:
            self._index.check_in_place()
        except SyncFailed as error:
            self._committer.give_up(str(error))
            raise Unavailable(str(error)) from error

    async def status(self) -> StoreStatus:
        doubt = lost = None
        lost_ids: tuple[str, ...] = ()
        try:
            self._check_in_place()
            lost, lost_ids = self._index.lost(_LOST_IDS)
            digests = self._index.digests().values()
        except Unavailable as error:
            blobs = size = None
            doubt = str(error)
        else:
            blobs = sum(digest.count for digest in digests)
            size = sum(digest.bytes for digest in digests)
        reason = self.failure
        capacity = free = None
        try:
            capacity, free, refusal = self._space.measure()
            reason = reason or refusal
        except SOSError as error:
            reason = reason or str(error)
        return StoreStatus(
            writable=reason is None,
            reason=reason or doubt,
            blobs=blobs,
            size=size,
            capacity=capacity,
            free=free,
            lost=lost,
            lost_ids=lost_ids,
            id=self.identity,
            tombstones=True,
        )

    async def _refuse(self, id: str, encoded: Encoded, error: Damaged | Unreadable) -> None:
        """Quarantine or mark the blob and raise; return if its record has changed meanwhile."""
        if await self._judge(id, encoded, error):
            if isinstance(error, Damaged):
                raise Quarantined(id, error) from error
            raise Unavailable(f"the stored copy of {id} cannot be read: {error}") from error

    async def _failed(self, id: str, encoded: Encoded, error: Damaged | Unreadable) -> bool:
        """Take out the blob; return False if another readable record has replaced *encoded*."""
        if await self._judge(id, encoded, error):
            return True
        current = self._index.get(id)
        return current is None or records.is_marked(current.head)

    async def _judge(self, id: str, encoded: Encoded, error: Damaged | Unreadable) -> bool:
        """Quarantine a damaged blob, or mark an unreadable one.

        Return False if *encoded* is no longer its record.
        """
        return await self._blob_writes.underway.to_its_end(
            self._quarantine.take_out(id, encoded, error)
        )

    def _not_found(self, id: str) -> NotFound:
        return NotFound(f"there is no blob {id}")

    def _run_in_thread(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        return on_thread(self._reactor, self._pool, function, *args)
