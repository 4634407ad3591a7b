"""A body that has to be known whole before it can go anywhere.

What an id is, only the last byte of the body tells; so where blobs are sent
under their id, an upload without one is spooled first: in memory while it is
small, then in a file that has no name, so that nothing is ever left over.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import IO

from attrs import frozen
from zope.interface import implementer

from sos.digest import BodyDigest
from sos.interfaces import BlobInfo, IBlobWriter, Pieces
from sos.metadata import Metadata
from sos.stores.disk_errors import disk_errors
from sos.stores.lane import Lane, RunInThread
from sos.stores.received import ReceivedBody

_READ_SIZE = 256 * 1024


@frozen
class Spooled:
    """A whole body, verified, and what is to be stored of it.

    :param body: gives the body, anew at each call.
    :param close: lets go of the body; whoever is given this calls it once.
    """

    id: str
    size: int
    metadata: Metadata
    body: Callable[[], bytes | Pieces]
    close: Callable[[], None]


@implementer(IBlobWriter)
class SpooledWriter:
    """Gathers a body, then hands it to *place*.

    :param digest: which takes the body's hash, and knows its id if it has one.
    :param place: stores the whole body, tells what is stored then, and closes it.
    """

    def __init__(
        self,
        digest: BodyDigest,
        metadata: Metadata,
        place: Callable[[Spooled], Awaitable[BlobInfo]],
        run_in_thread: RunInThread,
    ) -> None:
        self._metadata = metadata
        self._place = place
        self._lane = Lane(run_in_thread)
        self._received = ReceivedBody(digest, _unnamed_file, self._lane)
        self._placing = False

    async def write(self, piece: bytes) -> None:
        await self._received.write(piece)

    async def commit(self) -> BlobInfo:
        body = await self._received.whole()
        digest = self._received.digest
        whole = Spooled(
            id=digest.verified_id(),
            size=digest.size,
            metadata=self._metadata,
            body=self._reread if body is None else lambda: body,
            close=self._received.discard,
        )
        self._placing = True
        return await self._place(whole)

    async def _reread(self) -> AsyncGenerator[bytes, None]:
        position = 0
        while piece := await self._lane.run(self._read_at, position):
            yield piece
            position += len(piece)

    def _read_at(self, position: int) -> bytes:
        file = self._received.file
        assert file is not None
        with disk_errors():
            return os.pread(file.fileno(), _READ_SIZE, position)

    def abort(self) -> None:
        if not self._placing:
            self._received.discard()


def _unnamed_file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="sos-", buffering=0)
