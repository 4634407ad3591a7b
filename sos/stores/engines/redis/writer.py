"""The writer of a blob into a Redis.

It sends a body of up to a piece with its record, in one step. It adds each full piece of a larger
body to a key for that body, which expires. The script that stores the record, which refers to that
key, also makes the key permanent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from sos.aio.shield import Underway
from sos.aio.tasks import unwanted
from sos.interfaces import BlobInfo, IBlobWriter
from sos.model import metadata as metadata_format
from sos.model.digest import BodyDigest
from sos.model.metadata import Metadata
from sos.stores.block_hashes import BlockHashes
from sos.stores.engines.redis.blobs import Blobs
from sos.stores.engines.redis.record import PIECE, Pieces
from sos.stores.record import Record


@implementer(IBlobWriter)
class RedisWriter:
    """A writer for one blob; see :class:`sos.interfaces.IBlobWriter`."""

    def __init__(
        self,
        blobs: Blobs,
        metadata: Metadata,
        digest: BodyDigest,
        now: Callable[[], float],
        underway: Underway,
    ) -> None:
        self._blobs = blobs
        self._metadata = metadata
        self._digest = digest
        self._now = now
        self._underway = underway
        self._key = secrets.token_hex(16)
        self._gathered = bytearray()
        self._sent = 0
        self._hashes = BlockHashes(PIECE)
        self._sending = DeferredLock()
        self._committing = False

    async def write(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._gathered += piece
        # Keep exactly one piece back: it may be the whole body.
        while len(self._gathered) > PIECE:
            first = bytes(memoryview(self._gathered)[:PIECE])
            del self._gathered[:PIECE]
            await self._underway.to_its_end(self._send(first))

    async def commit(self) -> BlobInfo:
        self._committing = True
        return await self._underway.to_its_end(self._commit())

    async def _commit(self) -> BlobInfo:
        rest = bytes(self._gathered)
        self._gathered.clear()
        try:
            record = self._record(rest if not self._sent else None)
            if self._sent:
                await self._send(rest)
        except BaseException:
            self._discard()
            raise
        # From here on a record may refer to the pieces, even if no answer comes: keep them.
        body = Pieces(self._key, self._hashes.value()) if self._sent else rest
        stored = await self._blobs.add(record, body)
        return stored.info()

    async def _send(self, piece: bytes) -> None:
        number, self._sent = self._sent, self._sent + 1
        self._hashes.update(piece)
        await self._sending.acquire()
        try:
            await self._blobs.add_piece(self._key, number, piece)
        finally:
            self._sending.release()

    def _record(self, body: bytes | None) -> Record:
        return Record(
            id=self._digest.verified_id(),
            size=self._digest.size,
            hash=self._digest.value(),
            metadata=metadata_format.encode(self._metadata),
            stored_at=self._now(),
            body=body,
        )

    def abort(self) -> None:
        if not self._committing:
            self._gathered.clear()
            self._discard()

    def _discard(self) -> None:
        if self._sent:
            self._sent = 0
            # If this fails, the key expires.
            self._underway.to_its_end(self._forget()).addErrback(unwanted)

    async def _forget(self) -> None:
        await self._sending.acquire()  # or a piece in flight could arrive afterwards
        try:
            await self._blobs.forget_pieces(self._key)
        finally:
            self._sending.release()
