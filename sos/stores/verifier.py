"""Hashing a large body while more of it comes."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from sos.digest import BodyDigest
from sos.stores.lane import RunInThread

# Bytes that are hashed at once: enough to be worth another thread, and little
# to keep until then.
_BATCH = 512 * 1024


class Verifier:
    """Takes the hash of a body on another thread.

    What goes wrong with the body is raised by one call or another: see
    :meth:`~sos.digest.BodyDigest.verified_id`.
    """

    def __init__(self, digest: BodyDigest, run_in_thread: RunInThread) -> None:
        self._digest = digest
        self._run_in_thread = run_in_thread
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._hashing: Deferred[None] | None = None
        self._failure: Failure | None = None

    async def update(self, piece: bytes) -> None:
        """Add the next *piece*; returns when there is room for another."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= _BATCH:
            await self._settled()
            pieces, self._pieces, self._gathered = self._pieces, [], 0
            self._hashing = self._run_in_thread(self._hash, pieces)
            self._hashing.addErrback(self._failed)

    async def verified_id(self) -> str:
        """Return the id of the whole body; see :meth:`sos.digest.BodyDigest.verified_id`."""
        await self._settled()
        self._hash(self._pieces)
        return self._digest.verified_id()

    async def _settled(self) -> None:
        hashing, self._hashing = self._hashing, None
        if hashing is not None:
            await hashing
        if self._failure is not None:
            self._failure.raiseException()

    def _failed(self, failure: Failure) -> None:
        self._failure = failure  # which nobody may ever ask for

    def _hash(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._digest.update(piece)
