"""A body in arrival: in memory while it is small or there is room, then in a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO

from twisted.internet.defer import Deferred

from sos.aio.tasks import unwanted
from sos.aio.threads import ThreadJobs
from sos.interfaces import SMALL_BODY
from sos.model.digest import BodyDigest
from sos.stores.disk_errors import disk_errors

# Bytes to gather before a thread hashes and writes them to a file.
_WRITE_SIZE = 256 * 1024
# The same for bodies in memory.  A thread costs some 0.1 ms, as long as it hashes 100 KiB.
_BATCH_SIZE = 1024 * 1024


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


class ReceivedBody:
    """A buffer for the pieces of a body, which moves to a file when it grows.

    Threads hash and write it, a batch of pieces at a time.  In memory, the next pieces arrive
    meanwhile.

    :param digest: updated with the body, for its hash and size.
    :param create: creates the file; it is not called for a body of up to
        :data:`~sos.interfaces.SMALL_BODY` bytes.
    :param jobs: runs the writes to the file, in threads.
    :param written: called there with each batch of pieces of a larger body.
    :param budget: for keeping a larger body in memory; a body for which it does not suffice
        moves to the file.  None for the file at once.
    :ivar kept: the batches of a larger body in memory.
    """

    def __init__(
        self,
        digest: BodyDigest,
        create: Callable[[], IO[bytes]],
        jobs: ThreadJobs,
        written: Callable[[bytes], None] = lambda piece: None,
        budget: MemoryBudget | None = None,
    ) -> None:
        self.digest = digest
        self.file: IO[bytes] | None = None
        self.kept: list[bytes] = []
        self._create = create
        self._jobs = jobs
        self._take = written
        self._budget = budget
        self._reserved = 0
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._room = SMALL_BODY
        self._in_file = 0
        self._job: Deferred[None] | None = None

    async def write(self, piece: bytes) -> None:
        """Take the next *piece*; returns when there is room for another."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered > self._room:
            await self._job_done()
            was_large = self._room > SMALL_BODY
            fits = self._reserve()
            if not fits:
                await self._write_out()
            elif was_large:
                self._job = self._run(self._keep)

    async def whole(self) -> bytes | None:
        """End the body; return it, or None if it is in :attr:`file` or :attr:`kept`."""
        await self._job_done()
        if self._reserved:
            await self._run(self._keep)
            return None
        if self.file is not None:
            await self._write_out()
            return None
        body = b"".join(self._pieces)
        self.digest.update(body)
        return body

    def _reserve(self) -> bool:
        """Reserve memory for the next batch; return False if the body has to go to the file."""
        budget, size = self._budget, max(_BATCH_SIZE, self._gathered)
        if budget is not None and self.file is None and budget.take(size):
            self._reserved += size
            self._room = _BATCH_SIZE
            return True
        self._room = _WRITE_SIZE
        return False

    def _release(self) -> None:
        if self._budget is not None:
            self._budget.give_back(self._reserved)
            self._reserved = 0

    async def _write_out(self) -> None:
        await self._run(self._write)
        self._release()

    def _run(self, function: Callable[[list[bytes]], None]) -> Deferred[None]:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        return self._jobs.run(function, pieces)

    async def _job_done(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            await job

    def _hash(self, pieces: list[bytes]) -> bytes:
        data = b"".join(pieces)
        self.digest.update(data)
        self._take(data)
        return data

    def _keep(self, pieces: list[bytes]) -> None:
        self.kept.append(self._hash(pieces))

    def _write(self, pieces: list[bytes]) -> None:
        with disk_errors():
            if self.file is None:
                self.file = self._create()
            for data in self.kept:
                self._in_file = write_at(self.file, data, self._in_file)
            self.kept.clear()
            self._in_file = write_at(self.file, self._hash(pieces), self._in_file)

    def discard(self, gone: Callable[[], None] = lambda: None) -> None:
        """Close the file after any writes in progress, then call *gone*.

        If there is no file, *gone* is not called.
        """
        self._pieces.clear()
        if self._job is not None:
            self._job.addErrback(unwanted)
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
