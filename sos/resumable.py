"""Uploads in several requests: from a directory, when they are whole, into a store."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater

from sos.aio.threads import RunInThread, shielded
from sos.errors import Conflict, Locked, SOSError, TooLarge
from sos.http.server.request_body import RequestBody
from sos.interfaces import IBlobStore, Upload
from sos.model import metadata as metadata_format
from sos.stores.unfinished_uploads import OpenUpload, UnfinishedUploads
from sos.transfer import transfer

T = TypeVar("T")

#: Bytes after which a part that is still coming is put on stable storage: most that the end of
#: the process can cost.
KEEP_BYTES = 16 << 20
#: Seconds between looks whether another request wants an upload.
LOOK_SECONDS = 1.0
#: How often a request tries to get an upload that another one works on, and the seconds between.
ATTEMPTS, ATTEMPT_SECONDS = 20, 0.25


class Checksum(Protocol):
    """What a client has said of a part, see :class:`sos.web.tus.Checksum`."""

    def update(self, piece: bytes) -> None:
        """Add the next *piece*."""
        ...

    def verify(self) -> None:
        """Raise WrongChecksum unless the pieces are the part that was meant."""
        ...


class ResumableUploads:
    """Takes uploads part by part.

    A client that lost its connection without the server's noticing comes back on another one:
    so the request that comes later gets the upload, and the earlier one is ended.  Only while
    the whole is being stored nobody gets it.

    What is done for a request is done to its end, also when that is cancelled, for its client is
    gone: what has come counts, and what is whole is stored.

    :param store: where an upload goes when it is whole.
    :param max_size: most bytes of one, None for any that fits.
    :param now: tells the time, in seconds since the epoch.
    :ivar max_size: most bytes of one.
    """

    def __init__(
        self,
        uploads: UnfinishedUploads,
        store: IBlobStore,
        run_in_thread: RunInThread,
        clock: Any,
        max_size: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._uploads = uploads
        self._store = store
        self._run = run_in_thread
        self._clock = clock
        self.max_size = min(max_size or uploads.most_bytes, uploads.most_bytes)
        self._now = now
        self._under_way: set[Deferred[Any]] = set()

    @property
    def expires_at(self) -> float:
        """When an upload expires that something is done for now, in seconds since the epoch."""
        return self._now() + self._uploads.seconds

    async def create(
        self, upload: Upload, body: RequestBody, checksum: Checksum | None
    ) -> tuple[str, Upload]:
        """Begin *upload*, with the bytes of *body*; return its token, and what it is then.

        Whatever goes wrong, nothing is left of it: its client does not know it yet.
        """
        if upload.length > self.max_size:
            raise TooLarge(f"an upload of {upload.length} bytes; at most {self.max_size} are taken")
        return await self._finish(body, self._create(upload, body, checksum))

    async def append(
        self, token: str, offset: int, body: RequestBody, checksum: Checksum | None
    ) -> Upload:
        """Add *body* to an upload from byte *offset* on, and store that when it is whole.

        If it breaks off what has come is kept, unless there is a checksum.

        :raises Conflict: when the upload goes on elsewhere, WrongChecksum, TooLarge.
        """
        return await self._finish(body, self._append(token, offset, body, checksum))

    async def look(self, token: str, body: RequestBody) -> Upload:
        """Tell of an upload; raises NotFound and Locked, as the others do."""
        return await self._finish(body, self._look(token))

    async def remove(self, token: str, body: RequestBody) -> None:
        """Remove an upload.  An object that it has become stays."""
        await self._finish(body, self._remove(token))

    def settled(self) -> Deferred[Any]:
        """Return a Deferred that fires when nothing is being done any more."""
        return DeferredList([shielded(work) for work in self._under_way], consumeErrors=True)

    async def _finish(self, body: RequestBody, coroutine: Coroutine[Any, Any, T]) -> T:
        work = ensureDeferred(coroutine)
        self._under_way.add(work)
        work.addBoth(self._ended, work)
        try:
            return await shielded(work)
        except CancelledError:
            body.wake()  # who reads it has to learn that there is no more
            raise

    def _ended(self, result: T, work: Deferred[T]) -> T:
        self._under_way.discard(work)
        return result

    async def _create(
        self, upload: Upload, body: RequestBody, checksum: Checksum | None
    ) -> tuple[str, Upload]:
        opened = await self._run(self._uploads.create, upload)
        try:
            if body.length != 0:
                await self._receive(body, opened, checksum)
            await self._store_whole(opened)
        except BaseException:
            await self._run(opened.remove)
            raise
        finally:
            opened.close()
        return opened.token, opened.upload

    async def _append(
        self, token: str, offset: int, body: RequestBody, checksum: Checksum | None
    ) -> Upload:
        opened = await self._open(token)
        upload = opened if isinstance(opened, Upload) else opened.upload
        try:
            if offset != upload.acknowledged:
                raise Conflict(f"the upload goes on at byte {upload.acknowledged}, not {offset}")
            if offset + (body.length or 0) > upload.length:
                raise _too_long(upload)
            if isinstance(opened, Upload):
                return opened
            await self._receive(body, opened, checksum)
            await self._store_whole(opened)
            return opened.upload
        finally:
            if isinstance(opened, OpenUpload):
                opened.close()

    async def _look(self, token: str) -> Upload:
        opened = await self._open(token)
        if isinstance(opened, Upload):
            return opened
        opened.close()
        return opened.upload

    async def _remove(self, token: str) -> None:
        opened = await self._open(token)
        if isinstance(opened, Upload):
            await self._run(self._uploads.forget, token)
        else:
            try:
                await self._run(opened.remove)
            finally:
                opened.close()

    async def _open(self, token: str) -> OpenUpload | Upload:
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._run(self._uploads.open, token)
            except Locked:
                await deferLater(self._clock, ATTEMPT_SECONDS)
        return await self._run(self._uploads.open, token)

    async def _receive(
        self, body: RequestBody, opened: OpenUpload, checksum: Checksum | None
    ) -> None:
        """Put *body* on stable storage, or what has come of it."""
        kept = position = opened.upload.acknowledged
        looking = LoopingCall(_give_way, body, opened)
        looking.clock = self._clock
        looking.start(LOOK_SECONDS, now=False)
        try:
            async for piece in body:
                if position + len(piece) > opened.upload.length:
                    raise _too_long(opened.upload)
                if checksum is not None:
                    checksum.update(piece)
                await self._run(opened.write, piece, position)
                position += len(piece)
                if checksum is None and position - kept >= KEEP_BYTES:
                    await self._run(opened.keep, position)
                    kept = position
            if checksum is not None:
                checksum.verify()
        except SOSError:
            if checksum is None and position > kept:
                await self._run(opened.keep, position)
            raise
        finally:
            looking.stop()
        # All can be there but stored: then an empty part is enough to have that tried again.
        await self._run(opened.keep, max(position, opened.upload.offset))

    async def _store_whole(self, opened: OpenUpload) -> None:
        """Store an upload of which every byte has come."""
        upload = opened.upload
        if upload.offset == upload.length:
            metadata = metadata_format.stamped(upload.metadata, self._now())
            writer = self._store.writer(None, metadata, upload.length)
            info = await transfer(self._pieces(opened), writer)
            await self._run(opened.stored, info.id)

    async def _pieces(self, opened: OpenUpload) -> AsyncGenerator[bytes, None]:
        position = 0
        while piece := await self._run(opened.read, position):
            yield piece
            position += len(piece)


def _give_way(body: RequestBody, opened: OpenUpload) -> None:
    """End a request when another one wants its upload."""
    if opened.is_wanted():
        body.fail(Locked("another request goes on with this upload"))
        body.wake()


def _too_long(upload: Upload) -> TooLarge:
    return TooLarge(f"more bytes come than the {upload.length} of the upload")
