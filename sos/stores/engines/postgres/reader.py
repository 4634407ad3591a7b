"""Reading and verifying blobs; damaged ones are quarantined."""

from __future__ import annotations

from contextlib import aclosing

from attrs import frozen
from twisted.logger import Logger

from sos.aio.shield import Underway
from sos.errors import Quarantined, SOSError, Unavailable
from sos.interfaces import Blob, BlobInfo, Span
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.bodies import Bodies
from sos.stores.engines.postgres.changes import Changes
from sos.stores.engines.postgres.connections import Connections
from sos.stores.engines.postgres.garbage_collector import Used
from sos.stores.engines.postgres.pieces import StoredPieces
from sos.stores.engines.postgres.record import Damaged, Record
from sos.stores.engines.postgres.session import Session

_log = Logger()


@frozen
class Reader:
    """The part of a store that reads blobs."""

    blobs: Blobs
    bodies: Bodies
    changes: Changes
    connections: Connections
    underway: Underway
    used: Used

    async def info(self, id: str) -> BlobInfo:
        """Describe a blob; raises NotFound."""

        def find(session: Session) -> BlobInfo:
            return self.blobs.find(session, id).live_info()

        try:
            return await self.connections.run(find)
        except Damaged as damage:
            await self.quarantine(damage)
            raise Quarantined(id, damage) from damage

    async def open(self, id: str, span: Span | None) -> tuple[Record, Blob]:
        """Open a blob for reading, and return it with its record; raises NotFound."""
        record, blob = await self._open(id, span)
        record.live_info()
        return record, blob

    async def _open(self, id: str, span: Span | None) -> tuple[Record, Blob]:
        def get(session: Session) -> tuple[Record, BlobInfo]:
            record = self.blobs.get(session, id)
            info = record.info()
            if record.body is not None:
                record.verify_inline()
            return record, info

        try:
            record, info = await self.connections.run(get)
        except Damaged as damage:
            await self.quarantine(damage)
            raise Quarantined(id, damage) from damage
        if record.body is not None:
            body = record.body if span is None else record.body[slice(*span)]
            return record, Blob(info, body)
        assert record.pieces is not None
        pieces = StoredPieces(
            record, record.pieces, span, self.bodies, self.connections, self.used, self.quarantine
        )
        return record, Blob(info, pieces)

    async def verified(self, id: str) -> Record:
        """Verify a whole blob or tombstone, and return its record; raises NotFound or Mismatch."""
        record, blob = await self._open(id, None)
        if not isinstance(blob.body, bytes):
            async with aclosing(blob.body):
                async for _ in blob.body:
                    pass
        return record

    async def quarantine(self, damage: Damaged) -> None:
        """Quarantine a damaged blob; from then on it is missing."""
        await self.underway.to_its_end(self._quarantine(damage.record, str(damage)))

    async def _quarantine(self, record: Record, reason: str) -> None:
        _log.error(
            "quarantining a damaged blob, store={store}, id={id}: {reason}",
            store=self.connections.name,
            id=record.id,
            reason=reason,
        )
        try:
            await self.connections.change(self.changes.quarantine, record, reason)
        except SOSError as error:
            raise Unavailable(
                f"blob {record.id} is damaged and cannot be quarantined: {error}"
            ) from error
