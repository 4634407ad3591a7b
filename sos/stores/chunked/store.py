"""Large objects in chunks, over a store that keeps blobs.

An object that is longer than a chunk is cut while it arrives.  Each chunk is a
blob like any other, under its own content id.  Once all chunks are stored, a
manifest, see :mod:`sos.model.manifest`, is stored under the object's id.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from sos.aio.threads import RunInThread
from sos.errors import Mismatch, NotFound, TooLarge, Unavailable
from sos.interfaces import (
    SMALL_BODY,
    Blob,
    BlobInfo,
    IBlobWriter,
    IObjectStore,
    IOneStepStore,
    Pieces,
    Read,
    Span,
    StoreStatus,
)
from sos.model import ids, manifest
from sos.model.digest import BodyDigest
from sos.model.manifest import MARK, MAX_CHUNKS, Chunk, Manifest
from sos.model.merge import other_body
from sos.model.metadata import (
    EMPTY,
    PART_AT,
    Metadata,
    part_of_object,
    stamped,
    unmarked,
)
from sos.stores.chunked.manifest_cache import ManifestCache
from sos.stores.chunked.presence import look_for
from sos.stores.chunked.reader import AssembledBody, close, gather, parts
from sos.stores.chunked.repair import mend
from sos.stores.spool import IPlacingStore, Spool, Spooled
from sos.stores.threaded_digest import ThreadedDigest
from sos.transfer import are_same, transfer

#: Most chunks of one upload in flight to the store at one time.
MOST_PLACING = 3


@implementer(IObjectStore, IOneStepStore)
class ChunkedStore:
    """A store that cuts objects into chunks in *store*, and reassembles them.

    It keeps no state outside the blobs: any number of these can share the same
    blobs, with chunks of any size.  Listings include the chunks.  The chunks of a
    failed upload stay: other objects may share them.

    A blob with an opaque name is stored whole: only a content id lets a reader
    verify that chunks are the bytes of the object.

    The metadata of each object records when it was set, see
    :data:`sos.model.metadata.SET_AT`.  For a content id that is after the last byte has
    arrived, else the slower of two uploads would have been first; for an opaque name it is
    the beginning of the upload.

    :param chunk_size: most bytes of a chunk, and of an object stored whole; 0 stores all
        objects whole, and objects in chunks can be read all the same.
    :param algorithm: the hash of new content ids.
    :param now: returns the time in seconds since the epoch.
    :param read: reads blobs, by default :meth:`read` of *store*.
    :param renew_after: an upload that takes longer than so many seconds renews its chunks, see
        :mod:`sos.collection`.
    """

    def __init__(
        self,
        store: IPlacingStore,
        chunk_size: int,
        run_in_thread: RunInThread,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        now: Callable[[], float] = time.time,
        read: Read | None = None,
        renew_after: float = math.inf,
    ) -> None:
        self._renew_after = renew_after
        self.name = store.name
        self._store = store
        self._read = read or store.read
        self._chunk_size = chunk_size or sys.maxsize
        self._run_in_thread = run_in_thread
        self._algorithm = algorithm
        self._now = now
        self._manifests = ManifestCache()

    async def stat(self, id: str) -> BlobInfo:
        info = await self._store.stat(id)
        if MARK not in info.metadata:
            return info
        # An object exists only if all its chunks do: a manifest alone is no object.
        blob = await self._read(id, None)
        if MARK not in blob.info.metadata:  # this replica has the object itself
            await close(blob.body)
            return blob.info
        found = await self._manifest(blob)
        await look_for(found.chunks, self.stat)
        return _shown(blob.info, found.size)

    async def outline(self, id: str) -> BlobInfo:
        info = await self._store.stat(id)
        mark = info.metadata.get(MARK)
        if mark is None:
            return info
        try:
            return _shown(info, manifest.marked_size(mark))
        except Mismatch as error:
            raise Unavailable(f"the stored copy of {id} cannot be read: {error}") from error

    async def read(self, id: str, span: Span | None = None) -> Blob:
        whole = span is None
        if span is not None:
            info = await self._store.stat(id)
            mark = info.metadata.get(MARK)
            known = self._manifests.get(id)
            if known is not None and mark == str(known.size):
                return await self._assembled(info, known, span)
            whole = mark is not None
        # A manifest must be read whole, an object only in part.  One replica can have
        # the manifest and another the object: only the copy that is read shows which.
        for _ in range(2):
            blob = await self._read(id, None if whole else span)
            if MARK in blob.info.metadata:
                if whole:
                    return await self._assembled(blob.info, await self._manifest(blob), span)
            elif span is None or not whole:
                return blob
            await close(blob.body)
            whole = not whole
        raise Unavailable(f"some copies of {id} are in chunks and others are not; try again")

    async def _manifest(self, blob: Blob) -> Manifest:
        """Read and parse the manifest *blob*, and cache it for further reads of the object."""
        id, mark = blob.info.id, blob.info.metadata[MARK]
        try:
            text = await gather(blob.body)
            known = self._manifests.parsed(id, text)
            if known is not None and mark == str(known.size):
                return known
            # In a thread: a long manifest would block the reactor.
            found = await self._run_in_thread(manifest.parse, text, id, mark)
        except Mismatch as error:
            raise Unavailable(f"the stored copy of {id} cannot be read: {error}") from error
        self._manifests.keep(text, found)
        return found

    async def _assembled(self, info: BlobInfo, found: Manifest, span: Span | None) -> Blob:
        """Return an object in chunks, or a *span* of it.

        :param info: of the stored manifest.
        """
        id = info.id
        start, stop = span or (0, found.size)
        digest = None
        # Each chunk is verified by its own id, so the whole needs to be verified but once.
        if span is None and not self._manifests.is_verified(found):
            digest = ThreadedDigest(BodyDigest(id), self._run_in_thread)
        wanted = list(parts(found.chunks, start, stop))
        verified = partial(self._manifests.verified, found)
        body = AssembledBody(self.read, iter(wanted), digest, verified)
        try:
            if stop - start > SMALL_BODY:  # a smaller part is read whole first, below
                await look_for([part.chunk for part in wanted[1:]], self.stat)
            await body.begin()
            info = _shown(info, found.size)
            if stop - start > SMALL_BODY:
                return Blob(info, body)
            return Blob(info, await gather(body))
        except Unavailable:
            # Another manifest, with all of its chunks, may have replaced this one.
            self._manifests.forget(id)
            raise
        except Mismatch as error:
            raise Unavailable(f"the chunks of {id} do not match its id: {error}") from error

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        algorithm = self._algorithm if id is None else ids.algorithm(id)
        if algorithm is None:
            return self._store.writer(id, stamped(metadata, self._now()), size)
        if size is not None and size > self._chunk_size * MAX_CHUNKS:
            raise _too_large(self._chunk_size)
        whole = BodyDigest(id, algorithm, size)
        return _ChunkedWriter(
            self._store,
            self._chunk_size,
            self._run_in_thread,
            algorithm,
            whole,
            metadata,
            self._manifest,
            self._manifests.verified,
            self._now,
            self._renew_after,
        )

    async def put(self, id: str | None, metadata: Metadata, body: bytes) -> BlobInfo:
        algorithm = self._algorithm if id is None else ids.algorithm(id)
        size = len(body)
        if algorithm is None or size > self._chunk_size:
            return await transfer(body, self.writer(id, metadata, size))
        digest = BodyDigest(id, algorithm, size)
        digest.update(body)
        whole = digest.verified_id()
        metadata = stamped(metadata, self._now())
        info = await self._store.place(Spooled(whole, size, metadata, lambda: body, _nothing))
        return _shown(info, size)

    async def status(self) -> StoreStatus:
        return await self._store.status()


@implementer(IBlobWriter)
class _ChunkedWriter:
    """A writer for one object.

    :param whole: updated with the object's bytes; knows the expected id, if there is one.
    :param read_manifest: parses the manifest in an open blob.
    :param verified: called with a manifest whose chunks hash to the id of its object.
    """

    def __init__(
        self,
        store: IPlacingStore,
        chunk_size: int,
        run_in_thread: RunInThread,
        algorithm: str,
        whole: BodyDigest,
        metadata: Metadata,
        read_manifest: Callable[[Blob], Awaitable[Manifest]],
        verified: Callable[[Manifest], object],
        now: Callable[[], float],
        renew_after: float,
    ) -> None:
        self._renew_after = renew_after
        self._placed_at: list[float] = []
        self._read_manifest = read_manifest
        self._verified = verified
        self._now = now
        self._store = store
        self._chunk_size = chunk_size
        self._run_in_thread = run_in_thread
        self._algorithm = algorithm
        self._whole = whole
        self._metadata = metadata
        self._chunks: list[Chunk] = []
        self._placing = _Placing(store)
        # Until the end of the first chunk, the chunk and the object have the same hash.
        self._spool = Spool(whole, run_in_thread)
        self._filled = 0
        self._handed_over = False

    async def write(self, piece: bytes) -> None:
        self._placing.check()
        position = 0
        while position < len(piece):
            # Only a byte after it shows that this is a chunk and not the whole object.
            if self._filled == self._chunk_size:
                await self._spool.finish()
                await self._place_chunk()
            taken = piece[position : position + self._chunk_size - self._filled]
            self._filled += len(taken)
            position += len(taken)
            await self._spool.write(taken)

    async def _place_chunk(self) -> None:
        """Place the spooled bytes as a chunk, and begin the next one."""
        if len(self._chunks) == MAX_CHUNKS:
            raise _too_large(self._chunk_size)
        chunk = Chunk(self._spool.digest.value().hex(), self._filled)
        await self._placing.ready()
        placed_at = self._now()
        self._placing.begin(self._spool.spooled(chunk.id, part_of_object(placed_at)))
        self._chunks.append(chunk)
        self._placed_at.append(placed_at)
        self._spool = Spool(_ChunkDigest(self._algorithm, self._whole), self._run_in_thread)
        self._filled = 0

    async def commit(self) -> BlobInfo:
        try:
            await self._spool.finish()
            id = self._whole.verified_id()
            if not self._chunks:
                self._handed_over = True
                metadata = stamped(self._metadata, self._now())
                info = await self._store.place(self._spool.spooled(id, metadata))
            else:
                await self._place_chunk()
                await self._placing.finish()
                await self._renew_chunks()
                info = await self._place_manifest(id)
            return _shown(info, self._whole.size)
        finally:
            self.abort()

    async def _renew_chunks(self) -> None:
        """Renew the chunks that were stored long ago; raise Unavailable if one is gone."""
        before = self._now() - self._renew_after
        old = {
            chunk.id: None
            for chunk, placed_at in zip(self._chunks, self._placed_at, strict=True)
            if placed_at < before
        }
        for id in old:
            try:
                await self._store.renew(id, PART_AT)
            except NotFound as error:
                raise Unavailable(f"the upload took too long: {error}") from error

    async def _place_manifest(self, id: str) -> BlobInfo:
        ours = Manifest(id, self._whole.size, tuple(self._chunks))
        body = await self._run_in_thread(manifest.encode, ours)
        metadata = {**stamped(self._metadata, self._now()), MARK: str(ours.size)}
        info = await self._store.place(Spooled(id, len(body), metadata, lambda: body, _nothing))
        # A manifest or object that was stored before stays, and can have other chunks than
        # ours.  Check the copy that readers get.
        kept = await self._store.read(id)
        if MARK not in kept.info.metadata:
            await self._check_same(id, kept.body, ours)
            return info
        found = await self._read_manifest(kept)
        if found != ours:
            try:
                await mend(self._store, found, ours, self._now())
            except Mismatch as error:
                raise Unavailable(
                    f"the stored manifest of {id} describes another object: {error}"
                ) from error
            await self._check_same(id, await self._body_of(found), ours)
        self._verified(found)
        return info

    async def _check_same(self, id: str, kept: bytes | Pieces, ours: Manifest) -> None:
        """Raise Conflict unless the stored object has the bytes of this upload."""
        try:
            sent = await self._body_of(ours)
        except BaseException:
            await close(kept)
            raise
        try:
            same = await are_same(kept, sent)
        except Mismatch as error:
            raise Unavailable(f"the stored copy of {id} cannot be read: {error}") from error
        if not same:
            raise other_body(id)

    async def _body_of(self, manifest: Manifest) -> AssembledBody:
        body = AssembledBody(self._store.read, parts(manifest.chunks, 0, manifest.size))
        await body.begin()
        return body

    def abort(self) -> None:
        self._placing.stop()
        if not self._handed_over:
            self._spool.discard()


class _ChunkDigest(BodyDigest):
    """The digest of a chunk, which also updates that of the *whole* object."""

    def __init__(self, algorithm: str, whole: BodyDigest) -> None:
        super().__init__(None, algorithm)
        self._whole = whole

    def update(self, piece: bytes) -> None:
        super().update(piece)
        self._whole.update(piece)


class _Placing:
    """The chunks of one upload in flight to *store*."""

    def __init__(self, store: IPlacingStore) -> None:
        self._store = store
        self._slots = DeferredSemaphore(MOST_PLACING)
        self._under_way: set[Deferred[BlobInfo]] = set()
        self._failure: BaseException | None = None

    def check(self) -> None:
        """Raise the first error of a chunk, if there was one."""
        if self._failure is not None:
            raise self._failure

    async def ready(self) -> None:
        """Wait for a free slot; raise as :meth:`check` does."""
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise self._failure

    def begin(self, spooled: Spooled) -> None:
        """Place a chunk, in the slot that :meth:`ready` waited for."""
        work = ensureDeferred(self._store.place(spooled))
        self._under_way.add(work)
        work.addBoth(self._ended, work)

    def _ended(self, outcome: BlobInfo | Failure, work: Deferred[BlobInfo]) -> None:
        self._under_way.discard(work)
        if isinstance(outcome, Failure) and self._failure is None:
            self._failure = outcome.value
            self.stop()
        self._slots.release()

    async def finish(self) -> None:
        """Wait until every chunk is stored; raise as :meth:`check` does."""
        for _ in range(MOST_PLACING):
            await self.ready()

    def stop(self) -> None:
        """Cancel the chunks in flight."""
        for work in list(self._under_way):
            work.cancel()


def _nothing() -> None:
    """Do nothing: a body in memory needs no closing."""


def _shown(info: BlobInfo, size: int) -> BlobInfo:
    """Return *info* with the object's *size* in bytes, and without the mark of a manifest."""
    if info.size == size and MARK not in info.metadata:
        return info
    return evolve(info, size=size, metadata=unmarked(info.metadata))


def _too_large(chunk_size: int) -> TooLarge:
    return TooLarge(
        f"the object needs over {MAX_CHUNKS} chunks of {chunk_size} bytes; "
        "to store it, raise chunk-size"
    )
