"""A model of a cluster: servers in memory, and API servers whose requests cross in any order.

Every request to a server, and every answer, waits until the test lets it pass.  So a server can
be cut off, or a client crash, between any two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.collection import Limits, collect
from sos.collection.summary import SILENT
from sos.errors import Deleted, NotFound, Unavailable
from sos.interfaces import Member
from sos.model.expiry import has_expired
from sos.model.merge import times
from sos.model.metadata import EXPIRES_AT, ticks
from sos.model.upload_clock import UploadClock
from sos.replication import Policy, Report, replicate
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from tests.support.blobs import content, put

NOW = 1.79e9
CHUNK = 100
GRACE = 7 * 86_400.0
TOMBSTONE_AGE = 30 * 86_400.0

_WIRED = ("stat", "read", "listing", "digests", "blob_digests", "reconcile", "lease", "release")


def expiry(expires):
    """Return the metadata of an upload that *expires* at a time in seconds, None for never."""
    return {} if expires is None else {EXPIRES_AT: str(ticks(expires))}


class Wire:
    """The messages under way between the API servers and the servers."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []

    async def cross(self) -> None:
        passing: Deferred[None] = Deferred(lambda me: self.waiting.remove(me))
        self.waiting.append(passing)
        await passing

    def let_pass(self, number: int) -> None:
        """Let one of the messages arrive."""
        self.waiting.pop(number % len(self.waiting)).callback(None)


class Remote(MemoryStore):
    """A server at the other end of a wire.

    :ivar away: whether messages to it get lost.
    """

    def __init__(self, name: str, wire: Wire, now: Callable[[], float]) -> None:
        super().__init__(name, now=now, identity=None)
        self.wire = wire
        self.away = False
        for method in (*_WIRED, "drop", "status"):
            setattr(self, method, partial(self._asked, getattr(super(), method)))

    async def _asked(self, method, *arguments, **named):
        await self._cross()
        try:
            return await method(*arguments, **named)
        finally:
            await self._cross()

    async def _cross(self):
        await self.wire.cross()
        if self.away:
            raise Unavailable(f"{self.name} is away")

    def writer(self, id=None, metadata=None, size=None):
        writer = super().writer(id, metadata or {}, size)
        writer.commit = partial(self._asked, writer.commit)
        return writer


class Work:
    """An operation under way, and how it ended."""

    def __init__(self, coroutine, ended) -> None:
        self.done = False
        self._ended = ended
        self.deferred = deferred(coroutine)
        self.deferred.addBoth(self._finish)

    def _finish(self, outcome):
        self.done = True
        self._ended(outcome)

    def crash(self) -> None:
        self.deferred.cancel()


class Cluster:
    """Three servers, and an API server for each of the clock *offsets* in seconds."""

    def __init__(self, offsets, quorum=2, copies=2) -> None:
        self.time = NOW
        self.clock = Clock()
        self.wire = Wire()
        self.servers = [Remote(f"server{n}", self.wire, lambda: self.time) for n in range(3)]
        self.groups = {"group": tuple(map(Member, self.servers))}
        self.copies = copies
        self.doors = []
        self.offsets = offsets
        for offset in offsets:
            now = UploadClock(lambda offset=offset: self.time + offset)
            members = ReplicatedStore(
                self.groups,
                maybeDeferred,
                self.clock,
                copy_counts=CopyCounts(quorum, copies),
                uploads=now,
            )
            store = ChunkedStore(members, CHUNK, maybeDeferred, now=now, renew_after=GRACE / 2)
            self.doors.append((members, store))
        self.works: list[Work] = []

    # Operations.

    def begin(self, coroutine, ended=lambda outcome: None) -> Work:
        """Start an operation; *ended* gets its result or failure."""
        work = Work(coroutine, ended)
        self.works.append(work)
        return work

    def upload(self, door, body, expires=None):
        """Store an object; *expires* is a time in seconds, None for never."""
        return put(self.doors[door][1], body, metadata=expiry(expires))

    async def break_off(self, door, body):
        """Begin an upload, and never end it."""
        writer = self.doors[door][1].writer(size=len(body) + 1)
        await writer.write(body)
        await writer._placing.finish()
        writer.abort()

    def delete(self, door, id):
        return self.doors[door][0].delete(id)

    def renew(self, door, id, expires=None):
        return self.doors[door][0].renew(id, expires=None if expires is None else ticks(expires))

    def replicate(self):
        return replicate(self.groups, Policy(self.copies), self.clock, Report())

    def collect(self, door=0, report=SILENT, dry_run=False):
        def now():
            return self.time + self.offsets[door]

        limits = Limits(GRACE, TOMBSTONE_AGE)
        return collect(self.groups, limits, self.clock, maybeDeferred, now, report, dry_run)

    # The course of events.

    def step(self, number) -> None:
        """Let a message arrive, or time pass if all wait for that."""
        if self.wire.waiting:
            self.wire.let_pass(number)
        else:
            self.wait(1.0)
        self.works = [work for work in self.works if not work.done]

    def wait(self, seconds) -> None:
        self.time += seconds
        self.clock.advance(min(seconds, 200.0))

    def finish(self, at_most=100_000) -> None:
        """Let everything under way end."""
        for _ in range(at_most):
            if not (self.works or self.wire.waiting):
                return
            self.step(0)
        raise AssertionError(f"{len(self.works)} operations do not end")

    def run(self, coroutine):
        """Return the result of an operation that has all to itself; raise its error."""
        found = []
        self.begin(coroutine, found.append)
        self.finish()
        if hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]

    def rest(self) -> None:
        """Bring all servers back, and let replication come to its end."""
        for server in self.servers:
            server.away = False
        self.finish()
        for _ in range(8):
            self.wait(200)
            self.finish()
            if self.run(self.replicate()).idle:
                return
        raise AssertionError("replication does not come to rest")

    def fetch(self, door, id):
        """Return the body of an object, None if there is none; a chunk by itself is none."""

        async def fetched():
            blob = await self.doors[door][1].read(id)
            metadata, now = blob.info.metadata, self.time + self.offsets[door]
            if not times(metadata).is_object or has_expired(metadata, now):
                return None
            return await content(blob)

        try:
            return self.run(fetched())
        except (Deleted, NotFound):
            return None
