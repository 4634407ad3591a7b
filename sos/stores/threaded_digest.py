"""Hash a body on threads while it passes."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from sos.aio.threads import RunInThread
from sos.model.digest import BodyDigest

# Bytes that a thread hashes at a time, which takes it a millisecond.
_BATCH_SIZE = 1024 * 1024


class ThreadedDigest:
    """A :class:`~sos.model.digest.BodyDigest` that is updated on threads, a batch at a time."""

    def __init__(self, digest: BodyDigest, run_in_thread: RunInThread) -> None:
        self._digest = digest
        self._run_in_thread = run_in_thread
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._job: Deferred[None] | None = None
        self._error: Exception | None = None

    async def update(self, piece: bytes) -> None:
        """Add the next *piece*; return when there is room for another.  Raises Mismatch."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= _BATCH_SIZE:
            await self._job_done()
            pieces, self._pieces, self._gathered = self._pieces, [], 0
            self._job = self._run_in_thread(self._hash, pieces)

    async def verified_id(self) -> str:
        """Return the id of the whole body, see :meth:`BodyDigest.verified_id`."""
        await self._job_done()
        return await self._run_in_thread(self._end, self._pieces)

    async def _job_done(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            await job
        if self._error is not None:
            raise self._error

    def _hash(self, pieces: list[bytes]) -> None:
        try:
            for piece in pieces:
                self._digest.update(piece)
        except Exception as error:  # the body may be given up, and the job's failure be nobody's
            self._error = error

    def _end(self, pieces: list[bytes]) -> str:
        for piece in pieces:
            self._digest.update(piece)
        return self._digest.verified_id()
