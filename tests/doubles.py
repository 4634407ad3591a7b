"""Stores that stand in for servers in trouble."""

from __future__ import annotations

from zope.interface import implementer

from sos.errors import Unavailable
from sos.interfaces import IBlobStore, IBlobWriter
from sos.metadata import EMPTY
from sos.stores.memory import MemoryStore


@implementer(IBlobStore)
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
        from attrs import evolve

        blob = await super().read(id, span)

        async def broken():
            yield self.blobs[id].body[:1]
            raise Unavailable(f"{self.name} broke off")

        return evolve(blob, body=broken())
