"""A store made of other stores, which keep copies for each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.logger import Logger
from zope.interface import implementer

from sos import ids
from sos.digest import BodyDigest
from sos.errors import Conflict, NoSpace, NotFound, SOSError, Unavailable
from sos.interfaces import Blob, BlobInfo, Groups, IBlobStore, IBlobWriter, Span, StoreStatus
from sos.metadata import EMPTY, Metadata
from sos.placement import interleaved
from sos.stores.lane import RunInThread
from sos.stores.spool import IPlacingStore, Spooled, SpooledWriter
from sos.transfer import transfer

T = TypeVar("T")

_log = Logger()


@implementer(IPlacingStore)
class ReplicatedStore:
    """Writes to the first member that takes a blob, reads from the first that has it.

    Further copies are the replication's to make.

    :param groups: at least one member in all.
    :param algorithm: the hash of new content ids.
    """

    def __init__(
        self,
        groups: Groups,
        run_in_thread: RunInThread,
        algorithm: str = ids.DEFAULT_ALGORITHM,
    ) -> None:
        self.name = "replicated"
        self._members = interleaved(groups.values())
        self._run_in_thread = run_in_thread
        self._algorithm = algorithm

    async def stat(self, id: str) -> BlobInfo:
        return await self._first(id, lambda member: member.stat(id))

    async def read(self, id: str, span: Span | None = None) -> Blob:
        return await self._first(id, lambda member: member.read(id, span))

    async def _first(self, id: str, ask: Callable[[IBlobStore], Awaitable[T]]) -> T:
        """Return the first good answer of a member.

        NotFound only when every one of them has said so.
        """
        failures = 0
        for member in self._members:
            try:
                return await ask(member.store)
            except NotFound:
                pass
            except SOSError as error:
                _log.warn("asking for {id}: {error}", id=id, error=error)
                failures += 1
        if failures:
            raise Unavailable(
                f"{failures} of {len(self._members)} servers did not answer, and no other has a "
                f"blob {id}"
            )
        raise NotFound(f"there is no blob {id}")

    def writer(
        self, id: str | None = None, metadata: Metadata = EMPTY, size: int | None = None
    ) -> IBlobWriter:
        digest = BodyDigest(id, self._algorithm, size)
        return SpooledWriter(digest, metadata, self.place, self._run_in_thread)

    async def place(self, spooled: Spooled) -> BlobInfo:
        """Store a whole body on the first member that takes it."""
        # What failed where is for the log: who uploads is not to know the servers.
        failures: list[SOSError] = []
        for member in self._members:
            if member.readonly:
                continue
            try:
                writer = member.store.writer(spooled.id, spooled.metadata, spooled.size)
                return await transfer(spooled.body(), writer)
            except Conflict:
                raise
            except SOSError as error:
                _log.warn("storing {id}: {error}", id=spooled.id, error=error)
                failures.append(error)
        if not failures:
            raise Unavailable("no server takes blobs: all are marked readonly")
        if all(isinstance(error, NoSpace) for error in failures):
            raise NoSpace("every server is full")
        raise Unavailable(f"none of {len(failures)} servers took the blob")

    async def listing(
        self, after: str | None = None, limit: int | None = None, partition: str | None = None
    ) -> list[str]:
        found: set[str] = set()
        for member in self._members:
            found.update(await member.store.listing(after, limit, partition))
        return sorted(found, key=ids.sort_key)[:limit]

    async def status(self) -> StoreStatus:
        states = [await member.store.status() for member in self._members]
        writable = any(state.writable for state in states)
        return StoreStatus(writable, None if writable else "no server takes blobs")
