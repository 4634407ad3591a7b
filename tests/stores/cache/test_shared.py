"""A shared cache in trouble: what it costs, and for how long."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from sos.stores.cache.shared import (
    CONNECT_SECONDS,
    DEADLINE_SECONDS,
    MOST_REQUESTS,
    SharedCache,
)
from sos.stores.replicated.peer import FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS


class FakeConnection:
    """A connection whose answers come when the test gives them."""

    def __init__(self):
        self.lost = False
        self.asked = []

    def get(self, key):
        self.asked.append(Deferred())
        return self.asked[-1]

    def set(self, key, value):
        return self.get(key)

    add = set

    def close(self):
        self.lost = True


class Lines:
    """Connects as the test says."""

    def __init__(self):
        self.made = []
        self.connection = None

    def connect(self):
        if self.connection is not None:
            return self.connection
        self.made.append(FakeConnection())
        return succeed(self.made[-1])

    @property
    def line(self):
        return self.made[-1]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def cache(lines, clock):
    return SharedCache("a cache", lines.connect, clock)


def got(cache):
    """Ask for something; returns the list in which the answer will be."""
    answers = []
    ensureDeferred(cache.get(b"key")).addCallback(answers.append)
    return answers


def test_one_connection_is_made_when_it_is_needed(cache, lines, clock):
    """And serves all requests."""
    assert lines.made == []
    first, second = got(cache), got(cache)
    lines.line.asked[1].callback(None)
    lines.line.asked[0].callback(b"value")
    assert (first, second) == ([b"value"], [None])
    assert len(lines.made) == 1
    assert clock.getDelayedCalls() == []


def test_an_answer_that_does_not_come_in_time_is_none(cache, lines, clock):
    """The connection is ended, and no answer to another question can be taken for it."""
    answers = got(cache)
    clock.advance(DEADLINE_SECONDS * 0.9)
    assert answers == []
    clock.advance(DEADLINE_SECONDS * 0.2)
    assert answers == [None]
    assert lines.line.lost
    assert clock.getDelayedCalls() == []


def test_connecting_has_an_end_too_and_holds_nobody_else_up(cache, lines, clock):
    """Others do without meanwhile."""
    lines.connection = Deferred()
    first, second = got(cache), got(cache)
    assert (first, second) == ([], [None])
    clock.advance(CONNECT_SECONDS)
    assert first == [None]
    lines.connection = None
    clock.advance(FIRST_BACKOFF_SECONDS)
    got(cache)
    assert len(lines.made) == 1


def test_it_is_left_alone_for_longer_and_longer(cache, lines, clock):
    """A second, two, four, up to a minute; and from a second again once it has answered."""
    rests = []
    for _ in range(9):
        lines.connection = fail(ConnectionRefusedError())
        assert got(cache) == [None]
        lines.connection = None
        begun, made = clock.seconds(), len(lines.made)
        while len(lines.made) == made:
            clock.advance(0.5)
            got(cache)
        rests.append(clock.seconds() - begun)
        lines.line.asked[-1].errback(ConnectionResetError())
        # Which counts as a failure, too.
        clock.advance(LONGEST_BACKOFF_SECONDS)
    assert rests[:3] == [1, 4, 16]
    assert max(rests) == LONGEST_BACKOFF_SECONDS
    answers = got(cache)
    lines.line.asked[-1].callback(b"value")
    assert answers == [b"value"]
    got(cache)
    lines.line.asked[-1].errback(ConnectionResetError())
    clock.advance(FIRST_BACKOFF_SECONDS)
    made = len(lines.made)
    got(cache)
    assert len(lines.made) == made + 1


def test_many_that_fail_together_are_one_failure(cache, lines, clock):
    """They were under way at the same time."""
    waiting = [got(cache) for _ in range(10)]
    clock.advance(DEADLINE_SECONDS)
    assert waiting == [[None]] * 10
    clock.advance(FIRST_BACKOFF_SECONDS)
    got(cache)
    assert len(lines.made) == 2


def test_requests_under_way_are_bounded(cache, lines):
    """What comes beyond that does without."""
    waiting = [got(cache) for _ in range(MOST_REQUESTS)]
    assert got(cache) == [None]
    cache.set(b"key", b"value")
    assert len(lines.line.asked) == MOST_REQUESTS
    lines.line.asked[0].callback(b"value")
    assert waiting[0] == [b"value"]
    assert got(cache) == []


def test_a_connection_that_has_ended_is_made_again(cache, lines):
    """At once: that it was closed while nobody asked is no failure."""
    got(cache)
    lines.line.asked[0].callback(b"value")
    lines.line.lost = True
    answers = got(cache)
    lines.line.asked[0].callback(b"other")
    assert answers == [b"other"]
    assert len(lines.made) == 2


@pytest.mark.parametrize("when", ["asking", "connecting"])
def test_who_goes_away_leaves_the_cache_as_it_was(cache, lines, clock, when):
    """The connection stays, for others and with its answers in order."""
    if when == "connecting":
        lines.connection = Deferred()
    waiting = ensureDeferred(cache.get(b"key"))
    waiting.addErrback(lambda failure: None)
    waiting.cancel()
    if when == "connecting":
        lines.made.append(FakeConnection())
        lines.connection.callback(lines.line)
    answers = got(cache)
    assert len(lines.line.asked) == 2
    lines.line.asked[0].callback(b"for who went away")
    lines.line.asked[1].callback(b"value")
    assert answers == [b"value"]
    assert not lines.line.lost
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("mistake", [TypeError("ours"), AssertionError(), KeyError("b")])
def test_a_mistake_of_ours_is_told_and_is_no_reason_to_leave_it_alone(cache, lines, clock, mistake):
    """Nobody has to do without it; the connection, whose state nobody knows, is made again."""
    with capturedLogs() as logged:
        answers = got(cache)
        lines.line.asked[0].errback(mistake)
    assert answers == [None]
    assert [event["log_failure"].value for event in logged] == [mistake]
    answers = got(cache)
    lines.line.asked[0].callback(b"value")
    assert answers == [b"value"]
    assert len(lines.made) == 2


def test_an_error_of_the_library_is_the_servers(lines, clock):
    """It is left alone then, and nothing but that is told."""

    class LibraryError(Exception):
        pass

    cache = SharedCache("a cache", lines.connect, clock, (LibraryError,))
    with capturedLogs() as logged:
        got(cache)
        lines.line.asked[0].errback(LibraryError())
        assert got(cache) == [None]
    assert [event["log_format"] for event in logged if "log_failure" in event] == []
    assert len(lines.made) == 1


def test_when_it_is_stopped_nothing_is_asked(cache, lines, clock):
    """And a connection that is being made then is ended."""
    lines.connection = Deferred()
    answers = got(cache)
    cache.stop()
    late = FakeConnection()
    lines.connection.callback(late)
    assert answers == [None]
    assert late.lost
    assert got(cache) == [None]
    assert clock.getDelayedCalls() == []
