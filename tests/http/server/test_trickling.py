"""Bodies that come slowly: which are waited for, and which are given up."""

from __future__ import annotations

import pytest
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import Unavailable
from sos.http.client.bodies import ANSWER_SECONDS, LEAST_RATE, ResponseBody


class Response:
    """Delivers what the test gives it."""

    def deliverBody(self, body):
        self.deliver = body.dataReceived


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def response():
    return Response()


@pytest.fixture
def body(response, clock):
    return ResponseBody(response, clock)


async def read(body):
    return await anext(body)


def test_a_byte_every_now_and_then_is_no_body(response, body, clock):
    """It would never end: after a minute in all it is given up, however many pieces came."""
    for _ in range(4):
        piece = deferred(read(body))
        clock.advance(ANSWER_SECONDS / 4)
        response.deliver(b"x")
        assert piece.result == b"x"
    piece = deferred(read(body))
    clock.advance(0.1)
    assert isinstance(piece.result.value, Unavailable)
    piece.addErrback(lambda failure: None)


def test_a_body_that_comes_fast_enough_is_waited_for(response, body, clock):
    """As long as it takes, in whatever pieces."""
    for _ in range(100):
        piece = deferred(read(body))
        clock.advance(ANSWER_SECONDS - 1)
        response.deliver(bytes(int(ANSWER_SECONDS * LEAST_RATE)))
        assert piece.called


def test_what_the_reader_takes_is_not_the_servers_doing(response, body, clock):
    """A client may be slow, while all that it wants has come."""
    for _ in range(100):
        response.deliver(b"x")
        clock.advance(ANSWER_SECONDS)
        piece = deferred(read(body))
        assert piece.result == b"x"


def test_nothing_at_all_is_given_up(body, clock):
    piece = deferred(read(body))
    clock.advance(ANSWER_SECONDS - 0.1)
    assert not piece.called
    clock.advance(0.2)
    assert isinstance(piece.result.value, Unavailable)
    piece.addErrback(lambda failure: None)
