"""What is held in a Redis, blob by blob, and how it changes.

Every decision about an id is made here, from the head that is held; the
change is made there, if that head is still held.  Otherwise the decision is
made again.
"""

from __future__ import annotations

import time
from typing import Any

from attrs import define, evolve
from twisted.logger import Logger

from sos.errors import Conflict, NotFound, SetAside, SOSError, Unavailable
from sos.model import ids, metadata
from sos.model.digest import BlobDigest, BodyDigest, check_held
from sos.model.merge import replaces_body, replaces_metadata
from sos.model.metadata import Metadata
from sos.stores.engines.redis import replies
from sos.stores.engines.redis.pool import Pool
from sos.stores.engines.redis.record import Held, decode, encode_head, pieces_of
from sos.stores.engines.redis.record import told as told_of
from sos.stores.engines.redis.scripts import CHANGE, PIECE
from sos.stores.engines.redis.trust import Mark
from sos.stores.record import Damaged, Record

#: Seconds after the last piece for which a body that is not committed is kept.
UPLOAD_SECONDS = 60 * 60
#: Seconds for which a body that was dropped can still be read by who has begun to.
GRACE_SECONDS = 60
# Times that something else may be held than a moment ago.
_TRIES = 100

_log = Logger()


@define
class Blobs:
    """The blobs behind a prefix.

    :param name: of the store, for the log.
    :ivar mark: of the store, None before it is open.
    """

    pool: Pool
    prefix: str
    name: str
    mark: Mark | None = None

    def key(self, kind: str) -> str:
        """Return the key of what is not a blob's own: ``ids``, ``digests``, ``lease``."""
        return f"{self.prefix}:{kind}"

    @property
    def places(self) -> tuple[str, str]:
        """What the keys of blobs begin with, and what those of bodies do."""
        return f"{self.prefix}:blob:", f"{self.prefix}:body:"

    async def find(self, id: str) -> Held | None:
        """Return what is held of *id*; a trace of what is not all there is removed."""
        try:
            return await self._held(id)
        except SetAside:
            return None

    async def _held(self, id: str) -> Held | None:
        """Return what is held of *id*; raises SetAside when that is not all there."""
        asked = self.pool.ask("HMGET", self.places[0] + id, "head", "body", "key")
        head, body, key = replies.texts_or_none(await asked, 3)
        if head is not None:
            return Held(head, body, key)
        listed = await self.pool.ask("ZSCORE", self.key("ids"), ids.sort_key(id))
        if replies.text_or_none(listed) is not None:
            damage = "its record is missing"
            await self.set_aside(id, b"", damage)
            raise SetAside(id, damage)
        await self.check_there()
        return None

    async def check_there(self) -> None:
        """Raise Unavailable unless the Redis still holds the store: it may have been emptied."""
        key, value = self.proof()
        if await self.pool.ask("GET", key) != value:
            raise self.gone()

    def proof(self) -> tuple[str, bytes]:
        """Return the key of the mark, and what it holds while the store is there."""
        if self.mark is None:
            raise Unavailable(f"{self.name} is not open yet")
        return self.mark.key, self.mark.value

    async def record(self, id: str) -> tuple[Held, Record]:
        """Return what is held of *id*, or raise NotFound, as for what is damaged."""
        held = await self._held(id)
        if held is None:
            raise missing(id)
        try:
            return held, decode(id, held)
        except Damaged as damage:
            await self.set_aside(id, held.head, str(damage))
            raise SetAside(id, damage) from damage

    async def add(self, new: Record, body: bytes | str) -> Record:
        """Store *new*, and return the record that is stored.

        That is the one before it, when its bytes are the same: a damaged copy
        gives way.  The object itself takes the place of
        its manifest, and keeps its metadata; a manifest that is not stored,
        for one of the two is, is told of with the size of *new*.

        :param body: the whole of it, or the key of its pieces.
        :raises Conflict: when other bytes are stored under the id.
        """
        for _ in range(_TRIES):
            if await self._change(new.id, b"", new, body):
                return new
            held = await self.find(new.id)
            if held is None:
                continue
            try:
                record = decode(new.id, held)
                same = await self._is_same(record, held, new, body)
            except Damaged as damage:
                await self.set_aside(new.id, held.head, str(damage))
                continue
            if same:
                return record
            stored, received = metadata.decode(record.metadata), metadata.decode(new.metadata)
            kept = replaces_body(new.id, stored, received)
            if kept is None:
                return evolve(record, size=new.size)
            object = evolve(new, metadata=metadata.encode(kept))
            if await self._change(new.id, held.head, object, body):
                return object
        raise _restless(new.id)

    async def settle(self, id: str, told: Metadata) -> None:
        """See :class:`sos.interfaces.IReplicaStore`."""
        for _ in range(_TRIES):
            held, record = await self.record(id)
            stored = metadata.decode(record.metadata)
            if not replaces_metadata(id, stored, told):
                return
            settled = evolve(record, metadata=metadata.encode(told))
            if await self._change(id, held.head, settled):
                return
        raise _restless(id)

    async def drop(self, id: str, token: str, known: BlobDigest | None) -> None:
        """See :class:`sos.interfaces.IReplicaStore`."""
        for _ in range(_TRIES):
            held = await self.find(id)
            head, how = b"", "drop"
            if held is not None:
                head = held.head
                try:
                    decode(id, held)
                    check_held(id, told_of(id, held.head), known)
                except Damaged:
                    how = "aside"  # its weight is not known
            if await self._apply(id, head, how, token=token):
                return
        raise _restless(id)

    async def set_aside(self, id: str, head: bytes, reason: str) -> None:
        """Keep a damaged blob under another key; it is missing from then on.

        :param head: that was found wanting; if another is held by now, it stays.
        """
        _log.error("{store}: blob {id}: {reason}", store=self.name, id=id, reason=reason)
        try:
            await self._apply(id, head, "aside", reason=reason)
        except SOSError as error:
            raise Unavailable(f"blob {id} is damaged, and stays: {error}") from error

    async def piece(self, key: str, number: int) -> bytes | None:
        """Return a piece of the body at *key*, None when it is not there."""
        return replies.text_or_none(await self.pool.ask("HGET", self.places[1] + key, number))

    async def add_piece(self, key: str, number: int, piece: bytes) -> None:
        """Store the next *piece* of a body that is on its way."""
        arguments = (number, piece, UPLOAD_SECONDS)
        if not replies.number(await self.pool.run(PIECE, (self.places[1] + key,), arguments)):
            raise Unavailable("the Redis has lost what came before of this body; send it again")

    async def forget_pieces(self, key: str) -> None:
        """Remove the body at *key*, of which no record tells."""
        await self.pool.ask("UNLINK", self.places[1] + key)

    async def has_pieces(self, key: str, size: int) -> bool:
        """Tell whether the body at *key* is of as many pieces as one of *size* bytes."""
        return replies.number(await self.pool.ask("HLEN", self.places[1] + key)) == pieces_of(size)

    async def _is_same(self, record: Record, held: Held, new: Record, body: bytes | str) -> bool:
        """Verify the stored body of *record*, and tell whether it is that of *new*.

        :param body: as for :meth:`add`.
        :raises Damaged: unless the stored body is the one that *record* tells of.
        """
        if held.key is None:
            record.verify_inline()
            return record.body == body
        same = isinstance(body, str) and record.size == new.size
        digest = BodyDigest(record.id)
        for number in range(pieces_of(record.size)):
            piece = await self.piece(held.key.decode("latin-1"), number) or b""
            digest.update(piece)
            if same and isinstance(body, str):
                received = await self.piece(body, number)
                if received is None:
                    raise _lost()
                same = piece == received
        check_body(digest, record)
        return same

    async def _change(
        self, id: str, expected: bytes, new: Record, body: bytes | str | None = None
    ) -> bool:
        """Put *new* in the place of the head that is *expected*; False when another is held."""
        how = "settle" if body is None else "pieces" if isinstance(body, str) else "inline"
        return await self._apply(id, expected, how, encode_head(new), body or b"", new.size)

    async def _apply(
        self,
        id: str,
        expected: bytes,
        how: str,
        head: bytes = b"",
        body: bytes | str = b"",
        size: int = 0,
        token: str = "",
        reason: str = "",
    ) -> bool:
        blobs, bodies = self.places
        aside = f"{self.key('aside')}:{id}:{time.time_ns()}"
        key, there = self.proof()
        keys = [key, *map(self.key, ("ids", "digests", "lease")), blobs + id, aside]
        arguments: tuple[Any, ...] = (there, token, expected, how, head, body, pieces_of(size))
        arguments += (ids.sort_key(id), blobs, bodies, GRACE_SECONDS, reason)
        answer = replies.text(await self.pool.run(CHANGE, keys, arguments))
        if answer == b"gone":
            raise self.gone()
        if answer == b"lease":
            raise Conflict("this lease is not valid, or not any more")
        if answer == b"lost":
            raise _lost()
        if answer not in (b"done", b"held"):
            raise Unavailable("the Redis does not tell what has become of a change")
        return answer == b"done"

    def gone(self) -> Unavailable:
        """Return what tells that the store is not there any more."""
        return Unavailable(
            f"{self.name} does not hold the store any more: it was emptied, or holds another"
        )


def _restless(id: str) -> Unavailable:
    return Unavailable(f"what the Redis holds of {id} changes all the time")


def missing(id: str) -> NotFound:
    """Return what tells that there is no blob *id*."""
    return NotFound(f"there is no blob {id}")


def _lost() -> Unavailable:
    return Unavailable("the Redis has lost a part of this body; send it again")


def check_body(digest: BodyDigest, record: Record) -> None:
    """Raise Damaged unless the body that has passed is the one that *record* tells of."""
    if digest.size != record.size or digest.value() != record.hash:
        raise Damaged("the body does not match its hash")
