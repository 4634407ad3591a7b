"""A store that keeps its blobs in tables of PostgreSQL."""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from sos.aio.shield import Underway
from sos.errors import Quarantined, StoreUnusable, Unavailable
from sos.interfaces import Blob, BlobInfo, IBlobWriter, IEngineStore, Span, StoreStatus
from sos.model import ids
from sos.model.digest import BlobDigest, PartitionDigest, body_digest
from sos.model.metadata import EMPTY, Metadata
from sos.stores.engines.postgres.adder import Adder
from sos.stores.engines.postgres.address import Address
from sos.stores.engines.postgres.blobs import Blobs
from sos.stores.engines.postgres.bodies import Bodies
from sos.stores.engines.postgres.changes import Changes
from sos.stores.engines.postgres.committer import Committer
from sos.stores.engines.postgres.connections import Connections
from sos.stores.engines.postgres.digests import Digests
from sos.stores.engines.postgres.garbage_collector import GarbageCollector
from sos.stores.engines.postgres.probe import probe
from sos.stores.engines.postgres.reader import Reader
from sos.stores.engines.postgres.record import Damaged
from sos.stores.engines.postgres.schema import Tables
from sos.stores.engines.postgres.session import Session, one, weakness
from sos.stores.engines.postgres.writer import PostgresWriter

# Most ids that one query lists.
_PAGE = 10_000

_log = Logger()


@implementer(IEngineStore)
class PostgresStore:
    """A store whose blobs are in tables of PostgreSQL. Open it before use.

    :param algorithm: the hash of new content ids.
    """

    def __init__(
        self, address: Address, reactor: Any, algorithm: str = ids.DEFAULT_ALGORITHM
    ) -> None:
        self.name = address.name
        self.identity: str | None = None
        self._address = address
        self._algorithm = algorithm
        self._tables = Tables(address.table)
        self._digests = Digests(self._tables)
        self._blobs = Blobs(self._tables, self._digests)
        self._bodies = Bodies(self._tables)
        self._changes = Changes(self._blobs)
        self._connections = Connections(address, reactor)
        self._underway = Underway()
        self._garbage_collector = GarbageCollector(
            self._bodies, self._connections, self._underway, reactor
        )
        self._reader = Reader(
            self._blobs,
            self._bodies,
            self._changes,
            self._connections,
            self._underway,
            self._garbage_collector.used,
        )
        committer = Committer(self._blobs, self._connections, reactor)
        self._adder = Adder(self._blobs, self._bodies, committer, self._connections, self._reader)

    async def open(self, require: bool = False) -> None:
        await self._connections.start(partial(self._prepare, require), self._recognise)
        self._garbage_collector.start()

    def _prepare(self, require: bool, session: Session) -> None:
        if session.weakness is not None:
            if not self._address.relaxed:
                raise StoreUnusable(
                    f"{self.name}: {session.weakness}, so a crash can lose acknowledged blobs; "
                    "change the setting, or accept the risk with ?durability=relaxed"
                )
            _log.warn(
                "a crash can lose acknowledged blobs, store={store}: {weakness}",
                store=self.name,
                weakness=session.weakness,
            )
        try:
            self.identity = self._tables.prepare(session, self.name, require)
            probe(session, self._adder.blobs, self._bodies)
        except (StoreUnusable, Unavailable) as error:
            raise type(error)(f"{self.name}: {error}") from error

    def _recognise(self, session: Session) -> None:
        """Raise Unavailable if *session* leads to another store than the one opened."""
        try:
            known = self.identity is None or self._tables.identity(session) == self.identity
            reason = f"expected id={self.identity}"
        except StoreUnusable as error:
            known, reason = False, str(error)
        if not known:
            raise Unavailable(f"{self.name} no longer contains the store that was opened: {reason}")

    async def close(self) -> None:
        self._garbage_collector.stop()
        await self._underway.finish()
        await self._connections.stop()

    async def stat(self, id: str) -> BlobInfo:
        return await self._reader.info(id)

    async def read(self, id: str, span: Span | None = None) -> Blob:
        return (await self._reader.open(id, span))[1]

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        digest = body_digest(id, metadata, self._algorithm, size)
        return PostgresWriter(
            digest, metadata, self._adder, self._bodies, self._garbage_collector, self._underway
        )

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        found: list[str] = []
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = await self._connections.run(self._blobs.page, after, size, partition)
            found += page
            if len(page) < size:
                break
            after = page[-1]
        return found

    async def digests(self) -> dict[str, PartitionDigest]:
        return await self._connections.run(self._digests.all)

    async def blob_digests(self, partition: str) -> dict[str, BlobDigest]:
        return await self._connections.run(self._blobs.blob_digests, partition)

    async def reconcile(self, id: str, metadata: Metadata) -> None:
        try:
            await self._connections.change(self._changes.reconcile, id, metadata)
        except Damaged as damage:
            await self._reader.quarantine(damage)
            raise Quarantined(id, damage) from damage

    async def lease(self, seconds: float, token: str | None = None) -> str:
        return await self._connections.change(self._changes.lease, seconds, token)

    async def release(self, token: str) -> None:
        await self._connections.change(self._changes.release, token)

    async def drop(self, id: str, token: str, known: BlobDigest | None = None) -> None:
        try:
            await self._connections.change(self._changes.drop, id, token, known)
        except Damaged as damage:
            await self._reader.quarantine(damage)

    async def status(self) -> StoreStatus:
        return await self._connections.run(self._status)

    def _status(self, session: Session) -> StoreStatus:
        blobs, size = self._digests.total(session)
        asked = "SELECT current_setting('transaction_read_only')"
        read_only = one(session.rows(asked, None, str))
        reason = None if self._address.relaxed else weakness(session)
        if read_only == ("on",):
            reason = "the server is read-only, or a standby"
        return StoreStatus(reason is None, reason, blobs, size, tombstones=True)
