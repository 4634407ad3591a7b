"""Hash a body on threads while it passes."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from sos.aio.threads import RunInThread
from sos.model.digest import BodyDigest

# Bytes to gather before a thread hashes them, and the most that wait for a thread.
_LEAST_BATCH = 128 * 1024
_MOST_WAITING = 256 * 1024


class ThreadedDigest:
    """A :class:`~sos.model.digest.BodyDigest` that is updated on threads.

    One thread at a time hashes what has arrived meanwhile.  So a slow reader of a body does not
    hold pieces in memory that have passed.
    """

    def __init__(self, digest: BodyDigest, run_in_thread: RunInThread) -> None:
        self._digest = digest
        self._run_in_thread = run_in_thread
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._job: Deferred[None] | None = None
        self._error: Exception | None = None

    async def update(self, piece: bytes) -> None:
        """Add the next *piece*; return when there is room for another.  Raises Mismatch."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiting >= _MOST_WAITING:
            await self._job_done()
        if self._job is None:
            self._begin_job()

    async def verified_id(self) -> str:
        """Return the id of the whole body, see :meth:`BodyDigest.verified_id`."""
        await self._job_done()
        while self._job is not None:
            await self._job_done()
        return await self._run_in_thread(self._end, self._pieces)

    async def _job_done(self) -> None:
        if self._job is not None:
            done: Deferred[None] = Deferred()
            self._job.addCallback(lambda _: done.callback(None))
            await done
        if self._error is not None:
            raise self._error

    def _begin_job(self) -> None:
        if self._waiting >= _LEAST_BATCH and self._error is None:
            pieces, self._pieces, self._waiting = self._pieces, [], 0
            self._job = self._run_in_thread(self._hash, pieces)
            self._job.addCallback(self._ended)

    def _ended(self, _: None) -> None:
        self._job = None
        self._begin_job()

    def _hash(self, pieces: list[bytes]) -> None:
        try:
            for piece in pieces:
                self._digest.update(piece)
        except Exception as error:  # for the next update: the body may have been given up
            self._error = error

    def _end(self, pieces: list[bytes]) -> str:
        for piece in pieces:
            self._digest.update(piece)
        return self._digest.verified_id()
