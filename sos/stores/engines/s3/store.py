"""A store that keeps its blobs in a bucket of S3."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from twisted.internet.defer import TimeoutError, ensureDeferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from sos.aio.threads import RunInThread
from sos.errors import (
    Mismatch,
    NoSpace,
    NotFound,
    Quarantined,
    SOSError,
    Unavailable,
)
from sos.interfaces import (
    SMALL_BODY,
    Blob,
    BlobInfo,
    IBlobWriter,
    IEngineStore,
    Pieces,
    Span,
    StoreStatus,
)
from sos.model import ids
from sos.model.digest import BlobDigest, BodyDigest, PartitionDigest, body_digest
from sos.model.metadata import EMPTY, Metadata
from sos.stores.block_hashes import BlockHashes
from sos.stores.engines.s3 import records
from sos.stores.engines.s3.blobs import Blobs, Held
from sos.stores.engines.s3.bucket import Bucket
from sos.stores.engines.s3.client import Denied, unusable
from sos.stores.engines.s3.leasing import Leasing
from sos.stores.engines.s3.multipart import PART_SIZE, abort_forgotten
from sos.stores.engines.s3.opening import look, open_store
from sos.stores.engines.s3.partition_digests import Count, PartitionDigests, markers
from sos.stores.engines.s3.reading import CheckedBody, CheckedPart, whole_blocks
from sos.stores.remote.client import gather
from sos.stores.spool import Spooled, SpooledWriter

# Seconds for which the status reports a bucket as full after it was.
_FULL_SECONDS = 30.0
# Timeout of a status request in seconds.
_STATUS_SECONDS = 3.0

_log = Logger()


@implementer(IEngineStore)
class S3Store:
    """A store whose blobs are in *bucket*; see :mod:`sos.stores.engines.s3.records`.

    It spools a body on this machine, in memory while it is small, and sends it only once it is
    verified.

    :param algorithm: the hash of new content ids.
    :param part_size: see :class:`~sos.stores.engines.s3.blobs.Blobs`.
    """

    def __init__(
        self,
        bucket: Bucket,
        algorithm: str,
        run_in_thread: RunInThread,
        clock: Any,
        part_size: int = PART_SIZE,
    ) -> None:
        self.name = bucket.client.name
        self.identity: str | None = None
        self._bucket = bucket
        self._algorithm = algorithm
        self._run_in_thread = run_in_thread
        self._clock = clock
        self._digests = PartitionDigests(bucket)
        self._blobs = Blobs(bucket, self._digests, part_size)
        self._leasing = Leasing(bucket)
        self._count = Count(self._digests, self.name, clock)
        self._full: tuple[float, str] | None = None

    async def open(self, require: bool = False) -> None:
        """Open the store; create the bucket if need be; test what the server supports."""
        opening = await self._bucket.identified()
        try:
            document = await open_store(opening, require)
            await opening.probe(records.STORE_KEY, document)
        except NoSpace as error:  # reading still works
            self._full = self._clock.seconds(), str(error)
        except Denied as error:
            raise unusable(error) from error
        self.identity = records.id_in(document)
        self._bucket.open(opening)
        if not self._count.running:
            self._count.startService()
        await abort_forgotten(self._bucket)

    async def close(self) -> None:
        if self._count.running:
            await maybeDeferred(self._count.stopService)
        await self._bucket.client.close()

    async def stat(self, id: str) -> BlobInfo:
        return (await self._held(id)).info

    async def _held(self, id: str) -> Held:
        held = await self._blobs.held(id)
        if held is None:
            raise NotFound(f"there is no blob {id}")
        return held.live()

    async def read(self, id: str, span: Span | None = None) -> Blob:
        if span is not None and span[0] == span[1]:
            return Blob(await self.stat(id), b"")
        try:
            opened = await self._bucket.read(records.body_key(id), span and whole_blocks(span))
        except Unavailable:
            await self._held(id)  # a tombstone has no such part
            raise
        if opened is None:
            if await self._blobs.forget(id):
                raise Quarantined(id, "its body is missing")
            raise NotFound(f"there is no blob {id}")
        entry, pieces = opened
        try:
            held = (await self._blobs.described(id, entry)).live()
            if span is not None:
                return await self._part(held, pieces, span)
            if entry.size > SMALL_BODY:
                return Blob(held.info, self._checked(held, pieces))
            body = await gather(pieces, SMALL_BODY)
        except BaseException:
            await pieces.aclose()
            raise
        await self._verify(held, body)
        return Blob(held.info, body)

    async def _part(self, held: Held, pieces: Pieces, span: Span) -> Blob:
        blocks = await self._blobs.blocks(held)
        verify, failure = partial(held.verify_block, blocks), partial(self._part_failure, held)
        part = CheckedPart(pieces, span, verify, failure)
        if span[1] - span[0] > SMALL_BODY:
            return Blob(held.info, part)
        try:
            return Blob(held.info, b"".join([piece async for piece in part]))
        except Mismatch as error:
            raise Quarantined(held.info.id, error) from error

    async def _part_failure(self, held: Held, error: Mismatch) -> Exception:
        if await self._blobs.quarantine(held):
            return error
        return Unavailable(f"{held.info.id} was damaged in transit: {error}")

    def _checked(self, held: Held, pieces: Pieces) -> Pieces:
        return CheckedBody(pieces, held.check, partial(self._blobs.quarantine, held))

    async def _verify(self, held: Held, body: bytes) -> None:
        check = held.check
        try:
            check.update(body)
            check.finish()
        except Mismatch as error:
            if await self._blobs.quarantine(held):
                raise Quarantined(held.info.id, error) from error
            raise Unavailable(f"{held.info.id} was damaged in transit: {error}") from error

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        digest = body_digest(id, metadata, self._algorithm, size)
        hashes = BlockHashes()
        place = partial(self._place, digest, hashes)
        return SpooledWriter(digest, metadata, place, self._run_in_thread, hashes.update)

    async def _place(self, digest: BodyDigest, hashes: BlockHashes, new: Spooled) -> BlobInfo:
        hash = digest.value().hex() if ids.algorithm(new.id) is None else None
        try:
            return await self._blobs.store(new, hash, hashes.value())
        except NoSpace as error:
            self._full = self._clock.seconds(), str(error)
            raise
        finally:
            new.close()

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        prefix = f"{records.INDEX}{partition}/" if partition else records.INDEX
        start = "" if after is None else records.behind(after)
        if start and start < prefix:
            start = ""
        elif start and not start.startswith(prefix):
            return []
        found: list[str] = []
        if limit == 0:
            return found
        async with aclosing(markers(self._bucket.pages(prefix, start, limit))) as listed:
            async for each in listed:
                if not each.digest.is_tombstone:
                    found.append(each.id)
                if len(found) == limit:
                    break
        return found

    async def digests(self) -> Mapping[str, PartitionDigest]:
        return await self._digests.digests(self._clock)

    async def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        found = await self._digests.partition(partition)
        return {id: each.digest for id, each in found.items()}

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        await self._blobs.reconcile(id, metadata)

    async def lease(self, seconds: float, token: str | None = None) -> str:
        return await self._leasing.grant(seconds, token)

    async def release(self, token: str) -> None:
        await self._leasing.release(token)

    async def drop(self, id: str, token: str, known: BlobDigest | None = None) -> None:
        await self._leasing.check(token)
        await self._blobs.remove(id, known)

    async def status(self) -> StoreStatus:
        total = self._digests.total
        blobs, size = (None, None) if total is None else (total.count, total.bytes)
        reason = None
        try:
            asked = ensureDeferred(look(self._bucket))
            document = await asked.addTimeout(_STATUS_SECONDS, self._clock)
            if document is None:
                reason = f"{self.name} no longer contains the store"
            else:
                self._identify(records.id_in(document))
        except SOSError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"{self.name} did not answer in {_STATUS_SECONDS:g} s"
        if self._full is not None and self._clock.seconds() - self._full[0] < _FULL_SECONDS:
            reason = reason or self._full[1]
        return StoreStatus(reason is None, reason, blobs, size, tombstones=True)

    def _identify(self, id: str | None) -> None:
        """Take over the *id* that the store has now; log a change."""
        if id != self.identity:
            _log.warn(
                "the id of the store has changed, was it created again? store={store}, id={id}",
                store=self.name,
                id=id,
            )
            self.identity = id
