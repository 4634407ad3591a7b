"""Storing whole bodies, and resolving conflicts with stored blobs."""

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
from sos.stores.engines.postgres.reader import Reader
from sos.stores.engines.postgres.record import Record, checksum
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

        It does not if the same bytes are stored already. *new* replaces a damaged copy. An object
        replaces its manifest, and takes over the metadata of that. A manifest does not replace
        the object or another manifest: then the stored one is returned, with the size of *new*.

        :raises Conflict: if other bytes are stored under the id.
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

    async def _replace(self, manifest: Record, new: Record, kept: dict[str, str]) -> Record | None:
        """Replace a *manifest* by its object *new*; None if the manifest has changed meanwhile.

        :param kept: the metadata of the object.
        """
        text = metadata.encode(kept).decode()
        new = evolve(new, metadata=text, checksum=checksum(new.id, new.size, new.hash, text))
        return await self.connections.change(self.blobs.replace, manifest, new)
