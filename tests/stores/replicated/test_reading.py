"""Who is asked for a blob, in which order, and what is made of the answers."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import NotFound, Unavailable
from sos.interfaces import Member
from sos.stores.memory import MemoryStore
from sos.stores.replicated.hedge_delay import LEAST_SECONDS
from sos.stores.replicated.peer import SLOW_SECONDS
from tests.support.blobs import content, put
from tests.support.doubles import FailingStore
from tests.support.replicas import Gate, a_with, body_for, replicated


class TestReading:
    @ensureDeferred
    async def test_the_first_holder_is_asked_alone(self, reactor):
        """One question for one blob."""
        a, b = Gate("a"), Gate("b")
        body, id = body_for(a, b)
        a_with(a, body)
        a.open()
        store = replicated(reactor, [a, b])
        assert await content(await store.read(id)) == body
        assert (a.asked, b.asked) == (1, 0)

    @ensureDeferred
    async def test_a_preferred_member_comes_first(self, reactor):
        """Whatever the placement says."""
        a, b = Gate("a"), Gate("b")
        body, id = body_for(a, b)
        a_with(a, body), a_with(b, body)
        b.open()
        store = replicated(reactor, [a, Member(b, preferred=True)])
        assert await content(await store.read(id)) == body
        assert (a.asked, b.asked) == (0, 1)

    @ensureDeferred
    async def test_not_found_takes_every_servers_word(self, reactor):
        """While one server does not answer, what no other has is not known to be missing."""
        store = replicated(reactor, [MemoryStore("a"), MemoryStore("b")], [MemoryStore("c")])
        with pytest.raises(NotFound):
            await store.read("abc")
        store = replicated(reactor, [MemoryStore("a")], [FailingStore("down"), MemoryStore("b")])
        for _ in range(3):  # also once it is being left alone
            with pytest.raises(Unavailable, match="1 of 3"):
                await store.read("abc")
            with pytest.raises(Unavailable):
                await store.stat("abc")

    @ensureDeferred
    async def test_other_groups_are_asked_together_after_a_miss(self, reactor):
        """One slow group does not keep another from answering."""
        first, slow, having = MemoryStore("first"), Gate("slow"), MemoryStore("having")
        info = await put(having, b"x")
        store = replicated(reactor, [first], [slow], [having])
        assert await content(await store.read(info.id)) == b"x"

    @ensureDeferred
    async def test_a_slow_answer_is_asked_for_elsewhere(self, reactor):
        """After a while; and who answers first is taken, the other let go."""
        clock = Clock()
        slow, other = Gate("slow"), MemoryStore("other")
        body, id = body_for(slow, other)
        a_with(slow, body), a_with(other, body)
        store = replicated(reactor, [slow, other], clock=clock)
        waiting = deferred(store.read(id))
        clock.advance(LEAST_SECONDS / 2)
        assert not waiting.called
        clock.advance(SLOW_SECONDS / 2)
        assert await content(await waiting) == body
        clock.advance(0.01)
        assert clock.getDelayedCalls() == []

    @ensureDeferred
    async def test_a_server_that_does_not_answer_is_not_waited_for_again(self, reactor):
        """After a second it counts as one that fails."""
        clock = Clock()
        frozen, frozen2, other = Gate("frozen"), Gate("frozen2"), MemoryStore("other")
        body, id = body_for(frozen, frozen2, other)
        a_with(other, body)
        store = replicated(reactor, [frozen, frozen2, other], clock=clock)
        waiting = deferred(store.read(id))
        clock.advance(SLOW_SECONDS / 2)
        assert not waiting.called
        clock.advance(SLOW_SECONDS / 2)
        await waiting
        await store.read(id)
        assert (frozen.asked, frozen2.asked) == (1, 1)
        store.stop()

    @ensureDeferred
    async def test_a_blob_found_elsewhere_is_remembered(self, reactor):
        """So that the next one who asks need not search."""
        a, b = Gate("a"), Gate("b")
        body, id = body_for(a, b)
        a_with(b, body)
        a.open()
        b.open()
        store = replicated(reactor, [Member(a, readonly=True), Member(b, readonly=True)])
        await store.read(id)
        asked = a.asked, b.asked
        await store.read(id)
        assert (a.asked, b.asked) == (asked[0], asked[1] + 1)

    @ensureDeferred
    async def test_a_holder_that_lacks_a_blob_is_given_it(self, reactor):
        """One of its own group: groups never copy from each other."""
        a, b, c = MemoryStore("a"), MemoryStore("b"), MemoryStore("c")
        body, id = body_for(a, b, c)
        await put(c, body, metadata={"X-Tag": "kept"})
        store = replicated(reactor, [a, b, c], wanted=2)
        await store.read(id)
        assert a.blobs[id].body == b.blobs[id].body == body
        assert a.blobs[id].info.metadata == {"X-Tag": "kept"}
        d, e = MemoryStore("d"), MemoryStore("e")
        await put(e, body)
        await replicated(reactor, [d], [e]).read(id)
        assert d.blobs == {}

    @ensureDeferred
    async def test_a_search_that_is_given_up_ends(self, reactor):
        """Nobody goes on asking."""
        a, b = Gate("a"), Gate("b")
        clock = Clock()
        waiting = deferred(replicated(reactor, [a, b], clock=clock).read("abc"))
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        clock.advance(SLOW_SECONDS)
        assert a.asked + b.asked == 1
        clock.advance(0.01)
        assert clock.getDelayedCalls() == []
