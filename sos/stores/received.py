"""A body in arrival: in memory while it is small or there is room, then in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

from twisted.internet.defer import Deferred

from sos.aio.threads import ThreadJobs
from sos.interfaces import SMALL_BODY
from sos.model.digest import BodyDigest
from sos.stores.disk_errors import disk_errors

# Bytes to gather before a thread hashes them, and writes them to the file.  A thread costs as much
# as hashing 100 KiB, so larger batches take up to a tenth less CPU.
_BATCH_SIZE = 1024 * 1024
# The same when the budget is used up.
_SMALL_BATCH_SIZE = 256 * 1024
# A batch of more pieces is joined: many small ones take much more memory than their bytes.
_MOST_PIECES = 64


class MemoryBudget:
    """A budget of memory for bodies.

    :param bytes: the most that they may take together.
    :ivar left: bytes of it that are left.
    """

    def __init__(self, bytes: int) -> None:
        self.left = bytes

    def take(self, bytes: int) -> bool:
        """Take *bytes* from the budget; return False if it does not have them."""
        if bytes > self.left:
            return False
        self.left -= bytes
        return True

    def give_back(self, bytes: int) -> None:
        """Return *bytes* to the budget."""
        self.left += bytes


#: Memory for all larger bodies in arrival: a little more than four chunks of the default size,
#: which is what one upload can have at a time.
MEMORY = MemoryBudget(36 << 20)


class ReceivedBody:
    """A buffer for the pieces of a body, which moves to a file when it grows.

    Threads hash and write it, a batch of pieces at a time.

    :param digest: updated with the body, for its hash and size.
    :param create: creates the file; it is not called for a body of up to
        :data:`~sos.interfaces.SMALL_BODY` bytes.
    :param jobs: runs the writes to the file, in threads.
    :param written: called there with each batch of pieces of a larger body.
    :param keeps: whether to keep a larger body in memory while the *budget* suffices.
    :param budget: the memory for larger bodies.
    :ivar kept: the pieces of a larger body in memory.
    """

    def __init__(
        self,
        digest: BodyDigest,
        create: Callable[[], IO[bytes]],
        jobs: ThreadJobs,
        written: Callable[[bytes], None] = lambda piece: None,
        keeps: bool = False,
        budget: MemoryBudget = MEMORY,
    ) -> None:
        self.digest = digest
        self.file: IO[bytes] | None = None
        self.kept: list[bytes] = []
        self._create = create
        self._jobs = jobs
        self._written = written
        self._keeps = keeps
        self._budget = budget
        self._reserved = 0
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._room = SMALL_BODY
        self._in_file = 0
        self._discarded = False

    async def write(self, piece: bytes) -> None:
        """Take the next *piece*; returns when there is room for another."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered > self._room:
            if not (self._keeps and self._reserve(self._gathered)):
                await self._write_out()
            elif self._room == SMALL_BODY:
                self._room = _BATCH_SIZE
            else:
                await self._run(self._keep)

    async def whole(self) -> bytes | None:
        """End the body; return it, or None if it is in :attr:`file` or :attr:`kept`."""
        if self.file is not None:
            await self._run(self._write)
            return None
        if self._reserved:
            if self._pieces:
                await self._run(self._keep)
            self._release(keeping=sum(map(len, self.kept)))
            return None
        body = b"".join(self._pieces)
        self.digest.update(body)
        return body

    def _reserve(self, bytes: int = 0) -> bool:
        """Reserve memory for another batch, of *bytes* at least."""
        size = max(bytes, _BATCH_SIZE)
        granted = not self._discarded and self._budget.take(size)
        if granted:
            self._reserved += size
        return granted

    def _release(self, keeping: int = 0) -> None:
        """Return the memory that is reserved, but for the bytes *keeping*."""
        self._budget.give_back(self._reserved - keeping)
        self._reserved = keeping

    async def _write_out(self) -> None:
        self._keeps = False
        await self._run(self._write)
        self._release()
        self._room = _BATCH_SIZE if self._reserve() else _SMALL_BATCH_SIZE

    def _run(self, function: Callable[[list[bytes]], None]) -> Deferred[None]:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        return self._jobs.run(function, pieces)

    def _hash(self, pieces: list[bytes]) -> list[bytes]:
        if len(pieces) > _MOST_PIECES:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            self.digest.update(piece)
            self._written(piece)
        return pieces

    def _keep(self, pieces: list[bytes]) -> None:
        self.kept += self._hash(pieces)

    def _write(self, pieces: list[bytes]) -> None:
        with disk_errors():
            if self.file is None:
                self.file = self._create()
            for piece in (*self.kept, *self._hash(pieces)):
                self._in_file = write_at(self.file, piece, self._in_file)
            self.kept.clear()

    def discard(self, gone: Callable[[], None] = lambda: None) -> None:
        """Close the file after any writes in progress, then call *gone*.

        If there is no file, *gone* is not called.
        """
        self._discarded = True
        self._pieces.clear()
        self._jobs.afterwards(lambda: self._close(gone))

    def _close(self, gone: Callable[[], None]) -> None:
        self.kept = []
        self._release()
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
