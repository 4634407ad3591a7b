"""The blobs in a Redis, and their changes by optimistic concurrency.

This process reads the head of a blob and decides. A script in Redis makes the change
if the head is still the same. Otherwise this process reads and decides again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import define, evolve
from twisted.logger import Logger

from sos.errors import Conflict, NotFound, Quarantined, SOSError, Unavailable
from sos.model import ids, merge, metadata
from sos.model.digest import BlobDigest, BodyDigest, check_held
from sos.model.metadata import Metadata, is_tombstone
from sos.stores.engines.redis import replies
from sos.stores.engines.redis.pool import Pool
from sos.stores.engines.redis.record import (
    Held,
    Pieces,
    blob_digest,
    decode,
    encode_head,
    is_tombstone_head,
    pieces_of,
)
from sos.stores.engines.redis.scripts import CHANGE, DELETED, PIECE
from sos.stores.engines.redis.trust import StoreMark
from sos.stores.record import Damaged, Record, joined, tombstone

#: Seconds after its last piece for which Redis keeps an uncommitted body.
UPLOAD_SECONDS = 60 * 60
#: Seconds for which reads in flight can still use the body of a dropped blob.
GRACE_SECONDS = 60
# Attempts at a change while others keep changing the same blob.
_TRIES = 100

_log = Logger()


@define
class Blobs:
    """The blobs whose keys begin with a prefix.

    :param name: the name of the store, for the log.
    :ivar mark: the mark of the store; None before it is open.
    """

    pool: Pool
    prefix: str
    name: str
    mark: StoreMark | None = None

    def key(self, kind: str) -> str:
        """Return a key outside of :attr:`places`, by its name after the prefix, as ``ids``."""
        return f"{self.prefix}:{kind}"

    @property
    def places(self) -> tuple[str, str]:
        """The prefixes of the keys of blobs and of the keys of bodies."""
        return f"{self.prefix}:blob:", f"{self.prefix}:body:"

    async def find(self, id: str) -> Held | None:
        """Return the stored blob *id*, or None; quarantine it if its record is missing."""
        try:
            return await self._held(id)
        except Quarantined:
            return None

    async def _held(self, id: str) -> Held | None:
        """Return the same, but raise Quarantined after it was quarantined."""
        asked = self.pool.ask("HMGET", self.places[0] + id, "head", "body", "key", "hashes")
        head, *others = replies.texts_or_none(await asked, 4)
        if head is not None:
            return Held(head, *others)
        listed = await self.pool.ask("ZSCORE", self.key("ids"), ids.sort_key(id))
        if replies.text_or_none(listed) is not None:
            damage = "its record is missing"
            await self.quarantine(id, b"", damage)
            raise Quarantined(id, damage)
        await self.check_there()
        return None

    async def check_there(self) -> None:
        """Raise Unavailable unless Redis still holds the store; it may have been emptied."""
        key, value = self.proof()
        if await self.pool.ask("GET", key) != value:
            raise self.gone()

    def proof(self) -> tuple[str, bytes]:
        """Return key and value of the mark; raises Unavailable before the store is open."""
        if self.mark is None:
            raise Unavailable(f"{self.name} is not open yet")
        return self.mark.key, self.mark.value

    async def record(self, id: str) -> tuple[Held, Record]:
        """Return the stored blob *id* and its record; raises NotFound if missing or damaged."""
        held, record = await self._record(id)
        if held is None or record is None:
            raise missing(id)
        return held, record

    async def _record(self, id: str) -> tuple[Held, Record] | tuple[None, None]:
        """Return the same, but nothing if the blob is missing."""
        held = await self._held(id)
        if held is None:
            return None, None
        try:
            return held, decode(id, held)
        except Damaged as damage:
            await self.quarantine(id, held.head, str(damage))
            raise Quarantined(id, damage) from damage

    async def add(self, new: Record, body: bytes | Pieces) -> Record:
        """Store *new*, and return the record that is stored.

        If the id has a record, both are merged, see :func:`sos.model.merge.join`. *new*
        replaces a damaged copy.

        :param body: the whole body, or its pieces.
        :raises Conflict: if other bytes are stored under the id.
        :raises Deleted: if the object was deleted after it was stored.
        """
        for _ in range(_TRIES):
            if await self._change(new.id, b"", new, body):
                return new
            held = await self.find(new.id)
            if held is None:
                continue
            try:
                record = decode(new.id, held)
                same = not record.is_tombstone and await self._is_same(record, held, new, body)
            except Damaged as damage:
                await self.quarantine(new.id, held.head, str(damage))
                continue
            kept, takes_new = joined(record, new, same)
            unchanged = not takes_new and kept.metadata == record.metadata
            if unchanged or await self._change(
                new.id, held.head, kept, body if takes_new else None
            ):
                return evolve(kept, size=new.size)
        raise _restless(new.id)

    async def reconcile(self, id: str, received: Metadata) -> None:
        """See :class:`sos.interfaces.IReplicaStore`."""
        for _ in range(_TRIES):
            held, record = await self._record(id)
            stored = None if record is None else metadata.decode(record.metadata)
            kept = merge.reconcile(id, stored, received)
            if kept == stored:
                return
            head = b"" if held is None else held.head
            if record is None or is_tombstone(kept):
                done = await self._change(id, head, tombstone(id, kept, time.time()), b"")
            else:
                reconciled = evolve(record, metadata=metadata.encode(kept))
                done = await self._change(id, head, reconciled)
            if done:
                return
        raise _restless(id)

    async def deleted(self, found: Sequence[str]) -> set[str]:
        """Return the ids in *found* that are those of deleted objects."""
        heads = replies.pairs(
            await self.pool.run(DELETED, [self.key("deleted")], (self.places[0], *found))
        )
        # Earlier versions do not remove an id from the set when they store the blob.
        return {
            id.decode("ascii") for id, head in heads if is_tombstone_head(id.decode("ascii"), head)
        }

    async def add_hashes(self, id: str, held: Held, hashes: bytes) -> None:
        """Store the *hashes* of the pieces of a verified body, if that is possible."""
        assert held.key is not None
        pieces = Pieces(held.key.decode("latin-1"), hashes)
        with suppress(SOSError):
            await self._apply(id, held.head, "settle", held.head, pieces)

    async def drop(self, id: str, token: str, known: BlobDigest | None) -> None:
        """See :class:`sos.interfaces.IReplicaStore`."""
        for _ in range(_TRIES):
            held = await self.find(id)
            head, how = b"", "drop"
            if held is not None:
                head = held.head
                try:
                    decode(id, held)
                    check_held(id, blob_digest(id, held.head), known)
                except Damaged:
                    how = "aside"  # a damaged head does not say what to subtract from the digests
            if await self._apply(id, head, how, token=token):
                return
        raise _restless(id)

    async def quarantine(self, id: str, head: bytes, reason: str) -> None:
        """Quarantine a damaged blob under another key; from then on it is missing.

        :param head: the damaged head; a blob that has another head by now stays.
        """
        _log.error(
            "quarantining a damaged blob, store={store}, id={id}: {reason}",
            store=self.name,
            id=id,
            reason=reason,
        )
        try:
            await self._apply(id, head, "aside", reason=reason)
        except SOSError as error:
            raise Unavailable(f"blob {id} is damaged and cannot be quarantined: {error}") from error

    async def piece(self, key: str, number: int) -> bytes | None:
        """Return a piece of the body at *key*; None if it is missing."""
        return replies.text_or_none(await self.pool.ask("HGET", self.places[1] + key, number))

    async def add_piece(self, key: str, number: int, piece: bytes) -> None:
        """Store the next *piece* of a body in flight; raises Unavailable if others are lost."""
        arguments = (number, piece, UPLOAD_SECONDS)
        if not replies.number(await self.pool.run(PIECE, (self.places[1] + key,), arguments)):
            raise Unavailable("Redis has lost an earlier part of this body; send it again")

    async def forget_pieces(self, key: str) -> None:
        """Remove the body at *key*, to which no record refers."""
        await self.pool.ask("UNLINK", self.places[1] + key)

    async def has_pieces(self, key: str, size: int) -> bool:
        """Return whether the body at *key* has as many pieces as one of *size* bytes."""
        return replies.number(await self.pool.ask("HLEN", self.places[1] + key)) == pieces_of(size)

    async def _is_same(self, record: Record, held: Held, new: Record, body: bytes | Pieces) -> bool:
        """Verify the stored body of *record*, and return whether *new* has the same body.

        :param body: of *new*, as for :meth:`add`.
        :raises Damaged: if the stored body does not match *record*.
        """
        if held.key is None:
            record.verify_inline()
            return record.body == body
        same = isinstance(body, Pieces) and record.size == new.size
        digest = BodyDigest(record.id)
        for number in range(pieces_of(record.size)):
            piece = await self.piece(held.key.decode("latin-1"), number) or b""
            digest.update(piece)
            if same and isinstance(body, Pieces):
                received = await self.piece(body.key, number)
                if received is None:
                    raise _lost()
                same = piece == received
        check_body(digest, record)
        return same

    async def _change(
        self, id: str, expected: bytes, new: Record, body: bytes | Pieces | None = None
    ) -> bool:
        """Replace the *expected* head by *new*; return False if the stored head is another."""
        how = "settle" if body is None else "pieces" if isinstance(body, Pieces) else "inline"
        return await self._apply(
            id,
            expected,
            how,
            encode_head(new),
            body or b"",
            new.size,
            tombstone_head=new.is_tombstone,
        )

    async def _apply(
        self,
        id: str,
        expected: bytes,
        how: str,
        head: bytes = b"",
        body: bytes | Pieces = b"",
        size: int = 0,
        token: str = "",
        reason: str = "",
        tombstone_head: bool = False,
    ) -> bool:
        blobs, bodies = self.places
        aside = f"{self.key('aside')}:{id}:{time.time_ns()}"
        key, there = self.proof()
        names = ("ids", "digests", "lease", "deleted")
        keys = [key, *map(self.key, names), blobs + id, aside]
        stored, hashes = (body.key, body.sealed) if isinstance(body, Pieces) else (body, b"")
        arguments: tuple[Any, ...] = (there, token, expected, how, head, stored, pieces_of(size))
        arguments += (ids.sort_key(id), blobs, bodies, GRACE_SECONDS, reason, hashes)
        arguments += ("1" if tombstone_head else "",)
        answer = replies.text(await self.pool.run(CHANGE, keys, arguments))
        if answer == b"gone":
            raise self.gone()
        if answer == b"lease":
            raise Conflict("the lease is invalid or has expired")
        if answer == b"lost":
            raise _lost()
        if answer not in (b"done", b"held"):
            raise Unavailable("Redis gave an unexpected answer to a change; it may have been made")
        return answer == b"done"

    def gone(self) -> Unavailable:
        """Return the error for a Redis that no longer holds the store."""
        return Unavailable(
            f"{self.name} no longer holds the store: it was emptied, or holds another store"
        )


def _restless(id: str) -> Unavailable:
    return Unavailable(f"other processes keep changing {id}; try again")


def missing(id: str) -> NotFound:
    """Return the error for a blob *id* that does not exist."""
    return NotFound(f"there is no blob {id}")


def _lost() -> Unavailable:
    return Unavailable("Redis has lost a part of this body; send it again")


def check_body(digest: BodyDigest, record: Record) -> None:
    """Raise Damaged unless the body that *digest* has seen matches *record*."""
    if digest.size != record.size or digest.value() != record.hash:
        raise Damaged("the body does not match its hash")
