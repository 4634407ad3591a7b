"""Servers that fail are left alone for a while."""

from __future__ import annotations

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import NoSpace, Unavailable
from sos.stores.memory import MemoryStore
from sos.stores.replicated.peer import FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS
from tests.support.blobs import content_id, put
from tests.support.replicas import Recovering, a_with, body_for, grouped, replicated


class TestAServerThatFails:
    @ensureDeferred
    async def test_it_is_left_alone_until_it_answers(self, reactor):
        """It is asked for its status after one second, two, four; and for blobs after that."""
        clock = Clock()
        bad, good = Recovering("bad"), MemoryStore("good")
        body, id = body_for(bad, good)
        await put(good, body)
        store = replicated(reactor, [bad, good], clock=clock)
        for _ in range(5):
            await store.read(id)
        assert bad.asked == 1
        clock.advance(FIRST_BACKOFF_SECONDS)
        await store.read(id)
        assert bad.asked == 1
        bad.well = True
        clock.advance(2 * FIRST_BACKOFF_SECONDS)
        await store.read(id)
        assert bad.asked == 2
        assert clock.getDelayedCalls() == []

    @ensureDeferred
    async def test_for_a_minute_at_most(self, reactor):
        """However often it has failed."""
        clock = Clock()
        bad = Recovering("bad")
        store = replicated(reactor, [bad], clock=clock)
        with pytest.raises(Unavailable):
            await store.read("abc")
        for _ in range(20):
            clock.advance(LONGEST_BACKOFF_SECONDS)
        (due,) = clock.getDelayedCalls()
        assert due.getTime() - clock.seconds() <= LONGEST_BACKOFF_SECONDS
        store.stop()
        assert clock.getDelayedCalls() == []

    @ensureDeferred
    async def test_a_full_one_is_read_from(self, reactor):
        """And written to again when it says that it has room."""
        clock = Clock()

        class Full(MemoryStore):
            full = True

            def writer(self, id=None, metadata=None, size=None):
                if self.full:
                    raise NoSpace("full")
                return super().writer(id, metadata or {}, size)

            async def status(self):
                return evolve(await super().status(), writable=not self.full)

        full, other = Full("full"), MemoryStore("other")
        body, id = body_for(full, other)
        store = replicated(reactor, [full, other], clock=clock)
        await put(store, body)
        assert id in other.blobs
        a_with(full, b"read me")
        await store.read(content_id(b"read me"))
        full.full = False
        clock.advance(LONGEST_BACKOFF_SECONDS)
        more, its_id = body_for(full, other)
        await put(store, more)
        assert its_id in full.blobs

    @ensureDeferred
    async def test_one_that_is_configured_away_is_asked_no_more(self, reactor):
        """Though what it was asked before fails only then."""
        clock = Clock()
        gone = Silent("gone")
        store = replicated(reactor, [gone], clock=clock)
        waiting = deferred(store.read("abc"))
        store.configure(grouped([MemoryStore("new")]))
        gone.fail()
        with pytest.raises(Unavailable):
            await waiting
        clock.pump([FIRST_BACKOFF_SECONDS] * 3)
        assert len(gone.waiting) == 1
        assert clock.getDelayedCalls() == []

    @ensureDeferred
    async def test_one_that_is_silent_is_waited_for_once(self, reactor):
        """As long as its store does; after that for a second, when it is the last to ask."""
        clock = Clock()
        silent = Silent("silent")
        store = replicated(reactor, [silent, MemoryStore("other")], clock=clock)
        first = deferred(store.read("abc"))
        clock.pump([0.5] * 18)
        assert not first.called
        silent.fail()
        with pytest.raises(Unavailable):
            await first
        second = deferred(store.read("abc"))
        clock.pump([0.1] * 9)
        assert not second.called
        clock.pump([0.1] * 3)
        with pytest.raises(Unavailable, match="1 of 2"):
            await second
        store.stop()


class Silent(MemoryStore):
    """Does not answer, until it fails."""

    def __init__(self, name):
        super().__init__(name)
        self.waiting = []

    async def read(self, id=None, span=None):
        self.waiting.append(Deferred())
        await self.waiting[-1]

    status = stat = read

    def fail(self):
        for each in self.waiting:
            if not each.called:
                each.errback(Unavailable("it is gone"))
