"""Uploads to an API server, which renew files that are stored there already."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import IO, BinaryIO

from sos.aio.threads import RunInThread
from sos.cli.files import Hashed, hashed, version_of
from sos.cli.redirects import SentInPart
from sos.cli.stall_timeout import OnProgress, with_stall_timeout
from sos.cli.stored_objects import StoredObjects, Unsupported, expiry_query
from sos.errors import Mismatch, NotFound, SOSError
from sos.files.regular import open_regular
from sos.interfaces import BlobInfo, IBlobStore
from sos.model import ids
from sos.model.digest import BodyDigest
from sos.model.metadata import Metadata
from sos.stores.remote.client import Exchange, Upload
from sos.transfer import pieces_of, transfer

#: Called with the number of bytes just finished.
Advance = Callable[[int], object]

#: The default idle timeout of an upload, in seconds.
SECONDS = 30.0
# The timeout for renewing a file, or asking for it; without an answer it is uploaded.
_QUESTION_SECONDS = 5.0
# Bytes of a large file for each further second: the server looks for each of its chunks.
_LOOKED_FOR = 4 * 1024**3

#: The number of lookups in succession without an answer after which no more are made.
MOST_UNANSWERED = 3

_READ_SIZE = 256 * 1024


class Uploader:
    """Uploads files to an API server.

    :param exchange: the connection to the server's upload port.
    :param metadata: the metadata of each file.
    :param stored: the objects that the server has already; None to upload every file.
        A file that is among them is renewed instead.  If the server does not answer, the file
        is uploaded.
    :param seconds: the idle timeout.
    :param expires: when each file expires, see :func:`sos.model.expiry.parse`; None for never.
    """

    def __init__(
        self,
        exchange: Exchange,
        run_in_thread: RunInThread,
        metadata: Metadata,
        stored: IBlobStore | None,
        seconds: float = SECONDS,
        expires: str | None = None,
    ) -> None:
        self._exchange = exchange
        self._clock = exchange.clock
        self._run_in_thread = run_in_thread
        self._metadata = metadata
        self._objects = StoredObjects(exchange)
        self._renews = True  # until the server shows that it cannot
        self._stored = stored
        self._seconds = seconds
        self._expires = expires
        self._unanswered = 0
        # The server's algorithm, after its first answer.
        self._algorithms = tuple(ids.ALGORITHMS)

    async def put(self, path: str, advance: Advance, named: bool = True) -> str:
        """Store the file *path*, if it is not stored yet, and return its id.

        It hashes the file first, and the server verifies the upload against the hash.

        :param named: see :func:`~sos.files.regular.open_regular`.
        :raises ~sos.errors.Mismatch: if the file has changed meanwhile.
        :raises ~sos.errors.SOSError: the error that the server answers.
        :raises OSError: if the file cannot be read.
        """
        with open_regular(path, named=named) as file:
            file_hash = await hashed(file, self._run_in_thread)
            file.seek(0)
            # Files in /proc report a size of 0 bytes, and differ on each read.
            if os.fstat(file.fileno()).st_size or not file_hash.size:
                return await self._put_hashed(file, file_hash, advance)
            return await self.stream(file, advance)

    async def _put_hashed(self, file: BinaryIO, file_hash: Hashed, advance: Advance) -> str:
        id = await self._known(file_hash)
        if id is None:
            return await self._send(file, file_hash, advance)
        advance(file_hash.size)
        return id

    async def _known(self, file_hash: Hashed) -> str | None:
        """Return the id of the file if the server has it, and has renewed it if it can."""
        if self._stored is None or self._unanswered >= MOST_UNANSWERED:
            return None
        for algorithm in self._algorithms:
            id = file_hash.ids[algorithm]
            try:
                size = await self._size_of(id, file_hash.size, self._stored)
                is_stored = size == file_hash.size and await self._is_stored(
                    id, file_hash, self._stored
                )
            except NotFound:
                is_stored = False
            except SOSError:
                self._unanswered += 1
                return None
            self._unanswered = 0
            if is_stored:
                return self._seen(id)
        return None

    async def _size_of(self, id: str, size: int, stored: IBlobStore) -> int | None:
        """Return the size of the object *id*, and renew it: else an earlier deletion may win.

        An earlier server cannot renew it, and is only asked for it.

        :param size: of the file, in bytes.
        """
        seconds = min(_QUESTION_SECONDS, self._seconds) + size / _LOOKED_FOR
        if self._renews:
            try:
                return await with_stall_timeout(
                    lambda moved: self._objects.renew(id, self._expires),
                    seconds,
                    self._clock,
                    self._exchange.url,
                )
            except Unsupported:
                self._renews = False
        info = await with_stall_timeout(
            lambda moved: stored.stat(id), seconds, self._clock, stored.name
        )
        return info.size

    async def _is_stored(self, id: str, file_hash: Hashed, stored: IBlobStore) -> bool:
        """Return whether the object stored as *id* has the content of the file.

        Two bodies can have the same SHA-1, so it reads the object back unless *id* is a
        SHA-256.  Raises SOSError if it cannot be read.
        """
        if id == file_hash.ids["sha256"]:
            return True

        async def work(moved: OnProgress) -> str:
            digest = BodyDigest(None, "sha256")
            async with aclosing(pieces_of((await stored.read(id)).body)) as pieces:
                async for piece in pieces:
                    digest.update(piece)
                    moved()
            return digest.verified_id()

        found = await with_stall_timeout(work, self._seconds, self._clock, stored.name)
        return found == file_hash.ids["sha256"]

    async def _send(self, file: BinaryIO, file_hash: Hashed, advance: Advance) -> str:
        # Metadata are headers of the request.  The server does not store this one.
        headers = {**self._metadata, "Repr-Digest": file_hash.repr_digest}
        try:
            info, _ = await self._transferred(file, (), advance, headers, file_hash.size)
        except SOSError as error:
            if version_of(file.fileno()) != file_hash.version:
                raise Mismatch("the file changed during the upload: upload it again") from error
            raise
        return self._checked(info.id, list(file_hash.ids.values()))

    async def stream(self, file: IO[bytes], advance: Advance) -> str:
        """Store the rest of *file*, which need not be seekable, and return its id."""
        info, digests = await self._transferred(
            file, tuple(ids.ALGORITHMS), advance, self._metadata, _rest_of(file)
        )
        return self._checked(info.id, [digest.verified_id() for digest in digests])

    async def _transferred(
        self,
        file: IO[bytes],
        algorithms: Sequence[str],
        advance: Advance,
        headers: Metadata,
        size: int | None,
    ) -> tuple[BlobInfo, Sequence[BodyDigest]]:
        """Upload the rest of *file*; return the stored object, and the digests of the bytes sent.

        If the server redirects an upload that has started, it sends a seekable file again.
        """
        start = file.tell() if file.seekable() else None
        path = "/upload" + expiry_query(self._expires)

        async def once(moved: OnProgress) -> tuple[BlobInfo, Sequence[BodyDigest]]:
            digests = [BodyDigest(None, algorithm) for algorithm in algorithms]
            upload = Upload(self._exchange, path, None, headers, size)
            info = await transfer(_pieces(file, digests, advance, moved), upload)
            if self._expires is not None and info.expires_at is None:
                raise Unsupported(
                    f"{self._exchange.url} has stored {info.id}, but for ever: it is an earlier "
                    "version"
                )
            return info, digests

        async def work(moved: OnProgress) -> tuple[BlobInfo, Sequence[BodyDigest]]:
            try:
                return await once(moved)
            except SentInPart:
                if start is None:
                    raise
                advance(start - file.tell())
                file.seek(start)
                return await once(moved)

        return await with_stall_timeout(work, self._seconds, self._clock, self._exchange.url)

    def _checked(self, id: str, expected: list[str]) -> str:
        if id not in expected:
            raise Mismatch(
                f"the server stored the file under the id {id}, which is not the file's hash: the "
                "file changed, or the data was corrupted; upload it again"
            )
        return self._seen(id)

    def _seen(self, id: str) -> str:
        self._algorithms = (ids.algorithm(id) or ids.DEFAULT_ALGORITHM,)
        return id


def _rest_of(file: IO[bytes]) -> int | None:
    """Return the number of bytes left to read in *file*, None if it is unknown."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        return None
    return max(status.st_size - file.tell(), 0) or None


async def _pieces(
    file: IO[bytes], digests: Sequence[BodyDigest], advance: Advance, moved: OnProgress
) -> AsyncGenerator[bytes, None]:
    while piece := file.read(_READ_SIZE):
        moved()  # do not count the time for the read against the server
        for digest in digests:
            digest.update(piece)
        yield piece
        moved()
        advance(len(piece))
