"""Uploads in several requests, by tus 1.0.0: see :mod:`sos.web.tus`.

What has come is in a directory, see :mod:`sos.stores.unfinished`, and goes into the store when it
is whole.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.web.http import datetimeToString
from werkzeug.exceptions import MethodNotAllowed

from sos import metadata as metadata_format
from sos.errors import Conflict, Locked, SOSError, TooLarge
from sos.interfaces import IBlobStore
from sos.stores.lane import RunInThread, shielded
from sos.stores.unfinished import OpenUpload, UnfinishedUploads, Upload
from sos.transfer import transfer
from sos.web import tus
from sos.web.errors import answer_json
from sos.web.tus import Checksum
from sos.wire.body import RequestBody
from sos.wire.request import Request

T = TypeVar("T")

#: Header of an answer that tells the id of the object that an upload has become.
ID = b"X-Sos-Id"
#: Bytes after which a part that is still coming is put on stable storage: most that the end of
#: the process can cost.
KEEP_BYTES = 16 << 20
#: Seconds between looks whether another request wants an upload.
LOOK_SECONDS = 1.0
#: How often a request tries to get an upload that another one works on, and the seconds between.
ATTEMPTS, ATTEMPT_SECONDS = 20, 0.25


class ResumableUploads:
    """Answers the requests of tus.

    A client that lost its connection without the server's noticing comes back on another one:
    so the request that comes later gets the upload, and the earlier one is ended.  Only while
    the whole is being stored nobody gets it.

    :param store: where an upload goes when it is whole.
    :param max_size: most bytes of one, None for any that fits.
    :param now: tells the time, in seconds since the epoch.
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
        self._max_size = min(max_size or uploads.most_bytes, uploads.most_bytes)
        self._now = now
        self._under_way: set[Deferred[Any]] = set()

    async def begin(self, request: Request) -> None:
        """Create an upload, with its first bytes if these come along."""
        tus.identify(request)
        if request.method == b"OPTIONS":
            self._tell(request)
            return
        headers = request.headers
        tus.check_version(headers)
        length = tus.size(headers, b"upload-length")
        if length > self._max_size:
            raise TooLarge(f"an upload of {length} bytes; at most {self._max_size} are taken")
        told = headers.get(b"upload-metadata", b"")
        upload = Upload(length, _metadata(request, told), told.decode("ascii"))
        checksum = None
        if request.body.length != 0:
            tus.check_type(headers)
            checksum = _checksum(request)
        token, upload = await self._finish(request, self._create(request.body, upload, checksum))
        request.setResponseCode(201)
        # Relative to the path that was asked for, so that a proxy can put it below another one.
        request.setHeader(b"Location", b"tus/" + token.encode("ascii"))
        self._describe(request, upload)

    async def resume(self, request: Request, token: str) -> bytes | None:
        """Tell of the upload *token*, add to it, or remove it."""
        tus.identify(request)
        headers = request.headers
        method = request.method
        if method == b"OPTIONS":
            self._tell(request)
            return None
        if method == b"POST":  # of a client whose network lets nothing else through
            method = headers.get(b"x-http-method-override", b"")
            if method not in (b"PATCH", b"DELETE"):
                raise MethodNotAllowed(["GET", "HEAD", "OPTIONS", "PATCH", "DELETE"])
        if method != b"GET":
            tus.check_version(headers)
        if method == b"DELETE":
            await self._finish(request, self._remove(token))
            request.setResponseCode(204)
            return None
        if method == b"PATCH":
            tus.check_type(headers)
            offset, checksum = tus.size(headers, b"upload-offset"), _checksum(request)
            upload = await self._finish(
                request, self._append(request.body, token, offset, checksum)
            )
            request.setResponseCode(204)
            self._describe(request, upload)
            return None
        upload = await self._finish(request, self._look(token))
        self._describe(request, upload)
        request.setHeader(b"Upload-Length", b"%d" % upload.length)
        if upload.told:
            request.setHeader(b"Upload-Metadata", upload.told.encode("ascii"))
        told = {"offset": upload.acknowledged, "length": upload.length, "id": upload.id}
        return answer_json(request, told)

    def _tell(self, request: Request) -> None:
        request.setResponseCode(204)
        request.setHeader(b"Tus-Extension", tus.EXTENSIONS)
        request.setHeader(b"Tus-Max-Size", b"%d" % self._max_size)
        request.setHeader(b"Tus-Checksum-Algorithm", tus.ALGORITHMS)

    def _describe(self, request: Request, upload: Upload) -> None:
        request.setHeader(b"Upload-Offset", b"%d" % upload.acknowledged)
        if upload.id is not None:
            request.blob = upload.id
            request.setHeader(ID, upload.id.encode("ascii"))
        elif request.method != b"GET" and request.method != b"HEAD":
            expires = datetimeToString(int(self._now() + self._uploads.seconds))
            request.setHeader(b"Upload-Expires", expires)

    # What is done for a request whose client may go away meanwhile: to its end, for what has
    # come counts, and what is whole is stored.

    async def _finish(self, request: Request, coroutine: Coroutine[Any, Any, T]) -> T:
        work = ensureDeferred(coroutine)
        self._under_way.add(work)
        work.addBoth(self._ended, work)
        try:
            return await shielded(work)
        except CancelledError:
            request.body.wake()  # who reads it has to learn that there is no more
            raise

    def _ended(self, result: T, work: Deferred[T]) -> T:
        self._under_way.discard(work)
        return result

    def settled(self) -> Deferred[Any]:
        """Return a Deferred that fires when nothing is being done any more."""
        return DeferredList([shielded(work) for work in self._under_way], consumeErrors=True)

    async def _create(
        self, body: RequestBody, upload: Upload, checksum: Checksum | None
    ) -> tuple[str, Upload]:
        opened = await self._run(self._uploads.create, upload)
        try:
            if body.length != 0:
                await self._receive(body, opened, checksum)
            await self._store_whole(opened)
        except BaseException:  # the client does not know it yet
            await self._run(opened.remove)
            raise
        finally:
            opened.close()
        return opened.token, opened.upload

    async def _append(
        self, body: RequestBody, token: str, offset: int, checksum: Checksum | None
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
        """Add *body* to an upload: if it breaks off what has come, unless there is a checksum."""
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
        await self._run(opened.keep, position)

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


def _metadata(request: Request, told: bytes) -> dict[str, str]:
    """Return what is kept with the object: X-* headers, and what stands in ``Upload-Metadata``."""
    headers = tus.metadata_headers(told)
    names = {name.lower() for name, _ in headers}
    others = [each for each in request.received_headers if each[0].lower() not in names]
    return metadata_format.from_headers([*others, *headers])


def _checksum(request: Request) -> Checksum | None:
    value = request.headers.get(b"upload-checksum")
    return None if value is None else Checksum(value)


def _too_long(upload: Upload) -> TooLarge:
    return TooLarge(f"more bytes come than the {upload.length} of the upload")
