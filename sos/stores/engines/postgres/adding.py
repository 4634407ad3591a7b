"""What happens to a whole body: it is stored, or what is stored already stands."""

from __future__ import annotations

from attrs import evolve, frozen

from sos.errors import Mismatch, NotFound, Unavailable
from sos.interfaces import BlobInfo
from sos.model import metadata
from sos.model.merge import replaces_body
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.bodies import Bodies
from sos.stores.engines.postgres.committer import Committer
from sos.stores.engines.postgres.connections import Connections
from sos.stores.engines.postgres.reading import Reading
from sos.stores.engines.postgres.record import Record, checksum
from sos.stores.engines.postgres.schema import PIECE_SIZE

# Times that it is tried while others store and drop the same.
_ROUNDS = 5


@frozen
class Adding:
    """Adds blobs to a store."""

    blobs: Blobs
    bodies: Bodies
    committer: Committer
    connections: Connections
    reading: Reading

    async def add(self, new: Record) -> tuple[BlobInfo, bool]:
        """Store *new*, durably; tell what is stored, and whether that is its body.

        It is not when the same bytes were stored before: a damaged copy gives
        way.  The object itself takes the place of its
        manifest, and keeps its metadata; a manifest that is not stored, for
        one of the two is, is told of with the size of *new*.

        :raises Conflict: when other bytes are stored under the id.
        :raises Unavailable: when the pieces of *new* are not all there, too.
        """
        for _ in range(_ROUNDS):
            stored_at = await self.committer.add(new)
            if stored_at is not None:
                return evolve(new, stored_at=stored_at).info(), True
            try:
                held = await self.reading.verified(new.id)
            except (NotFound, Mismatch):
                continue
            same = await self._is_same(held, new)
            if same is None:
                continue
            if same:
                return held.info(), False
            received = metadata.decode(new.metadata.encode())
            kept = replaces_body(new.id, held.info().metadata, received)
            if kept is None:
                return evolve(held.info(), size=new.size), False
            replaced = await self._replace(held, new, kept)
            if replaced is not None:
                return replaced.info(), True
        raise Unavailable(f"{new.id}: a part of the body was lost on the way; send it again")

    async def _is_same(self, held: Record, new: Record) -> bool | None:
        """Tell whether the bodies of both are the same; None when one of them has gone meanwhile.

        Those in pieces are compared where they are.
        """
        if held.size != new.size:
            return False
        if held.pieces is None or new.pieces is None:
            return held.body == new.body
        for number in range(-(-new.size // PIECE_SIZE)):
            same = await self.connections.run(
                self.bodies.is_same_piece, held.pieces, new.pieces, number
            )
            if not same:
                return same
        return True

    async def _replace(self, manifest: Record, new: Record, kept: dict[str, str]) -> Record | None:
        """Store the object *new* in the place of its *manifest*; None when another is held now.

        :param kept: its metadata.
        """
        text = metadata.encode(kept).decode()
        new = evolve(new, metadata=text, checksum=checksum(new.id, new.size, new.hash, text))
        return await self.connections.change(self.blobs.replace, manifest, new)
