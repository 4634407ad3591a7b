"""Large objects in chunks, over a store that keeps blobs.

An object that is longer than a chunk is cut as it comes in.  Each chunk is a
blob like any other, under its own content id; under that of the whole there is
a manifest, see :mod:`sos.model.manifest`, which is stored when every chunk is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from sos.aio.threads import RunInThread
from sos.errors import Mismatch, TooLarge, Unavailable
from sos.interfaces import (
    SMALL_BODY,
    Blob,
    BlobInfo,
    IBlobWriter,
    IObjectStore,
    Pieces,
    Span,
    StoreStatus,
)
from sos.model import ids, manifest
from sos.model.digest import BodyDigest
from sos.model.manifest import MARK, MAX_CHUNKS, Chunk, Manifest
from sos.model.merge import other_body
from sos.model.metadata import EMPTY, Metadata, stamped
from sos.stores.chunked.manifest_cache import ManifestCache
from sos.stores.chunked.presence import look_for
from sos.stores.chunked.reader import AssembledBody, close, gather, parts
from sos.stores.chunked.repair import mend
from sos.stores.spool import IPlacingStore, Spool, Spooled
from sos.transfer import are_same

#: Most chunks of one upload that are on their way into the store at once.
MOST_PLACING = 3


@implementer(IObjectStore)
class ChunkedStore:
    """Cuts objects on their way into *store*, and puts them together again.

    Nothing is stored outside the blobs: any number of these can be over the same
    blobs, with chunks of any size.  In a listing the chunks are blobs as well.
    The chunks of an upload that fails stay: others may have them in common.

    An opaque name is stored in one piece, for a manifest says what bytes have
    a content id, and nothing of those that have a name.

    With an object it is noted when its metadata was set, see :data:`sos.model.metadata.SET_AT`:
    once all of it has come, for else who is slow would be the first.

    :param chunk_size: most bytes of a chunk, and of an object that is not cut;
        0 cuts none, and what is in chunks can be read all the same.
    :param algorithm: the hash of new content ids.
    :param now: tells the seconds since the epoch.
    """

    def __init__(
        self,
        store: IPlacingStore,
        chunk_size: int,
        run_in_thread: RunInThread,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = store.name
        self._store = store
        self._chunk_size = chunk_size or sys.maxsize
        self._run_in_thread = run_in_thread
        self._algorithm = algorithm
        self._now = now
        self._manifests = ManifestCache()

    async def stat(self, id: str) -> BlobInfo:
        info = await self._store.stat(id)
        if MARK not in info.metadata:
            return info
        # It is there when its chunks are: a manifest alone is no object.
        blob = await self._store.read(id)
        if MARK not in blob.info.metadata:  # for this copy is the object itself
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
            raise Unavailable(f"the copy of {id} cannot be read: {error}") from error

    async def read(self, id: str, span: Span | None = None) -> Blob:
        whole = span is None
        if span is not None:
            info = await self._store.stat(id)
            mark = info.metadata.get(MARK)
            known = self._manifests.get(id)
            if known is not None and mark == str(known.size):
                return await self._assembled(info, known, span)
            whole = mark is not None
        # Of a manifest the whole is needed.  One copy can be a manifest and
        # another the object itself, so that only the one that is read tells.
        for _ in range(2):
            blob = await self._store.read(id, None if whole else span)
            if MARK in blob.info.metadata:
                if whole:
                    return await self._assembled(blob.info, await self._manifest(blob), span)
            elif span is None or not whole:
                return blob
            await close(blob.body)
            whole = not whole
        raise Unavailable(f"some copies of {id} are in chunks and others are not; ask again")

    async def _manifest(self, blob: Blob) -> Manifest:
        """Return the manifest that *blob* is, and keep it for parts of the object."""
        id, mark = blob.info.id, blob.info.metadata[MARK]
        try:
            text = await gather(blob.body)
            # It can be so long that others would have to wait for it.
            found = await self._run_in_thread(manifest.parse, text, id, mark)
        except Mismatch as error:
            raise Unavailable(f"the copy of {id} cannot be read: {error}") from error
        self._manifests.keep(found)
        return found

    async def _assembled(self, info: BlobInfo, found: Manifest, span: Span | None) -> Blob:
        """Return an object, or a part of it, that is stored as *info* and in chunks."""
        id = info.id
        start, stop = span or (0, found.size)
        digest = BodyDigest(id) if span is None else None
        wanted = list(parts(found.chunks, start, stop))
        body = AssembledBody(self.read, iter(wanted), digest)
        try:
            if stop - start > SMALL_BODY:  # what is small is read before it is passed on
                await look_for([part.chunk for part in wanted[1:]], self.stat)
            await body.begin()
            info = _shown(info, found.size)
            if stop - start > SMALL_BODY:
                return Blob(info, body)
            return Blob(info, await gather(body))
        except Unavailable:
            # Another manifest may have taken its place, whose chunks are all there.
            self._manifests.forget(id)
            raise
        except Mismatch as error:
            raise Unavailable(f"the chunks of {id} are not what it was: {error}") from error

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
            self._now,
        )

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        return await self._store.listing(after, limit, partition)

    async def status(self) -> StoreStatus:
        return await self._store.status()


@implementer(IBlobWriter)
class _ChunkedWriter:
    """Takes one object.

    :param whole: takes its hash, and knows its id if it has one.
    :param read_manifest: reads one, once it has been opened.
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
        now: Callable[[], float],
    ) -> None:
        self._read_manifest = read_manifest
        self._now = now
        self._store = store
        self._chunk_size = chunk_size
        self._run_in_thread = run_in_thread
        self._algorithm = algorithm
        self._whole = whole
        self._metadata = metadata
        self._chunks: list[Chunk] = []
        self._placing = _Placing(store)
        # Up to the end of the first chunk, its hash and that of the whole are
        # the same.
        self._spool = Spool(whole, run_in_thread)
        self._filled = 0
        self._handed_over = False

    async def write(self, piece: bytes) -> None:
        self._placing.check()
        position = 0
        while position < len(piece):
            # A chunk is not known to be one before something comes behind it.
            if self._filled == self._chunk_size:
                await self._spool.finish()
                await self._place_chunk()
            taken = piece[position : position + self._chunk_size - self._filled]
            self._filled += len(taken)
            position += len(taken)
            await self._spool.write(taken)

    async def _place_chunk(self) -> None:
        """Place what is spooled as a chunk, and be ready for the next."""
        if len(self._chunks) == MAX_CHUNKS:
            raise _too_large(self._chunk_size)
        chunk = Chunk(self._spool.digest.value().hex(), self._filled)
        await self._placing.ready()
        self._placing.begin(self._spool.spooled(chunk.id, EMPTY))
        self._chunks.append(chunk)
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
                info = await self._place_manifest(id)
            return _shown(info, self._whole.size)
        finally:
            self.abort()

    async def _place_manifest(self, id: str) -> BlobInfo:
        ours = Manifest(id, self._whole.size, tuple(self._chunks))
        body = await self._run_in_thread(manifest.encode, ours)
        metadata = {**stamped(self._metadata, self._now()), MARK: str(ours.size)}
        info = await self._store.place(Spooled(id, len(body), metadata, lambda: body, _nothing))
        # What was there before stays, and its chunks can be others than ours.  The
        # copy that is read here is the one that others would read.
        kept = await self._store.read(id)
        if MARK not in kept.info.metadata:
            await self._check_same(id, kept.body, ours)
        elif (found := await self._read_manifest(kept)) != ours:
            try:
                await mend(self._store, found, ours)
            except Mismatch as error:
                raise Unavailable(f"the manifest of {id} is not of it: {error}") from error
            await self._check_same(id, await self._body_of(found), ours)
        return info

    async def _check_same(self, id: str, kept: bytes | Pieces, ours: Manifest) -> None:
        """Raise Conflict unless the object that is stored is the one that was sent."""
        try:
            sent = await self._body_of(ours)
        except BaseException:
            await close(kept)
            raise
        try:
            same = await are_same(kept, sent)
        except Mismatch as error:
            raise Unavailable(f"the copy of {id} cannot be read: {error}") from error
        if not same:
            raise other_body(id)

    async def _body_of(self, manifest: Manifest) -> AssembledBody:
        body = AssembledBody(self._store.read, parts(manifest.chunks, 0, manifest.size), None)
        await body.begin()
        return body

    def abort(self) -> None:
        self._placing.stop()
        if not self._handed_over:
            self._spool.discard()


class _ChunkDigest(BodyDigest):
    """Takes the hash of a chunk and, by the same pieces, that of the *whole*."""

    def __init__(self, algorithm: str, whole: BodyDigest) -> None:
        super().__init__(None, algorithm)
        self._whole = whole

    def update(self, piece: bytes) -> None:
        super().update(piece)
        self._whole.update(piece)


class _Placing:
    """The chunks of one upload that are on their way into *store*."""

    def __init__(self, store: IPlacingStore) -> None:
        self._store = store
        self._slots = DeferredSemaphore(MOST_PLACING)
        self._under_way: set[Deferred[BlobInfo]] = set()
        self._failure: BaseException | None = None

    def check(self) -> None:
        """Raise what went wrong with a chunk, if anything has."""
        if self._failure is not None:
            raise self._failure

    async def ready(self) -> None:
        """Wait until there is room for one more; raises as :meth:`check` does."""
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise self._failure

    def begin(self, spooled: Spooled) -> None:
        """Place a chunk, in the room that was waited for."""
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
        """Wait until every chunk is stored; raises as :meth:`check` does."""
        for _ in range(MOST_PLACING):
            await self.ready()

    def stop(self) -> None:
        """Place no more of them."""
        for work in list(self._under_way):
            work.cancel()


def _nothing() -> None:
    """There is nothing to let go of."""


def _shown(info: BlobInfo, size: int) -> BlobInfo:
    """Return *info* as that of an object of *size* bytes, without a mark."""
    if info.size == size and MARK not in info.metadata:
        return info
    shown = {name: value for name, value in info.metadata.items() if name != MARK}
    return evolve(info, size=size, metadata=shown)


def _too_large(chunk_size: int) -> TooLarge:
    return TooLarge(
        f"an object of over {MAX_CHUNKS} chunks of {chunk_size} bytes; "
        "it takes a larger chunk size to store it"
    )
