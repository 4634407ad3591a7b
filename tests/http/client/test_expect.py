"""Uploads that ask before they send their body: Expect: 100-continue (RFC 9110, 10.1.1)."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from sos.http.client.bodies import StreamedBody
from sos.http.client.connection import CONTINUE_SECONDS
from tests.http.client.test_agent import OK, Peer

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
MOVED = b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\n\r\n"


class Upload:
    """One of three bytes, that asks."""

    def __init__(self):
        self.peer = Peer()
        self.body = StreamedBody(3, Clock(), expects=True)
        self.written = Deferred.fromCoroutine(self.body.write(b"abc"))
        self.asked = self.peer.ask(b"POST", body=self.body)
        self.transport = self.peer.accept()

    @property
    def sent(self):
        """What was sent behind the head."""
        head, _, rest = self.transport.value().partition(b"\r\n\r\n")
        assert b"\r\nExpect: 100-continue\r\n" in head + b"\r\n"
        return rest

    def answer(self, *data):
        for each in data:
            self.transport.protocol.dataReceived(each)


@pytest.fixture
def upload():
    return Upload()


def test_nothing_is_sent_before_the_server_takes_it(upload):
    """Then all of it is, at once, and the time that it would have waited for is over."""
    assert upload.sent == b""
    upload.answer(GO_ON)
    assert upload.sent == b"abc"
    upload.peer.reactor.advance(CONTINUE_SECONDS)
    upload.body.finish()
    upload.answer(OK)
    assert upload.asked.response.code == 200
    assert upload.sent == b"abc"


def test_a_server_that_does_not_say_so_is_sent_it_all_the_same(upload):
    """After a second: servers of HTTP/1.0 never do."""
    upload.peer.reactor.advance(CONTINUE_SECONDS / 2)
    assert upload.sent == b""
    upload.peer.reactor.advance(CONTINUE_SECONDS / 2)
    assert upload.sent == b"abc"
    upload.answer(GO_ON)  # which was late
    assert upload.sent == b"abc"


@pytest.mark.parametrize("answer", [[MOVED], [GO_ON + MOVED], [b"HTTP/1.1 102 P\r\n\r\n", MOVED]])
def test_a_body_that_is_not_taken_can_go_elsewhere(upload, answer):
    """Nothing was sent of it, and the connection, on which it could still be due, is closed."""
    upload.answer(*answer)
    assert upload.asked.response.code == 307
    assert upload.sent == b""
    assert not upload.transport.connected
    assert upload.body.replay()
    assert not upload.written.called
    upload.peer.reactor.advance(CONTINUE_SECONDS)
    again = upload.peer.ask(b"POST", body=upload.body)
    upload.transport = upload.peer.accept()
    upload.answer(GO_ON)
    assert upload.sent == b"abc"
    assert upload.written.result is True
    upload.body.finish()
    upload.answer(OK)
    assert again.response.code == 200


def test_a_body_that_was_begun_cannot_go_elsewhere(upload):
    """Who writes it learns that no more is wanted."""
    upload.answer(GO_ON, MOVED)
    assert upload.asked.response.code == 307
    assert not upload.body.replay()


def test_a_connection_that_is_lost_before_leaves_the_body(upload):
    """And no timer behind."""
    upload.transport.drop()
    assert upload.asked.failure is not None
    assert upload.body.replay()
    upload.peer.reactor.advance(CONTINUE_SECONDS)
    assert upload.peer.reactor.getDelayedCalls() == []
