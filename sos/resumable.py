"""Resumable uploads: parts are collected in a directory, and complete uploads stored."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater

from sos.aio.shield import Underway
from sos.aio.threads import RunInThread, shielded
from sos.errors import Conflict, Locked, SOSError, TooLarge
from sos.http.server.request_body import RequestBody
from sos.interfaces import IBlobStore, Upload
from sos.model import metadata as metadata_format
from sos.stores.unfinished_uploads import OpenUpload, UnfinishedUploads
from sos.transfer import transfer

T = TypeVar("T")

#: Bytes of an arriving part after which it is put on stable storage: the most that a crash of
#: the process can lose.
KEEP_BYTES = 16 << 20
#: Seconds between checks whether another request wants an upload.
LOOK_SECONDS = 1.0
#: How often a request tries to lock an upload that another one holds, and the seconds between.
ATTEMPTS, ATTEMPT_SECONDS = 20, 0.25


class Checksum(Protocol):
    """A client's checksum of a part, see :class:`sos.web.tus_headers.Checksum`."""

    def update(self, piece: bytes) -> None:
        """Add the next *piece*."""
        ...

    def verify(self) -> None:
        """Raise WrongChecksum unless the pieces match the checksum."""
        ...


class ResumableUploads:
    """A service that receives uploads part by part.

    A client that lost its connection, without the server noticing, returns on another one.
    So a later request gets the upload, and ends the earlier one.  Only while the complete
    upload is being stored, no request gets it.

    Work for a request goes on to its end when the request is cancelled because the client is
    gone: bytes that have arrived count, and a complete upload is stored.

    :param store: the store for complete uploads.
    :param max_size: most bytes of an upload, None for any that fits.
    :param now: returns the time of an upload, in seconds since the epoch.
    :ivar max_size: most bytes of an upload.
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
        self._underway = Underway()

    @property
    def expires_at(self) -> float:
        """When an upload that is touched now expires, in seconds since the epoch."""
        return self._now() + self._uploads.seconds

    async def create(
        self, upload: Upload, body: RequestBody, checksum: Checksum | None
    ) -> tuple[str, Upload]:
        """Begin *upload* with the bytes of *body*; return its token and its state.

        On any error nothing is left of it, because the client does not know its token yet.
        """
        if upload.length > self.max_size:
            raise TooLarge(
                f"the upload has {upload.length} bytes, but at most {self.max_size} are allowed"
            )
        return await self._finish(body, self._create(upload, body, checksum))

    async def append(
        self, token: str, offset: int, body: RequestBody, checksum: Checksum | None
    ) -> Upload:
        """Add *body* to an upload from byte *offset* on, and store the upload when complete.

        If the body breaks off, its bytes so far are kept, unless there is a checksum.
        Raises WrongChecksum, TooLarge, NotFound or Locked.

        :raises Conflict: if *offset* is not the end of the upload so far.
        """
        return await self._finish(body, self._append(token, offset, body, checksum))

    async def look(self, token: str, body: RequestBody) -> Upload:
        """Return an upload; raise NotFound and Locked, as the other methods do."""
        return await self._finish(body, self._look(token))

    async def remove(self, token: str, body: RequestBody) -> None:
        """Remove an upload.  If it has been stored as an object, the object stays."""
        await self._finish(body, self._remove(token))

    def settled(self) -> Deferred[Any]:
        """Return a Deferred that fires when all work in progress has ended."""
        return shielded(ensureDeferred(self._underway.finish()))

    async def _finish(self, body: RequestBody, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._underway.to_its_end(coroutine)
        except CancelledError:
            body.wake()  # so that its reader learns that it has ended
            raise

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
                raise Conflict(f"the upload continues at byte {upload.acknowledged}, not {offset}")
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
        """Put *body* on stable storage, or the part of it that arrives."""
        kept = position = opened.upload.acknowledged

        async def look() -> None:
            try:
                if not await self._run(opened.is_wanted):
                    return
                reason: SOSError = Locked("another request continues this upload")
            except SOSError as error:
                reason = error
            if looking.running:
                body.fail(reason)
                body.wake()

        looking = LoopingCall(lambda: ensureDeferred(look()))
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
        # All bytes can be here, but not stored: then an empty part retries storing them.
        await self._run(opened.keep, max(position, opened.upload.offset))

    async def _store_whole(self, opened: OpenUpload) -> None:
        """Store the upload as an object if it is complete."""
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


def _too_long(upload: Upload) -> TooLarge:
    return TooLarge(f"the request exceeds the {upload.length} bytes of the upload")
