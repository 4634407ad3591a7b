"""Spool a body that must be complete before it is stored.

The id of an upload is unknown until its last byte.  So where blobs are sent under
their id, the body is spooled first: in memory while there is room, then in an unnamed
temporary file, so that a crash leaves nothing over.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import IO

from attrs import frozen
from zope.interface import implementer

from sos.aio.threads import RunInThread, ThreadJobs
from sos.errors import NoSpace, Unavailable
from sos.interfaces import BlobInfo, IBlobStore, IBlobWriter, Pieces
from sos.model.digest import BodyDigest
from sos.model.metadata import Metadata
from sos.stores.disk_errors import disk_errors
from sos.stores.received import ReceivedBody

_READ_SIZE = 256 * 1024
# The temporary directory counts as full with fewer bytes free than this.
_LEAST_ROOM = 16 << 20


@frozen
class Spooled:
    """A whole body, verified, with its id and metadata.

    :param size: in bytes.
    :param body: returns the body, from its beginning, at each call.
    :param close: releases the body; the receiver calls it once.
    """

    id: str
    size: int
    metadata: Metadata
    body: Callable[[], bytes | Pieces]
    close: Callable[[], None]


class IPlacingStore(IBlobStore):
    """A store that also takes whole bodies, and can send one to several servers."""

    async def place(spooled: Spooled) -> BlobInfo:
        """Store a whole body, durably, and then return the stored blob's info.

        The store closes *spooled* in any case, at once or after the last copy.
        Raises the errors of :meth:`~sos.interfaces.IBlobWriter.commit`.
        """

    async def renew(id: str, name: str, expires: int | None = None) -> int:
        """Record that a blob is stored now; return how many of its replicas have recorded it.

        Raises NotFound if they are fewer than the write quorum: then store it again.

        :param name: :data:`~sos.model.metadata.STORED_AT` for an object,
            :data:`~sos.model.metadata.PART_AT` for a chunk.
        :param expires: when the object expires, in ticks; None for never.
        """


class Spool:
    """Gathers a body, which can then be read any number of times.

    :param digest: updated with the body, for its hash and size.
    :param written: see :class:`~sos.stores.received.ReceivedBody`.
    """

    def __init__(
        self,
        digest: BodyDigest,
        run_in_thread: RunInThread,
        written: Callable[[bytes], None] = lambda piece: None,
    ) -> None:
        self.digest = digest
        self._jobs = ThreadJobs(run_in_thread)
        self._received = ReceivedBody(digest, _unnamed_file, self._jobs, written, keeps=True)
        self._body: bytes | None = None

    async def write(self, piece: bytes) -> None:
        """Take the next *piece*; returns when there is room for another."""
        with _in_temporary_directory():
            await self._received.write(piece)

    async def finish(self) -> None:
        """End the body: hash the rest of it, and make it readable."""
        with _in_temporary_directory():
            self._body = await self._received.whole()

    def spooled(self, id: str, metadata: Metadata) -> Spooled:
        """Return the finished body, to be stored under *id*; closing that discards the spool."""
        body = self._body
        return Spooled(
            id=id,
            size=self.digest.size,
            metadata=metadata,
            body=self._reread if body is None else lambda: body,
            close=self.discard,
        )

    async def _reread(self) -> AsyncGenerator[bytes, None]:
        if self._received.file is None:
            for piece in self._received.kept:
                yield piece
            return
        position = 0
        while piece := await self._jobs.run(self._read_at, position):
            yield piece
            position += len(piece)

    def _read_at(self, position: int) -> bytes:
        file = self._received.file
        assert file is not None
        with disk_errors():
            return os.pread(file.fileno(), _READ_SIZE, position)

    def discard(self) -> None:
        """Release the body's memory, and close its file."""
        self._received.discard()


@implementer(IBlobWriter)
class SpooledWriter:
    """A writer that gathers a body, then hands it to *place*.

    :param digest: updated with the body; knows the expected id, if there is one.
    :param place: stores the whole body, returns the stored blob's info, and closes the body.
    :param written: see :class:`~sos.stores.received.ReceivedBody`.
    """

    def __init__(
        self,
        digest: BodyDigest,
        metadata: Metadata,
        place: Callable[[Spooled], Awaitable[BlobInfo]],
        run_in_thread: RunInThread,
        written: Callable[[bytes], None] = lambda piece: None,
    ) -> None:
        self._metadata = metadata
        self._place = place
        self._spool = Spool(digest, run_in_thread, written)
        self._placing = False

    async def write(self, piece: bytes) -> None:
        await self._spool.write(piece)

    async def commit(self) -> BlobInfo:
        await self._spool.finish()
        id = self._spool.digest.verified_id()
        self._placing = True
        return await self._place(self._spool.spooled(id, self._metadata))

    def abort(self) -> None:
        if not self._placing:
            self._spool.discard()


def refusal() -> str | None:
    """Return why larger bodies cannot be spooled now, None if they can."""
    directory = tempfile.gettempdir()
    try:
        found = os.statvfs(directory)
    except OSError as error:
        return f"the temporary directory {directory} cannot be used: {error.strerror}"
    if found.f_bavail * found.f_frsize < _LEAST_ROOM:
        return f"the temporary directory {directory} is full"
    return None


@contextmanager
def _in_temporary_directory() -> Iterator[None]:
    """Turn NoSpace into Unavailable: the temporary directory is full, not a store."""
    try:
        yield
    except NoSpace as error:
        raise Unavailable(
            f"the temporary directory {tempfile.gettempdir()} is full: {error}"
        ) from error


def _unnamed_file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="sos-", buffering=0)
