"""Stores that keep copies for each other, and bodies that belong to them in some order."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred

from sos.aio.threads import threads_of
from sos.errors import NotFound
from sos.interfaces import Member
from sos.model.placement import rank
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from tests.support.blobs import body_of, content_id, put
from tests.support.doubles import FailingStore


def grouped(*groups):
    return {
        f"group{n}": tuple(each if isinstance(each, Member) else Member(each) for each in group)
        for n, group in enumerate(groups)
    }


def replicated(reactor, *groups, acknowledged=1, wanted=1, clock=None, hints=None):
    return ReplicatedStore(
        grouped(*groups),
        threads_of(reactor),
        clock or reactor,
        copy_counts=CopyCounts(acknowledged, wanted),
        hints=hints,
    )


def health_records_of(store: ReplicatedStore):
    """Return what *store* has noted of each of its servers, by their names."""
    return {name: peer.health_record() for name, peer in store._members.peers.items()}


class Gate(MemoryStore):
    """Holds whoever asks for something until it is opened; counts who asks."""

    def __init__(self, name):
        super().__init__(name)
        self.opened = Deferred()
        self.asked = 0

    def open(self):
        self.opened.callback(None)

    async def _pass(self):
        self.asked += 1
        passed = Deferred()
        self.opened.addCallback(lambda _: passed.called or passed.callback(None))
        await passed

    async def read(self, id, span=None):
        await self._pass()
        return await super().read(id, span)

    def writer(self, id=None, metadata=None, size=None):
        writer = super().writer(id, metadata or {}, size)
        commit = writer.commit

        async def held():
            await self._pass()
            return await commit()

        writer.commit = held
        return writer


class Recovering(FailingStore):
    """Answers when it is told to."""

    asked = 0
    well = False

    async def read(self, id, span=None):
        self.asked += 1
        raise NotFound("no") if self.well else self.error

    async def status(self):
        if self.well:
            return await MemoryStore().status()
        raise self.error


def first_for(id, *stores):
    """Order *stores*, of one group, as the placement of *id* does."""
    named = {store.name: store for store in stores}
    return [named[name] for name in rank(dict.fromkeys(named, 1.0), id[:3])]


def body_for(*stores):
    """Return a body that belongs to *stores* in this order, and its id."""
    for seed in range(10_000):
        body = body_of(100, seed)
        if first_for(content_id(body), *stores) == list(stores):
            return body, content_id(body)
    raise AssertionError


def a_with(store, body):
    """Put *body* into the store in memory, whatever gate is before it; return it."""
    held = MemoryStore(store.name)
    deferred(put(held, body))
    store.blobs.update(held.blobs)
    return held
