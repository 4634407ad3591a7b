"""How connections end: with the client, with the daemon, for want of room."""

from __future__ import annotations

import sys

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from zope.interface import directlyProvides

from sos.errors import Incomplete, TooSlow
from sos.wire.server import BODY_BYTES, BODY_SECONDS
from sos.wire.site import Site
from tests.support.conversation import Conversation, Transport, parse_answers

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Later:
    """Answers a request when it is told to, and reads bodies when there are any."""

    def __init__(self):
        self.requests = []
        self.errors = []

    def __call__(self, request):
        self.requests.append(request)
        request.work = Deferred.fromCoroutine(self.read(request))

    async def read(self, request):
        try:
            async for _ in request.body:
                pass
        except Exception as error:
            self.errors.append(error)
            request.setResponseCode(400)
            request.finish(b"no")

    def answer(self):
        self.requests.pop(0).finish(b"yes")


@pytest.fixture
def later():
    return Later()


@pytest.fixture
def talk(later):
    return Conversation(later)


def statuses(talk):
    return [answer.status for answer in parse_answers(talk.transport.value())]


def another(talk) -> Transport:
    """Open a second connection to the same site."""
    transport = Transport()
    transport.protocol = talk.site.buildProtocol(None)
    if transport.protocol is not None:
        transport.protocol.makeConnection(transport)
    return transport


class TestAClientThatEndsItsSide:
    def test_gets_its_answers_first(self, talk, later):
        """All that it has asked for; then the connection is closed."""
        talk.send(GET * 3)
        talk.channel.readConnectionLost()
        assert talk.transport.connected
        for _ in range(3):
            later.answer()
        assert statuses(talk) == [200, 200, 200]
        assert b"Connection: close" in talk.transport.value().rpartition(b"HTTP/1.1")[2]
        assert talk.closed

    def test_in_the_middle_of_a_body_has_sent_nothing(self, talk, later):
        """The route learns of it, and may answer."""
        talk.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        talk.channel.readConnectionLost()
        assert [type(error) for error in later.errors] == [Incomplete]
        assert statuses(talk) == [400]
        assert talk.closed

    @pytest.mark.parametrize("sent", [b"", b"GET / HT", GET[:-2]])
    def test_between_requests_is_closed(self, talk, sent):
        """What is not a whole head is no request."""
        talk.send(sent)
        talk.channel.readConnectionLost()
        assert talk.closed
        assert talk.transport.value() == b""

    def test_is_not_read_from_again(self, talk, later):
        """There is nothing to read, and the reactor would say so without end."""
        talk.send(GET * 2)
        assert talk.transport.producerState == "paused"
        talk.channel.readConnectionLost()
        later.answer()
        assert talk.transport.producerState == "paused"


class TestABodyHasToComeInTime:
    HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"

    @pytest.mark.parametrize("at_once", [1, BODY_BYTES // 40])
    def test_one_that_trickles_is_given_up(self, talk, later, at_once):
        """However evenly it comes."""
        talk.send(self.HEAD)
        for _ in range(int(BODY_SECONDS) + 2):
            talk.send(bytes(at_once))
            talk.wait(1)
        assert [type(error) for error in later.errors] == [TooSlow]
        assert talk.closed

    def test_one_that_is_slow_enough_is_taken(self, talk, later):
        """For as long as it goes on."""
        talk.send(self.HEAD)
        for _ in range(100):
            talk.send(bytes(BODY_BYTES // 15))
            talk.wait(1)
        assert later.errors == []
        assert talk.transport.connected


class TestAConnectionOverTLS:
    def test_is_read_from_until_the_client_has_closed_it(self, talk, later):
        """Until its close alert is read, however slowly it took the answer."""
        directlyProvides(talk.transport, ISSLTransport)
        talk.transport.room = 10
        talk.send(b"GET / HTTP/1.0\r\n\r\n")
        later.answer()
        assert talk.transport.producerState == "paused"
        talk.transport.take()
        assert talk.transport.producerState == "producing"
        assert talk.closed


class TestTheDaemonStops:
    def test_what_is_under_way_is_finished(self, talk, later):
        """And nothing else is begun on that connection."""
        talk.send(GET)
        stopping = Deferred.fromCoroutine(talk.site.drain(10))
        assert not stopping.called
        later.answer()
        assert statuses(talk) == [200]
        assert b"Connection: close" in talk.transport.value()
        talk.transport.drop()
        assert stopping.called

    def test_idle_connections_are_closed(self, talk, later):
        """At once, and so are those that have sent half a head."""
        half = another(talk)
        half.protocol.dataReceived(b"GET / HT")
        stopping = Deferred.fromCoroutine(talk.site.drain(10))
        assert talk.closed
        assert not half.connected
        assert stopping.called

    def test_an_answer_that_is_still_being_taken_is_the_last(self, talk, later):
        """The connection closes as soon as the client has all of it."""
        talk.transport.room = 10
        talk.send(GET)
        later.answer()
        stopping = Deferred.fromCoroutine(talk.site.drain(10))
        assert talk.transport.connected
        talk.transport.take()
        assert not talk.transport.connected
        assert stopping.called

    def test_what_takes_too_long_is_broken_off(self, talk, later):
        """An administrator has more to do than to wait."""
        talk.send(GET)
        stopping = Deferred.fromCoroutine(talk.site.drain(10))
        talk.wait(9)
        assert talk.transport.connected
        talk.wait(2)
        assert talk.transport.aborted
        assert stopping.called

    def test_deadlines_hold_to_the_end(self, talk, later):
        """The clock goes on when nothing listens any more."""
        talk.send(TestABodyHasToComeInTime.HEAD)
        talk.site.stopFactory()
        talk.wait(BODY_SECONDS + 2)
        assert [type(error) for error in later.errors] == [TooSlow]
        talk.transport.drop()
        assert not talk.clock.getDelayedCalls()


class TestThereAreTooMany:
    @pytest.fixture
    def talk(self, later):
        talk = Conversation(later)
        talk.site = Site(later, max_connections=2, reactor=talk.clock)
        talk.site.startFactory()
        return talk

    def test_an_idle_one_gives_way(self, talk):
        """That which has been so for the longest."""
        first, second = another(talk), another(talk)
        talk.wait(2)
        first.protocol.dataReceived(b"GET / HTTP/1.1\r\n")
        third = another(talk)
        assert (first.connected, second.connected, third.connected) == (True, False, True)

    def test_where_none_is_idle_the_new_one_is_told_so(self, talk, later):
        """It may come again; and when there is room it is served."""
        first, second = another(talk), another(talk)
        for transport in (first, second):
            transport.protocol.dataReceived(GET)
        refused = another(talk)
        (answer,) = parse_answers(refused.value())
        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"5"
        assert refused.half_closed
        refused.drop()
        later.answer()
        welcome = another(talk)
        assert welcome.connected
        assert welcome.value() == b""

    def test_a_crowd_is_not_even_told(self, talk):
        """Each refusal holds a descriptor for a while."""
        for transport in [another(talk) for _ in range(2)]:
            transport.protocol.dataReceived(GET)
        assert [another(talk).protocol is None for _ in range(40)].count(True) == 8

    def test_one_that_has_rested_since_gives_way_after_one_that_rests_for_longer(self, talk, later):
        """A connection that has been answered is the youngest of those that are idle."""
        first, second = another(talk), another(talk)
        talk.wait(2)
        first.protocol.dataReceived(GET)
        later.answer()
        third = another(talk)
        assert (first.connected, second.connected, third.connected) == (True, False, True)

    def test_one_that_is_passed_over_can_give_way_later(self, talk, later):
        """Once its head is in and answered; and one whose client did not read, once it does."""
        first, second = another(talk), another(talk)
        first.protocol.dataReceived(GET[:-2])
        second.protocol.dataReceived(GET)
        assert another(talk).half_closed  # refused, and still open
        first.protocol.dataReceived(GET[-2:])
        later.answer()
        later.answer()
        assert another(talk).connected
        assert [first.connected, second.connected].count(False) == 1

    @pytest.mark.parametrize("data", [GET, GET[:-2]], ids=["in a request", "in a head"])
    def test_to_refuse_one_costs_the_same_however_many_there_are(self, later, data):
        """Counted in calls; a crowd would hold up the requests of those that were let in."""

        def calls(connections):
            talk = Conversation(later)
            talk.site = Site(later, connections, talk.clock)
            talk.site.startFactory()
            for _ in range(connections):
                another(talk).protocol.dataReceived(data)
            another(talk)
            counted = 0

            def count(frame, event, argument):
                nonlocal counted
                counted += 1

            sys.setprofile(count)
            talk.site.buildProtocol(None)
            sys.setprofile(None)
            return counted

        assert calls(1000) == calls(10)
