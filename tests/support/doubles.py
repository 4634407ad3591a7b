"""Stores that stand in for servers in trouble."""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from sos.errors import Unavailable
from sos.interfaces import Blob, IBlobWriter, IReplicaStore
from sos.model.metadata import EMPTY, EXPIRES_AT, STORED_AT, ticks
from sos.stores.memory import MemoryStore
from sos.stores.spool import IPlacingStore
from sos.transfer import transfer


@implementer(IReplicaStore)
class FailingStore:
    """Fails with *error*, at once or (``when="commit"``) at the end of an upload."""

    def __init__(self, name="failing", error=None, when="write"):
        self.name = name
        self.error = error or Unavailable(f"{name} is down")
        self.when = when

    async def stat(self, id):
        raise self.error

    async def read(self, id, span=None):
        raise self.error

    def writer(self, id=None, metadata=EMPTY, size=None):
        return _FailingWriter(self)

    async def listing(self, after=None, limit=None, partition=None):
        raise self.error

    async def digests(self):
        raise self.error

    async def blob_digests(self, partition):
        raise self.error

    async def reconcile(self, id, metadata):
        raise self.error

    async def lease(self, seconds, token=None):
        raise self.error

    async def release(self, token):
        raise self.error

    async def drop(self, id, token, known=None):
        raise self.error

    async def status(self):
        raise self.error


@implementer(IBlobWriter)
class _FailingWriter:
    def __init__(self, store):
        self._store = store

    async def write(self, piece):
        if self._store.when == "write":
            raise self._store.error

    async def commit(self):
        raise self._store.error

    def abort(self):
        pass


class BrokenBodyStore(MemoryStore):
    """Breaks off in the middle of every body that it is asked for."""

    async def read(self, id, span=None):
        blob = await super().read(id, span)

        async def broken():
            yield self.blobs[id].body[:1]
            raise Unavailable(f"{self.name} broke off")

        return evolve(blob, body=broken())


@implementer(IPlacingStore)
class PlacingStore(MemoryStore):
    """Takes whole bodies, and tells what it was asked for and what is under way.

    :ivar refused: the errors with which to fail the placing of ids.
    :ivar unreachable: an id of which cannot be told whether it is there.
    :ivar held: while it is a list, placing waits for the Deferreds that it puts there.
    :ivar broken: ids whose bodies break off in the middle, once.
    :ivar asked: what was asked, as method, id, and span.
    :ivar placed: the ids that were to be placed.
    :ivar open: the bodies that are being read.
    """

    def __init__(self):
        super().__init__("placing")
        self.refused = {}
        self.unreachable = None
        self.held = None
        self.broken = set()
        self.asked = []
        self.placed = []
        self.open = set()

    async def place(self, spooled):
        self.placed.append(spooled.id)
        try:
            if self.held is not None:
                waiting = Deferred()
                self.held.append(waiting)
                try:
                    await waiting
                finally:
                    self.held.remove(waiting)
            if spooled.id in self.refused:
                raise self.refused[spooled.id]
            writer = self.writer(spooled.id, spooled.metadata, spooled.size)
            return await transfer(spooled.body(), writer)
        finally:
            spooled.close()

    async def renew(self, id, name=STORED_AT, expires=None):
        expiry = {} if expires is None else {EXPIRES_AT: str(expires)}
        await self.reconcile(id, {name: str(ticks(self.now())), **expiry})
        return 1

    async def stat(self, id):
        self.asked.append(("stat", id))
        if id == self.unreachable:
            raise Unavailable("a server does not answer")
        return await super().stat(id)

    async def read(self, id, span=None):
        self.asked.append(("read", id, span))
        body = self._stored(id).body
        asked = body if span is None else body[slice(*span)]
        return Blob(self.blobs[id].info, _OpenBody(self, id, asked))


class _OpenBody:
    """A body of at least two pieces, unless it is of one byte."""

    def __init__(self, store, id, body):
        self._store = store
        self._pieces = self._read(id, body)
        store.open.add(self)

    async def _read(self, id, body):
        half = (len(body) + 1) // 2
        if half:
            yield body[:half]
        if id in self._store.broken:
            self._store.broken.remove(id)
            raise Unavailable(f"{id} broke off")
        if body[half:]:
            yield body[half:]

    def __aiter__(self):
        return self._pieces

    async def aclose(self):
        await self._pieces.aclose()
        self._store.open.discard(self)
