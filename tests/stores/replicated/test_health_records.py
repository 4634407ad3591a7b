"""What a replicated store notes of its servers, and what it tells of them."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import Conflict, NoSpace, NotFound, SOSError, TooLarge, Unavailable
from sos.interfaces import Member, StoreStatus
from sos.monitoring.server_health import LEFT_ALONE, TAKES_NO_BLOBS, UNREACHABLE, UP
from sos.stores.memory import MemoryStore
from sos.stores.replicated.peer import SLOW_SECONDS
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from tests.support.blobs import content_id, put
from tests.support.doubles import FailingStore
from tests.support.replicas import health_records_of


class Slow(MemoryStore):
    """Takes half a second for each answer; its status never comes."""

    def __init__(self, name, clock):
        super().__init__(name)
        self.clock = clock

    async def stat(self, id):
        passed = Deferred()
        self.clock.callLater(0.5, passed.callback, None)
        await passed
        return await super().stat(id)

    async def status(self):
        return await Deferred()


class Status(MemoryStore):
    """Says that it is doing so."""

    def __init__(self, name, status):
        super().__init__(name)
        self.answer = status

    async def status(self):
        return self.answer


@pytest.fixture
def clock():
    return Clock()


def replicated(clock, *members, acknowledged=1):
    group = tuple(each if isinstance(each, Member) else Member(each) for each in members)
    copy_counts = CopyCounts(acknowledged, 2)
    return ReplicatedStore({"default": group}, maybeDeferred, clock, copy_counts=copy_counts)


def result(work, clock, seconds=0.0):
    """Return what *work* comes to within so many seconds."""
    done = deferred(work)
    clock.pump([0.1] * round(seconds * 10))
    outcome = []
    done.addBoth(outcome.append)
    assert outcome, "it waits"
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def test_requests_and_their_times_are_counted(clock):
    """Whether the server has the blob or not; a single one is not asked once more."""
    a = Slow("a", clock)
    store = replicated(clock, a)
    result(put(store, b"x"), clock)
    clock.advance(1)
    for id in (content_id(b"x"), "none"):
        try:
            result(store.stat(id), clock, 0.5 + SLOW_SECONDS)  # which no status is waited for
        except NotFound:
            assert id == "none"
    record = health_records_of(store)["a"]
    assert (record.requests, record.errors, record.last_error) == (3, 0, None)
    assert record.latencies == pytest.approx((0.0, 0.5, 0.5))


def test_what_is_remembered_is_bounded(clock):
    """Of the times the recent ones; of the requests the number of all."""
    store = replicated(clock, MemoryStore("a"))
    for number in range(1000):
        result(put(store, b"%d" % number), clock)
    record = health_records_of(store)["a"]
    assert record.requests == 1000
    assert len(record.latencies) == 256


def test_errors_are_counted_and_the_last_is_told(clock):
    """What kept it from answering, and that it has no room; no answer, no time."""
    for error, left in ((Unavailable("down"), "down"), (NoSpace("full"), None)):
        store = replicated(clock, FailingStore("a", error))
        with pytest.raises(type(error) if left is None else Unavailable):
            result(put(store, b"x"), clock)
        clock.advance(0.25)
        record = health_records_of(store)["a"]
        assert (record.requests, record.errors, record.latencies) == (1, 1, ())
        assert record.last_error == (str(error), 0.25)
        assert record.failure == left
        assert record.refusal == (None if left else "full")
        assert record.asked_again == 0.75
        store.stop()


def test_what_is_an_error_and_what_an_answer(clock):
    """A name that is taken is an answer, a body that is too large for it is none."""
    for error, errors in ((Conflict("taken"), 0), (TooLarge("too large"), 1)):
        store = replicated(clock, FailingStore("a", error))
        with pytest.raises(SOSError):
            result(put(store, b"x", "name"), clock)
        record = health_records_of(store)["a"]
        assert (record.requests, record.errors, len(record.latencies)) == (1, errors, 1 - errors)
        assert record.failure is None


def test_a_server_that_does_not_answer_has_failed_once(clock):
    """However many wait for it."""
    a = Slow("a", clock)
    a.stat = lambda id: _forever()
    store = replicated(clock, a, MemoryStore("b"))
    for _ in range(5):
        deferred(store.stat("none")).addErrback(lambda _: None)
    clock.pump([SLOW_SECONDS / 2] * 3)
    record = health_records_of(store)["a"]
    assert (record.errors, record.failure) == (1, "it did not answer in time")
    store.stop()


async def _forever():
    await Deferred()


def test_a_survey_waits_for_nobody_for_long(clock):
    """Who does not say how it is doing is unreachable; the others are asked meanwhile."""
    store = replicated(clock, Slow("slow", clock), FailingStore("down"), MemoryStore("well"))
    found = []
    deferred(store.survey()).addCallback(found.append)
    assert found == []
    clock.advance(SLOW_SECONDS)
    (servers,) = found[0].values()
    assert [(each.url, each.state) for each in servers] == [
        ("slow", UNREACHABLE),
        ("down", UNREACHABLE),
        ("well", UP),
    ]
    assert [each.reason for each in servers] == [
        "slow did not answer in 1 s",
        "down is down",
        None,
    ]
    assert clock.getDelayedCalls() == []


def test_a_survey_that_nobody_waits_for_any_more(clock):
    """It ends, and with it what servers were asked."""
    store = replicated(clock, Slow("slow", clock), Slow("as slow", clock), MemoryStore("well"))
    outcome = []
    survey = deferred(store.survey())
    survey.addErrback(outcome.append)
    survey.cancel()
    assert outcome[0].check(CancelledError)
    assert clock.getDelayedCalls() == []


def test_a_survey_tells_what_was_noted(clock):
    """By group and server, with its marks."""
    full = Status("full", StoreStatus(False, "no room", 1, 2, 3, 4))
    store = replicated(clock, Member(full, weight=2.0), Member(FailingStore("old"), readonly=True))
    result(put(store, b"x"), clock)
    with pytest.raises(Unavailable):
        result(store.read(content_id(b"y")), clock)
    ((group, (first, second)),) = result(store.survey(), clock).items()
    assert group == "default"
    assert (first.state, first.reason, first.weight) == (TAKES_NO_BLOBS, "no room", 2.0)
    assert (first.blobs, first.size, first.capacity, first.free) == (1, 2, 3, 4)
    assert first.errors == 0
    assert (second.state, second.reason, second.readonly) == (LEFT_ALONE, "old is down", True)
    assert (second.errors, second.last_error) == (1, "old is down")


@pytest.mark.parametrize(("acknowledged", "writable"), [(1, True), (2, False)])
def test_uploads_are_taken_by_as_many_servers_as_they_wait_for(clock, acknowledged, writable):
    """One that is full, down or readonly does not count; the reason names them."""
    store = replicated(
        clock,
        MemoryStore("well"),
        Member(MemoryStore("old"), readonly=True),
        Status("full", StoreStatus(False, "no room")),
        FailingStore("gone"),
        acknowledged=acknowledged,
    )
    status = result(store.status(), clock)
    assert status.writable == writable
    if not writable:
        assert status.reason == (
            "1 of 3 servers take blobs, but an upload needs 2; full: no room; gone is down"
        )


def test_what_is_copied_in_the_background_is_told(clock):
    """While nobody waits for it."""
    store = replicated(clock, MemoryStore("a"))
    assert (store.background.count, store.background.bytes) == (0, 0)
    work = Deferred()
    store.background.add(1000, work, work.cancel)
    assert (store.background.count, store.background.bytes) == (1, 1000)
    work.callback(None)
    assert (store.background.count, store.background.bytes) == (0, 0)
