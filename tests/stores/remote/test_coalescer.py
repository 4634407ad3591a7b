"""Small requests that go together: a server whose answers the test gives."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sos.aio.timeouts import Deadlines
from sos.errors import Conflict, Mismatch, NoSpace, NotFound, TooLarge, Unavailable
from sos.http.client.bodies import ANSWER_SECONDS, PROMPT_SECONDS, TimedOut
from sos.http.server.request_ids import CURRENT
from sos.model.batch import (
    ALONE,
    FULL,
    MOST_BYTES,
    MOST_RECORDS,
    READ,
    STAT,
    STORE,
    Answer,
    parse,
)
from sos.stores.remote.client import UnexpectedStatus
from sos.stores.remote.coalescer import AT_ONCE, FORGET_SECONDS, HOLD_SECONDS, Coalescer


class Response:
    def __init__(self, code, body):
        self.code = code
        self._body = body

    def whole(self):
        return self._body


class Sent:
    """A batch as it was sent."""

    def __init__(self, body, seconds):
        self.records = parse(body)
        self.seconds = seconds
        self.cancelled = False
        self.answered = Deferred(self._cancel)

    def _cancel(self, _):
        self.cancelled = True

    @property
    def ids(self):
        return [record.id.decode() for record in self.records]

    def answer(self, *statuses):
        answers = [Answer(status, body=b"text") for status in statuses or [200] * len(self.ids)]
        self.say(200, b"".join(each.encode() for each in answers))

    def say(self, code, body):
        self.answered.callback(Response(code, body))


class Exchange:
    """A server, as the coalescer sees it."""

    url = "http://a:1"

    def __init__(self):
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock, 0.5)
        self.sent = []

    def send(self, method, path, body, seconds):
        assert (method, path) == ("POST", "/batch")
        self.sent.append(Sent(body, seconds))
        return self.sent[-1].answered


@pytest.fixture
def server():
    return Exchange()


@pytest.fixture
def coalescer(server):
    return Coalescer(server)


def ask(coalescer, *ids, operation=READ, **options):
    """Ask for each of *ids*; returns Deferreds of the outcomes."""
    return [ensureDeferred(coalescer.ask(operation, id, **options)) for id in ids]


def status_of(work):
    """Return the status in the answer to *work*, or its error."""
    result = []
    work.addBoth(result.append)
    (outcome,) = result
    if isinstance(outcome, Failure):
        return outcome.value
    return None if outcome is None else outcome.status


def is_open(work):
    return not work.called


def test_requests_of_one_turn_go_together(server, coalescer):
    """And each has its own outcome."""
    works = ask(coalescer, "a", "b", "c", "d")
    assert server.sent == []
    server.clock.advance(0)
    (batch,) = server.sent
    assert batch.ids == ["a", "b", "c", "d"]
    batch.answer(200, 404, ALONE, 503)
    outcomes = [status_of(work) for work in works]
    assert outcomes[::2] == [200, None]
    assert [type(outcome) for outcome in outcomes[1::2]] == [NotFound, UnexpectedStatus]
    assert str(outcomes[1]) == "http://a:1 answered 404: text"


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, UnexpectedStatus), (409, Conflict), (413, TooLarge), (422, Mismatch), (507, NoSpace)],
)
def test_an_operation_that_fails(server, coalescer, status, error):
    """By the same error as if it had been asked for by itself; the reason may go to a terminal."""
    (work,) = ask(coalescer, "a")
    server.clock.advance(0)
    server.sent[0].say(200, Answer(status, body=b"\x1b[31m\xff" + bytes(5000)).encode())
    outcome = status_of(work)
    assert type(outcome) is error
    assert str(outcome).isprintable()
    assert len(str(outcome)) < 600


def test_while_a_batch_is_in_flight_others_wait_for_its_answer(server, coalescer):
    """All that waited goes with the next one."""
    ask(coalescer, "a")
    server.clock.advance(0)
    works = [*ask(coalescer, "b"), *ask(coalescer, "c")]
    server.clock.advance(HOLD_SECONDS / 2)
    assert len(server.sent) == 1
    server.sent[0].answer()
    server.clock.advance(0)
    assert server.sent[1].ids == ["b", "c"]
    server.sent[1].answer()
    assert [status_of(work) for work in works] == [200, 200]


def test_they_wait_no_longer_than_a_moment(server, coalescer):
    """A server that is far away, or slow with one of them, does not hold up the others."""
    ask(coalescer, "a")
    server.clock.advance(0)
    ask(coalescer, "b")
    server.clock.advance(HOLD_SECONDS / 2)
    ask(coalescer, "c")
    server.clock.advance(HOLD_SECONDS / 2)
    assert [each.ids for each in server.sent] == [["a"], ["b", "c"]]


def test_so_many_are_in_flight(server, coalescer):
    """More wait until there is an answer, however long that takes."""
    hold(server, coalescer)
    works = ask(coalescer, "b")
    server.clock.advance(1)
    assert len(server.sent) == AT_ONCE
    server.sent[3].answer()
    server.clock.advance(HOLD_SECONDS)
    assert server.sent[-1].ids == ["b"]
    server.sent[-1].answer()
    assert status_of(works[0]) == 200


def hold(server, coalescer, **options):
    """Let as many batches be in flight as can be."""
    for n in range(AT_ONCE):
        (work,) = ask(coalescer, f"a{n}", **options)
        work.addErrback(lambda failure: failure.trap(TimedOut, CancelledError))
        server.clock.advance(HOLD_SECONDS)


@pytest.mark.parametrize("failing", [True, False])
def test_a_batch_makes_room_whatever_becomes_of_it(server, coalescer, failing):
    """Else none would go any more."""
    for n in range(10):
        works = ask(coalescer, f"a{n}")
        server.clock.advance(0)
        assert server.sent[-1].ids == [f"a{n}"]
        if failing:
            server.sent[-1].answered.errback(Failure(ConnectionLost()))
        else:
            server.sent[-1].say(200, b"junk")
        assert isinstance(status_of(works[0]), Unavailable)


def test_a_batch_is_bounded(server, coalescer):
    """In records, and in bytes."""
    ask(coalescer, *(f"a{n}" for n in range(MOST_RECORDS + 1)))
    server.clock.advance(0)
    assert [len(each.ids) for each in server.sent] == [MOST_RECORDS]
    ask(coalescer, *(f"b{n}" for n in range(2 * MOST_RECORDS)))
    server.clock.advance(HOLD_SECONDS)
    assert [len(each.ids) for each in server.sent] == [MOST_RECORDS] * 3
    server.clock.advance(HOLD_SECONDS)
    assert [len(each.ids) for each in server.sent] == [MOST_RECORDS] * 3 + [1]
    server.sent.clear()
    ask(coalescer, *"abcdefgh", operation=STORE, body=bytes(60_000))
    server.clock.advance(0)
    server.clock.advance(HOLD_SECONDS)
    assert [len(each.ids) for each in server.sent] == [5, 3]
    assert all(sum(len(r.body) for r in each.records) < FULL + 64 * 1024 for each in server.sent)


def test_a_read_does_not_wait_for_a_sync_nor_a_client_for_replication(server, coalescer):
    """They go in lanes of their own."""
    ask(coalescer, "a", operation=STORE, metadata=b"{}", body=b"x")
    ask(coalescer, "b")
    context = CURRENT.set(b"id-1")
    try:
        ask(coalescer, "c")
        ask(coalescer, "d", operation=STAT)
    finally:
        CURRENT.reset(context)
    server.clock.advance(0)
    assert [each.ids for each in server.sent] == [["a"], ["b"], ["c", "d"]]
    assert [each.seconds for each in server.sent] == [ANSWER_SECONDS, *[PROMPT_SECONDS] * 2]
    assert [record.request_id for record in server.sent[2].records] == [b"id-1"] * 2
    assert server.sent[1].records[0].request_id == b""
    assert server.sent[0].records[0][3:] == (b"{}", b"x")


@pytest.mark.parametrize("code", [400, 403, 404, 405, 413, 415, 501])
def test_a_server_that_knows_no_batches(server, coalescer, code):
    """It is asked singly, and is sent no batch before long."""
    works = ask(coalescer, "a", "b")
    server.clock.advance(0)
    works += ask(coalescer, "c")
    server.sent[0].say(code, b"what?")
    assert [status_of(work) for work in works] == [None, None, None]
    assert status_of(ask(coalescer, "c")[0]) is None
    server.clock.advance(FORGET_SECONDS - 1)
    assert status_of(ask(coalescer, "c")[0]) is None
    assert len(server.sent) == 1
    server.clock.advance(1)
    ask(coalescer, "c")
    server.clock.advance(0)
    assert server.sent[1].ids == ["c"]


@pytest.mark.parametrize("code", [204, 302, 401, 408, 421, 429, 500, 503])
def test_another_answer_says_nothing_of_batches(server, coalescer, code):
    """What it means is found out by asking singly."""
    works = ask(coalescer, "a")
    server.clock.advance(0)
    server.sent[0].say(code, b"")
    assert status_of(works[0]) is None
    ask(coalescer, "b")
    server.clock.advance(0)
    assert len(server.sent) == 2


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", Answer(200).encode(), Answer(200).encode() * 3, bytes(MOST_BYTES + 1)],
)
def test_an_answer_that_is_malformed(server, coalescer, text):
    """It says nothing of any of them."""
    works = ask(coalescer, "a", "b")
    server.clock.advance(0)
    server.sent[0].say(200, text)
    assert all(isinstance(status_of(work), Unavailable) for work in works)


def test_a_request_that_is_given_up(server, coalescer):
    """The others go on; one that was not sent is not."""
    first, second = ask(coalescer, "a", "b")
    third, fourth = ask(coalescer, "c", "d", operation=STORE)
    third.cancel()
    assert isinstance(status_of(third), CancelledError)
    server.clock.advance(0)
    assert [each.ids for each in server.sent] == [["a", "b"], ["d"]]
    first.cancel()
    assert isinstance(status_of(first), CancelledError)
    assert not server.sent[0].cancelled
    server.sent[0].answer(200, 200)
    assert status_of(second) == 200
    assert is_open(fourth)


def test_a_batch_that_nobody_waits_for_is_cancelled(server, coalescer):
    """And so makes room."""
    works = ask(coalescer, "a", "b")
    server.clock.advance(0)
    later = ask(coalescer, "c")
    for work in works:
        work.addErrback(lambda failure: failure.trap(CancelledError))
        assert not server.sent[0].cancelled
        work.cancel()
    assert server.sent[0].cancelled
    server.clock.advance(0)
    assert server.sent[1].ids == ["c"]
    server.sent[1].answer()
    assert status_of(later[0]) == 200


def test_each_request_has_its_deadline(server, coalescer):
    """Also while it waits to be sent: a server that is frozen holds up nobody for ever."""
    hold(server, coalescer)
    (late,) = ask(coalescer, "b")
    server.clock.pump([0.5] * int(2 * PROMPT_SECONDS + 2))
    assert isinstance(status_of(late), TimedOut)
    assert all(each.cancelled for each in server.sent)


def test_a_batch_that_times_out(server, coalescer):
    (work,) = ask(coalescer, "a")
    server.clock.advance(0)
    server.sent[0].answered.errback(Failure(TimeoutError()))
    assert isinstance(status_of(work), TimedOut)


def test_what_is_given_up_takes_no_memory(server, coalescer):
    """While a server hangs, any number of requests can be given up."""
    hold(server, coalescer, operation=STORE)
    works = ask(coalescer, "b", "c", operation=STORE, body=bytes(60_000))
    for work in works:
        work.cancel()
        status_of(work)
    (lane,) = coalescer._lanes.values()
    assert all(waiting.record is None for waiting in lane._queue)


def test_the_last_that_is_waited_for_times_out(server, coalescer):
    """Its error is the timeout, although its batch is cancelled at the same moment."""
    (work,) = ask(coalescer, "a")
    server.clock.pump([0.5] * int(2 * PROMPT_SECONDS + 2))
    assert isinstance(status_of(work), TimedOut)
    assert server.sent[0].cancelled


class Hanging:
    """An answer whose body does not come."""

    code = 200
    aborted = False

    def whole(self):
        return None

    def deliverBody(self, protocol):
        protocol.makeConnection(self)

    def stopProducing(self):
        self.aborted = True


def test_an_answer_that_hangs_after_its_head(server, coalescer):
    """It is given up like one that has not begun, and makes room."""
    works = ask(coalescer, "a", "b")
    server.clock.advance(0)
    response = Hanging()
    server.sent[0].answered.callback(response)
    for work in works:
        assert not response.aborted
        work.cancel()
        assert isinstance(status_of(work), CancelledError)
    assert response.aborted
    (lane,) = coalescer._lanes.values()
    assert lane._in_flight == 0
