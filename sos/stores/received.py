"""A body in arrival: in memory while it is small, then in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

from sos.aio.threads import ThreadJobs
from sos.interfaces import SMALL_BODY
from sos.model.digest import BodyDigest
from sos.stores.disk_errors import disk_errors

# Bytes to gather before a thread hashes and writes them.
_WRITE_SIZE = 256 * 1024


class ReceivedBody:
    """A buffer for the pieces of a body, which moves to a file when it grows.

    :param digest: updated with the body, for its hash and size.
    :param create: creates the file; it is not called for a body of up to
        :data:`~sos.interfaces.SMALL_BODY` bytes.
    :param jobs: runs the writes to the file, in threads.
    :param written: called there with each piece that goes into the file.
    """

    def __init__(
        self,
        digest: BodyDigest,
        create: Callable[[], IO[bytes]],
        jobs: ThreadJobs,
        written: Callable[[bytes], None] = lambda piece: None,
    ) -> None:
        self.digest = digest
        self.file: IO[bytes] | None = None
        self._create = create
        self._jobs = jobs
        self._take = written
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._written = 0

    async def write(self, piece: bytes) -> None:
        """Take the next *piece*; returns when there is room for another."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered > (SMALL_BODY if self.file is None else _WRITE_SIZE):
            await self._jobs.run(self._write_out)

    async def whole(self) -> bytes | None:
        """End the body; return it, or None if it is in :attr:`file`."""
        if self.file is not None:
            await self._jobs.run(self._write_out)
            return None
        body = b"".join(self._pieces)
        self.digest.update(body)
        return body

    def _write_out(self) -> None:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        with disk_errors():
            if self.file is None:
                self.file = self._create()
            data = b"".join(pieces)
            self.digest.update(data)
            self._take(data)
            self._written = write_at(self.file, data, self._written)

    def discard(self, gone: Callable[[], None] = lambda: None) -> None:
        """Close the file after any writes in progress, then call *gone*.

        If there is no file, *gone* is not called.
        """
        self._pieces.clear()
        self._jobs.afterwards(lambda: self._close(gone))

    def _close(self, gone: Callable[[], None]) -> None:
        if self.file is not None:
            self.file.close()
            gone()


def write_at(file: IO[bytes], data: bytes, position: int) -> int:
    """Write all of *data* to an open *file* at byte *position*; return the position after it."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file.fileno(), rest, position)
        position += written
        rest = rest[written:]
    return position
