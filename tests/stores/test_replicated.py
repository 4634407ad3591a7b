"""The replicated store, over stores in memory, stores that fail, and stores that wait."""

from __future__ import annotations

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import Conflict, Mismatch, NoSpace, NotFound, Unavailable
from sos.interfaces import Member
from sos.placement import rank
from sos.stores.background import Background
from sos.stores.lane import threads_of
from sos.stores.memory import MemoryStore
from sos.stores.patience import LEAST_SECONDS, Patience
from sos.stores.peers import FIRST_REST_SECONDS, LONGEST_REST_SECONDS, SLOW_SECONDS
from sos.stores.replicated import Copying, ReplicatedStore
from sos.web.blob import BlobServer
from sos.web.routes import handler
from tests.contract import StoreContract, body_of, content, content_id, put
from tests.doubles import FailingStore
from tests.servers import serving


def grouped(*groups):
    return {
        f"group{n}": tuple(each if isinstance(each, Member) else Member(each) for each in group)
        for n, group in enumerate(groups)
    }


def replicated(reactor, *groups, acknowledged=1, wanted=1, clock=None):
    copying = Copying(acknowledged, wanted)
    return ReplicatedStore(grouped(*groups), threads_of(reactor), clock or reactor, copying=copying)


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


class TestReplicatedStore(StoreContract):
    @pytest.fixture
    def store(self, reactor):
        return replicated(reactor, [MemoryStore("a"), MemoryStore("b")], [MemoryStore("c")])


class TestWhereCopiesGo:
    @ensureDeferred
    async def test_to_the_holders_of_the_partition(self, reactor):
        """As many as are wanted, at once, and to no other."""
        stores = [MemoryStore(name) for name in "abcd"]
        store = replicated(reactor, stores, wanted=2)
        for seed in range(50):
            info = await put(store, body_of(100, seed))
            having = [each for each in stores if info.id in each.blobs]
            assert {each.name for each in having} == {
                each.name for each in first_for(info.id, *stores)[:2]
            }

    @ensureDeferred
    async def test_to_the_next_member_when_one_fails(self, reactor):
        """So that there are as many copies as were wanted."""
        down, b, c = FailingStore("down"), MemoryStore("b"), MemoryStore("c")
        store = replicated(reactor, [down, b, c], wanted=2, acknowledged=2)
        body, id = body_for(down, b, c)
        assert (await put(store, body)).copies == 2
        assert id in b.blobs
        assert id in c.blobs

    @ensureDeferred
    async def test_to_another_group_when_one_fails_as_a_whole(self, reactor):
        """One copy, which that group's replication adds to."""
        a, b, c, d = (
            FailingStore("a"),
            FailingStore("b", NoSpace("full")),
            MemoryStore("c"),
            MemoryStore("d"),
        )
        store = replicated(reactor, [a, b], [c, d], wanted=2)
        infos = [await put(store, body_of(100, seed)) for seed in range(20)]
        assert all(info.id in {**c.blobs, **d.blobs} for info in infos)

    @ensureDeferred
    async def test_groups_share_by_id(self, reactor):
        """Each has about its part of the ids, and a blob is in one of them."""
        a, b = MemoryStore("a"), MemoryStore("b")
        store = replicated(reactor, [a], [b])
        for seed in range(200):
            await put(store, body_of(100, seed))
        assert len(a.blobs) + len(b.blobs) == 200
        assert 70 < len(a.blobs) < 130

    @ensureDeferred
    async def test_never_to_a_readonly_member(self, reactor):
        """It is asked on the way out all the same."""
        old, new = MemoryStore("old"), MemoryStore("new")
        await put(old, b"old")
        store = replicated(reactor, [Member(old, readonly=True), new], wanted=2)
        info = await put(store, b"new")
        assert info.id not in old.blobs
        assert info.id in new.blobs
        for id in (*old.blobs, *new.blobs):
            await store.stat(id)

    @ensureDeferred
    async def test_a_group_that_is_readonly_as_a_whole(self, reactor):
        """Is read from, and refuses when there is no other."""
        old = MemoryStore("old")
        info = await put(old, b"old")
        store = replicated(reactor, [Member(old, readonly=True)])
        assert await content(await store.read(info.id)) == b"old"
        with pytest.raises(Unavailable, match="no server takes blobs"):
            await put(store, b"x")

    @ensureDeferred
    async def test_the_bytes_of_a_name_are_not_split(self, reactor):
        """Another server must not get other bytes under a name that is taken."""
        stores = [MemoryStore(name) for name in "ab"]
        store = replicated(reactor, stores, wanted=2)
        await put(store, b"first", "name")
        with pytest.raises(Conflict):
            await put(store, b"second", "name")
        assert all(each.blobs["name"].body == b"first" for each in stores if each.blobs)


class TestAcknowledgement:
    @ensureDeferred
    async def test_one_copy_is_enough_and_the_other_comes_later(self, reactor):
        """One slow server does not hold up what another has completed."""
        slow, fast = Gate("slow"), MemoryStore("fast")
        body, id = body_for(slow, fast)
        store = replicated(reactor, [slow, fast], wanted=2)
        info = await put(store, body)
        assert info.copies == 1
        assert id not in slow.blobs
        slow.open()
        assert id in slow.blobs

    @ensureDeferred
    async def test_as_many_as_were_asked_for(self, reactor):
        """It waits for the slow one, when that is needed."""
        slow, fast = Gate("slow"), MemoryStore("fast")
        body, _ = body_for(slow, fast)
        store = replicated(reactor, [slow, fast], acknowledged=2)
        waiting = deferred(put(store, body))
        assert not waiting.called
        slow.open()
        assert (await waiting).copies == 2

    @ensureDeferred
    async def test_another_takes_the_place_of_one_that_is_too_slow(self, reactor):
        """So that one slow server of three does not hold up two copies."""
        clock = Clock()
        slow, b, c = Gate("slow"), MemoryStore("b"), MemoryStore("c")
        body, id = body_for(slow, b, c)
        store = replicated(reactor, [slow, b, c], acknowledged=2, clock=clock)
        waiting = deferred(put(store, body))
        clock.advance(SLOW_SECONDS / 2)
        assert not c.blobs
        clock.advance(SLOW_SECONDS)
        assert (await waiting).copies == 2
        assert id in c.blobs
        slow.open()
        assert id in slow.blobs
        store.stop()
        clock.advance(0.01)
        assert clock.getDelayedCalls() == []

    @ensureDeferred
    async def test_fewer_than_asked_for_are_a_failure(self, reactor):
        """What could not be promised is not acknowledged."""
        store = replicated(reactor, [MemoryStore("a"), FailingStore("b")], acknowledged=2)
        with pytest.raises(Unavailable, match="1 of 2 copies"):
            await put(store, b"x")

    @pytest.mark.parametrize("size", [10, 300_000])
    @ensureDeferred
    async def test_a_server_that_fails_late_is_passed_over(self, reactor, size):
        """The body is sent again, whole, to the next server."""
        last = MemoryStore("last")
        early, late = FailingStore("early"), FailingStore("late", when="commit")
        store = replicated(reactor, [early, late, last], wanted=2)
        info = await put(store, body_of(size))
        assert await content(await last.read(info.id)) == body_of(size)
        assert await content(await store.read(info.id)) == body_of(size)

    @ensureDeferred
    async def test_no_server_takes_the_blob(self, reactor):
        """All full is one thing, all failing another."""
        full, fuller = (FailingStore(name, NoSpace("full")) for name in "xy")
        with pytest.raises(NoSpace):
            await put(replicated(reactor, [full, fuller], wanted=2), b"x")
        with pytest.raises(Unavailable):
            await put(replicated(reactor, [full, FailingStore("z")], wanted=2), b"x")

    @ensureDeferred
    async def test_who_gives_up_leaves_nothing_under_way(self, reactor):
        """A cancelled upload is sent nowhere any more."""
        a, b = Gate("a"), Gate("b")
        store = replicated(reactor, [a, b], wanted=2)
        waiting = deferred(put(store, b"x"))
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        a.open()
        b.open()
        assert not a.blobs
        assert not b.blobs

    @ensureDeferred
    async def test_what_nobody_waits_for_is_bounded(self, reactor, monkeypatch):
        """Past that the other copy is given up; the replication makes it."""
        monkeypatch.setattr("sos.stores.background._MOST", 3)
        slow, fast = Gate("slow"), MemoryStore("fast")
        store = replicated(reactor, [slow, fast], wanted=2)
        for seed in range(5):
            await put(store, body_of(100, seed))
        assert len(fast.blobs) == 5
        slow.open()
        assert len(slow.blobs) == 3

    @ensureDeferred
    async def test_it_ends_when_the_store_is_stopped(self, reactor):
        """Nothing is begun or finished after that."""
        slow, fast = Gate("slow"), MemoryStore("fast")
        store = replicated(reactor, [slow, fast], wanted=2)
        await put(store, b"x")
        store.stop()
        slow.open()
        assert not slow.blobs


def test_background_counts_bytes_and_pieces():
    """Both are given back when work ends, however it ends."""
    background = Background()
    work = Deferred()
    assert background.admits(256 << 20)
    background.add(252 << 20, work, work.cancel)
    assert background.admits(4 << 20)
    assert not background.admits((4 << 20) + 1)
    work.addErrback(lambda _: None)
    background.stop()
    assert background.admits(256 << 20)


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


def a_with(store, body):
    """Put *body* into the store in memory, whatever gate is before it; return it."""
    held = MemoryStore(store.name)
    deferred(put(held, body))
    store.blobs.update(held.blobs)
    return held


class TestABodyThatBreaksOff:
    """In the middle, because its server goes away."""

    class Breaking(MemoryStore):
        async def read(self, id, span=None):
            blob = await super().read(id, span)
            whole = await content(blob)

            async def broken():
                yield whole[: len(whole) // 2]
                raise Unavailable("it broke off")

            return evolve(blob, body=broken())

    @pytest.mark.parametrize("span", [None, (1000, 290_000)])
    @ensureDeferred
    async def test_it_goes_on_from_another_server(self, reactor, span):
        """The reader sees one whole body."""
        body = body_of(300_000)
        breaking, sound = self.Breaking(), MemoryStore()
        async with (
            serving(handler(BlobServer(breaking).app), reactor) as first,
            serving(handler(BlobServer(sound).app), reactor) as second,
        ):
            await put(breaking, body)
            await put(sound, body)
            store = replicated(reactor, [Member(first, preferred=True), second])
            blob = await store.read(content_id(body), span)
            assert await content(blob) == (body if span is None else body[slice(*span)])
            store.stop()

    @ensureDeferred
    async def test_it_ends_when_there_is_no_other(self, reactor):
        """Short of its end, and that is told."""
        body = body_of(300_000)
        breaking = self.Breaking()
        async with (
            serving(handler(BlobServer(breaking).app), reactor) as first,
            serving(handler(BlobServer(MemoryStore()).app), reactor) as second,
        ):
            await put(breaking, body)
            store = replicated(reactor, [Member(first, preferred=True), second])
            blob = await store.read(content_id(body))
            with pytest.raises(NotFound):
                await content(blob)
            store.stop()

    @ensureDeferred
    async def test_wrong_bytes_before_the_break_are_noticed(self, reactor):
        """Two halves that are each well sent must be halves of the same body."""
        body = body_of(300_000)
        breaking, sound = self.Breaking(), MemoryStore()
        await put(breaking, body)
        await put(sound, body)
        held = breaking.blobs[content_id(body)]
        breaking.blobs[content_id(body)] = evolve(held, body=b"x" + body[1:])
        async with (
            serving(handler(BlobServer(breaking).app), reactor) as first,
            serving(handler(BlobServer(sound).app), reactor) as second,
        ):
            store = replicated(reactor, [Member(first, preferred=True), second])
            blob = await store.read(content_id(body))
            with pytest.raises(Mismatch):
                await content(blob)
            store.stop()


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
        clock.advance(FIRST_REST_SECONDS)
        await store.read(id)
        assert bad.asked == 1
        bad.well = True
        clock.advance(2 * FIRST_REST_SECONDS)
        await store.read(id)
        assert bad.asked == 2
        clock.advance(0.01)
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
            clock.advance(LONGEST_REST_SECONDS)
        (due,) = clock.getDelayedCalls()
        assert due.getTime() - clock.seconds() <= LONGEST_REST_SECONDS
        store.stop()
        clock.advance(0.01)
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
        clock.advance(LONGEST_REST_SECONDS)
        more, its_id = body_for(full, other)
        await put(store, more)
        assert its_id in full.blobs


@ensureDeferred
async def test_other_servers_can_be_configured_while_it_runs(reactor):
    """What is known of those that stay is kept."""
    clock = Clock()
    bad, good, new = Recovering("bad"), MemoryStore("good"), MemoryStore("new")
    store = replicated(reactor, [bad, good], clock=clock)
    with pytest.raises(Unavailable):
        await store.read("abc")
    store.configure(grouped([bad, Member(good, readonly=True), new]))
    info = await put(store, b"x")
    assert list(new.blobs) == [info.id]
    assert bad.asked == 1
    store.configure(grouped([new]))
    clock.advance(0.01)
    assert clock.getDelayedCalls() == []
    with pytest.raises(NotFound):
        await store.read("abc")


def test_patience_follows_what_it_sees():
    """The slowest twentieth is too slow; and only a tenth may be asked for again."""
    patience = Patience()
    for number in range(200):
        patience.observe(0.2 if number % 10 == 0 else 0.001)
    assert patience.next() == 0.2
    for _ in range(1000):
        patience.observe(0.0001)
    assert patience.next() == LEAST_SECONDS
    spent = 0
    for _ in range(1000):
        if patience.next() < SLOW_SECONDS:
            patience.spent()
            spent += 1
    assert spent < 120
