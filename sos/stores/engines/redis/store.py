"""A store that keeps its blobs in a Redis."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from sos.aio.shield import Underway
from sos.errors import (
    Conflict,
    InvalidId,
    NoSpace,
    Quarantined,
    ReadOnly,
    SOSError,
    StoreUnusable,
    Unavailable,
)
from sos.interfaces import SMALL_BODY, Blob, BlobInfo, IBlobWriter, IEngineStore, Span, StoreStatus
from sos.model import ids
from sos.model.digest import BlobDigest, PartitionDigest, body_digest
from sos.model.lease import MAX_SECONDS
from sos.model.metadata import EMPTY, Metadata
from sos.stores.engines.redis import replies
from sos.stores.engines.redis.address import StoreAddress
from sos.stores.engines.redis.blobs import Blobs
from sos.stores.engines.redis.connection import RedisConnection, connect
from sos.stores.engines.redis.pool import Pool
from sos.stores.engines.redis.reading import stored_pieces
from sos.stores.engines.redis.record import blob_digest
from sos.stores.engines.redis.scripts import HEADS, LEASE, PROLONG, RELEASE, TOUCH
from sos.stores.engines.redis.state import room
from sos.stores.engines.redis.trust import check_settings, check_store, open_store
from sos.stores.engines.redis.writer import RedisWriter
from sos.stores.record import Damaged
from sos.transfer import cut

# Most ids that one request lists: Redis does nothing else meanwhile.
_PAGE = 10_000

_log = Logger()


@implementer(IEngineStore)
class RedisStore:
    """A store whose blobs are in a Redis.

    Each new connection first checks the settings of the Redis, and that it holds this store:
    Redis may have been restarted meanwhile.

    :param algorithm: the hash of new content ids.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        address: StoreAddress,
        reactor: Any,
        algorithm: str = ids.DEFAULT_ALGORITHM,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = str(address)
        self._address = address
        self._reactor = reactor
        self._algorithm = algorithm
        self._now = now
        self._pool = Pool(self.name, self._trusted, reactor)
        self._blobs = Blobs(self._pool, address.prefix, self.name)
        self._digests: tuple[Mapping[bytes, bytes], Mapping[str, PartitionDigest]] = {}, {}
        self._underway = Underway()

    @property
    def identity(self) -> str | None:
        return None if self._blobs.mark is None else self._blobs.mark.identity

    async def open(self, require: bool = False) -> None:
        if not self._address.durable:
            _log.warn(
                "a crash can lose acknowledged blobs, store={store}: durability=relaxed",
                store=self.name,
            )
        opening = Pool(self.name, self._checked, self._reactor)
        try:
            self._blobs.mark = await opening.with_connection(
                lambda connection: open_store(connection, self._address, require)
            )
        except (StoreUnusable, Unavailable):
            raise
        except SOSError as error:
            raise Unavailable(f"{self.name} cannot be opened: {error}") from error
        finally:
            opening.close()

    async def close(self) -> None:
        await self._underway.finish()
        self._pool.close()

    async def _checked(self) -> RedisConnection:
        """Connect, and check that the settings keep acknowledged writes."""
        connection = await connect(self._address, self._reactor)
        try:
            await check_settings(connection, self._address)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _trusted(self) -> RedisConnection:
        """Connect, check the settings, and check that the Redis holds this store."""
        mark = self._blobs.mark
        if mark is None:
            raise Unavailable(f"{self.name} is not open yet")
        try:
            connection = await self._checked()
            try:
                await check_store(connection, self._address, mark)
            except BaseException:
                connection.close()
                raise
        except StoreUnusable as error:
            raise Unavailable(str(error)) from error
        return connection

    async def stat(self, id: str) -> BlobInfo:
        _, record = await self._blobs.record(id)
        return record.live_info()

    async def read(self, id: str, span: Span | None = None) -> Blob:
        held, record = await self._blobs.record(id)
        try:
            info = record.live_info()
            if held.key is None:
                record.verify_inline()
                assert record.body is not None
                body = record.body if span is None else record.body[slice(*span)]
                return Blob(info, body if len(body) <= SMALL_BODY else cut(body))
            if not await self._blobs.has_pieces(held.key.decode("latin-1"), record.size):
                raise Damaged("pieces of the body are missing")
        except Damaged as damage:
            await self._blobs.quarantine(id, held.head, str(damage))
            raise Quarantined(id, damage) from damage
        return Blob(info, stored_pieces(self._blobs, held, record, span))

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        digest = body_digest(id, metadata, self._algorithm, size)
        return RedisWriter(self._blobs, metadata, digest, self._now, self._underway)

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        begin = "-" if partition is None else f"[{partition}"
        if after is not None and ids.sort_key(after) >= (partition or ""):
            begin = f"({ids.sort_key(after)}"
        end = b"+" if partition is None else b"(" + partition.encode("ascii") + b"\xff"
        found: list[str] = []
        last = b"" if after is None else ids.sort_key(after).encode("ascii")
        while limit is None or len(found) < limit:
            count = _PAGE if limit is None else min(_PAGE, limit - len(found))
            command = ("ZRANGEBYLEX", self._blobs.key("ids"), begin, end, "LIMIT", 0, count)
            page = replies.texts(await self._pool.ask(*command))
            listed = [_listed(member) for member in page]
            # Nothing else checks the order, and the next page begins behind the last id.
            if any(key <= before for before, key in pairwise([last, *page])):
                raise Unavailable(f"{self.name} sent a listing that is out of order")
            gone = await self._blobs.deleted(listed)
            found += [id for id in listed if id not in gone]
            if len(page) < count:
                break
            last = page[-1]
            begin = f"({last.decode('ascii')}"
        if not found:
            await self._blobs.check_there()
        return found

    async def digests(self) -> Mapping[str, PartitionDigest]:
        row = replies.pairs(await self._pool.ask("HGETALL", self._blobs.key("digests")))
        if not row:
            await self._blobs.check_there()
        fields = dict(row)
        if fields != self._digests[0]:
            try:
                self._digests = fields, _digests(fields)
            except (ValueError, KeyError, InvalidId):
                raise Unavailable(f"{self.name} sent invalid digests") from None
        return self._digests[1]

    async def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        key, there = self._blobs.proof()
        keys = [key, self._blobs.key("ids")]
        answer = await self._pool.run(HEADS, keys, (there, partition, self._blobs.places[0]))
        if answer == b"gone":
            raise self._blobs.gone()
        found = {}
        for name, head in replies.pairs(answer):
            id = _listed(partition.encode("ascii") + name)
            try:
                found[id] = blob_digest(id, head)
            except Damaged:
                continue  # the next read quarantines it
        return found

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        await self._underway.to_its_end(self._blobs.reconcile(id, metadata))

    async def lease(self, seconds: float, token: str | None = None) -> str:
        script = LEASE if token is None else PROLONG
        token = token or secrets.token_hex(16)
        milliseconds = max(1, round(min(seconds, MAX_SECONDS) * 1000))
        key, there = self._blobs.proof()
        keys = [key, self._blobs.key("lease")]
        answer = await self._pool.run(script, keys, (there, token, milliseconds))
        if answer == b"gone":
            raise self._blobs.gone()
        if answer == b"lease":
            raise Conflict("the lease is invalid or has expired")
        if answer != b"done":
            left = replies.number(answer) / 1000
            raise Conflict(f"another process holds the lease, for at most {left:.0f} s")
        return token

    async def release(self, token: str) -> None:
        await self._pool.run(RELEASE, [self._blobs.key("lease")], (token,))

    async def drop(self, id: str, token: str, known: BlobDigest | None = None) -> None:
        await self._underway.to_its_end(self._blobs.drop(id, token, known))

    async def status(self) -> StoreStatus:
        digests = (await self.digests()).values()
        try:
            await self._pool.with_connection(
                lambda connection: check_settings(connection, self._address)
            )
        except StoreUnusable as error:
            self._pool.hang_up()  # each new connection checks the settings before it is used
            raise Unavailable(str(error)) from error
        capacity, free = room(replies.text(await self._pool.ask("INFO", "memory")))
        blobs, size = sum(each.count for each in digests), sum(each.bytes for each in digests)
        reason = await self._refusal()
        return StoreStatus(reason is None, reason, blobs, size, capacity, free, tombstones=True)

    async def _refusal(self) -> str | None:
        """Try to write; return why Redis refuses, or None."""
        key, there = self._blobs.proof()
        try:
            if await self._pool.run(TOUCH, [key], (there,)) != b"done":
                raise self._blobs.gone()
        except (NoSpace, ReadOnly) as error:
            return str(error)
        return None


def _listed(member: bytes) -> str:
    """Return the id in *member*, an entry of the sorted set of ids; raises Unavailable."""
    try:
        id = ids.check(member[3:].decode("ascii"))
        if ids.sort_key(id).encode("ascii") == member:
            return id
    except (UnicodeDecodeError, InvalidId):
        pass
    raise Unavailable(f"Redis lists an invalid id: {member!r:.100}")


def _digests(fields: Mapping[bytes, bytes]) -> dict[str, PartitionDigest]:
    found = {}
    for name in fields:
        partition, _, kind = name.partition(b":")
        if kind == b"count":
            count, bytes = int(fields[name]), int(fields[partition + b":bytes"])
            sum = fields[partition + b":sum"]
            if min(count, bytes) < 0 or len(sum) > 16:
                raise ValueError
            known = ids.check_partition(partition.decode("ascii"))
            found[known] = PartitionDigest(count, bytes, int.from_bytes(sum, "big"))
    return found
