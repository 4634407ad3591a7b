"""Storing whole bodies, and resolving conflicts with stored blobs."""

from __future__ import annotations

from attrs import evolve, frozen

from sos.errors import Mismatch, NotFound, Unavailable
from sos.interfaces import BlobInfo
from sos.model import metadata
from sos.model.merge import join
from sos.model.metadata import is_tombstone
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.bodies import Bodies
from sos.stores.engines.postgres.committer import Committer
from sos.stores.engines.postgres.connections import Connections
from sos.stores.engines.postgres.reader import Reader
from sos.stores.engines.postgres.record import Record
from sos.stores.engines.postgres.schema import PIECE_SIZE

# Attempts to store a blob while others store and drop it.
_ROUNDS = 5


@frozen
class Adder:
    """The part of a store that adds blobs."""

    blobs: Blobs
    bodies: Bodies
    committer: Committer
    connections: Connections
    reader: Reader

    async def add(self, new: Record) -> tuple[BlobInfo, bool]:
        """Store *new* durably; return the stored blob, and whether it uses the body of *new*.

        If the id has a blob, both are merged, see :func:`sos.model.merge.join`. *new* replaces a
        damaged copy.

        :raises Conflict: if other bytes are stored under the id.
        :raises Deleted: if the object was deleted after it was stored.
        :raises Unavailable: also if pieces of *new* are missing.
        """
        for _ in range(_ROUNDS):
            stored_at = await self.committer.add(new)
            if stored_at is not None:
                return evolve(new, stored_at=stored_at).info(), True
            try:
                held = await self.reader.verified(new.id)
            except (NotFound, Mismatch):
                continue
            stored = held.info().metadata
            same = False if is_tombstone(stored) else await self._is_same(held, new)
            if same is None:
                continue
            received = metadata.decode(new.metadata.encode())
            kept, takes_new = join(new.id, stored, received, same)
            done: Record | None = held
            if takes_new:
                change, now = self.blobs.replace, new.with_metadata(kept)
                done = await self.connections.change(change, held, now)
            elif kept != stored:
                now = held.with_metadata(kept)
                done = await self.connections.change(self.reader.changes.settle, held, now)
            if done is not None:
                return evolve(done.info(), size=new.size), takes_new
        raise Unavailable(
            f"part of the body of {new.id} was lost before it was stored; send it again"
        )

    async def _is_same(self, held: Record, new: Record) -> bool | None:
        """Return whether both bodies are the same; None if one of them is gone by now.

        The database compares bodies in pieces.
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
