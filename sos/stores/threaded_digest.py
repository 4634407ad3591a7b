"""Hash a body on threads while it passes."""

from __future__ import annotations

from sos.aio.threads import RunInThread
from sos.model.digest import BodyDigest

# Bytes to gather before a thread hashes them.  A thread costs as much as hashing 100 KiB.
_BATCH_SIZE = 256 * 1024


class ThreadedDigest:
    """A :class:`~sos.model.digest.BodyDigest` that is updated on threads."""

    def __init__(self, digest: BodyDigest, run_in_thread: RunInThread) -> None:
        self._digest = digest
        self._run_in_thread = run_in_thread
        self._pieces: list[bytes] = []
        self._gathered = 0

    async def update(self, piece: bytes) -> None:
        """Add the next *piece*; return when there is room for another.  Raises Mismatch."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= _BATCH_SIZE:
            pieces, self._pieces, self._gathered = self._pieces, [], 0
            await self._run_in_thread(self._update, pieces)

    async def verified_id(self) -> str:
        """Return the id of the whole body, see :meth:`BodyDigest.verified_id`."""
        return await self._run_in_thread(self._end, self._pieces)

    def _update(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)

    def _end(self, pieces: list[bytes]) -> str:
        self._update(pieces)
        return self._digest.verified_id()
