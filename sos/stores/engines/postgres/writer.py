"""The writer of a blob into PostgreSQL."""

from __future__ import annotations

from zope.interface import implementer

from sos.aio.shield import Underway
from sos.aio.threads import ThreadJobs
from sos.interfaces import SMALL_BODY, BlobInfo, IBlobWriter
from sos.model import metadata as metadata_format
from sos.model.digest import BodyDigest
from sos.model.metadata import Metadata
from sos.stores.engines.postgres.adder import Adder
from sos.stores.engines.postgres.bodies import Bodies, new_body
from sos.stores.engines.postgres.garbage_collector import GarbageCollector
from sos.stores.engines.postgres.record import Record, checksum
from sos.stores.engines.postgres.schema import PIECE_SIZE
from sos.stores.engines.postgres.session import Session


@implementer(IBlobWriter)
class PostgresWriter:
    """A writer for one blob; see :class:`sos.interfaces.IBlobWriter`.

    It stores a small body in its record, and sends a larger one in pieces while it arrives.
    """

    def __init__(
        self,
        digest: BodyDigest,
        metadata: Metadata,
        adder: Adder,
        bodies: Bodies,
        garbage_collector: GarbageCollector,
        underway: Underway,
    ) -> None:
        self._digest = digest
        self._metadata = metadata
        self._adder = adder
        self._bodies = bodies
        self._garbage_collector = garbage_collector
        self._underway = underway
        self._jobs = ThreadJobs(adder.connections.change)
        self._gathered = bytearray()
        self._sent = 0
        self._body: int | None = None
        self._committing = False

    async def write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            room = PIECE_SIZE - len(self._gathered)
            self._gathered += rest[:room]
            rest = rest[room:]
            if len(self._gathered) == PIECE_SIZE:
                await self._send()

    async def _send(self) -> None:
        if self._body is None:
            self._body = new_body()
            self._garbage_collector.used.add(self._body)
        await self._jobs.run(self._store_piece, self._body)

    def _store_piece(self, session: Session, body: int) -> None:
        piece = bytes(self._gathered)
        self._bodies.add(session, body, self._sent, piece)
        # Only after the piece is stored: this function can be retried.
        self._digest.update(piece)
        self._sent += 1
        self._gathered.clear()

    async def commit(self) -> BlobInfo:
        self._committing = True
        return await self._underway.to_its_end(self._commit())

    async def _commit(self) -> BlobInfo:
        stored = False
        try:
            info, stored = await self._adder.add(self._record(await self._rest()))
            return info
        finally:
            self._finish(stored)

    async def _rest(self) -> bytes | None:
        """Return the whole body, or send its last piece and return None."""
        if self._body is not None or len(self._gathered) > SMALL_BODY:
            if self._gathered:
                await self._send()
            return None
        body = bytes(self._gathered)
        self._digest.update(body)
        return body

    def _record(self, body: bytes | None) -> Record:
        id, size, hash = self._digest.verified_id(), self._digest.size, self._digest.value()
        text = metadata_format.encode(self._metadata).decode()
        code = checksum(id, size, hash, text)
        return Record(id, size, hash, text, body, self._body, code)

    def abort(self) -> None:
        if not self._committing:
            self._committing = True
            self._jobs.afterwards(lambda: self._finish(stored=False))

    def _finish(self, stored: bool) -> None:
        """Stop using the body, and remove it unless it is *stored*."""
        self._gathered.clear()
        if self._body is not None:
            self._garbage_collector.used.remove(self._body)
            if not stored:
                self._garbage_collector.discard(self._body)
