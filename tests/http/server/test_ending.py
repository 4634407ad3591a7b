"""How connections end: with the client, with the daemon, for want of room."""

from __future__ import annotations

import sys

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from zope.interface import directlyProvides

from sos.errors import Incomplete, TooSlow
from sos.http.server.coalescing import Receiver
from sos.http.server.connection import BODY_BYTES, BODY_SECONDS, STALL_SECONDS
from sos.http.server.site import Site
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


def another(talk, host: str | None = None) -> Transport:
    """Open a second connection to the same site, from *host*."""
    address = None if host is None else IPv4Address("TCP", host, 1)
    transport = Transport(peerAddress=address)
    transport.protocol = talk.site.buildProtocol(address)
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
        transport = Transport()
        transport.transport = None
        transport.getHandle = lambda: None
        directlyProvides(transport, ISSLTransport)
        transport.protocol = talk.site.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        transport.room = 10
        transport.protocol.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        later.answer()
        assert transport.producerState == "paused"
        transport.take()
        assert transport.producerState == "producing"
        assert not transport.connected


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


def test_a_client_that_has_its_refusal_and_goes_is_not_waited_for(talk):
    """Its connection would be one of those that there may be, for seconds."""
    talk.send(b"no request\r\n\r\n")
    assert talk.transport.half_closed
    assert talk.transport.connected
    talk.channel.readConnectionLost()
    assert not talk.transport.connected
    assert not talk.site.channels


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
        assert [another(talk).connected for _ in range(40)].count(False) == 8

    def test_one_that_has_rested_since_gives_way_after_one_that_rests_for_longer(self, talk, later):
        """A connection that has been answered is the youngest of those that are idle."""
        first, second = another(talk), another(talk)
        talk.wait(2)
        first.protocol.dataReceived(GET)
        later.answer()
        third = another(talk)
        assert (first.connected, second.connected, third.connected) == (True, False, True)

    def test_one_whose_head_is_still_coming_gives_way(self, talk):
        """That which has been so for the longest, however often it sends a little more."""
        first, second = another(talk), another(talk)
        first.protocol.dataReceived(GET[:5])
        second.protocol.dataReceived(GET[:5])
        talk.wait(2)
        first.protocol.dataReceived(GET[5:6])
        third = another(talk)
        assert (first.connected, second.connected, third.connected) == (False, True, True)
        assert parse_answers(first.value())[0].status == 503
        second.protocol.dataReceived(GET[5:])
        third.protocol.dataReceived(GET[:-2])
        assert another(talk).connected
        assert not third.connected

    def test_one_that_sends_more_of_its_head_meanwhile_gives_way_the_next_time(
        self, talk, monkeypatch
    ):
        """It is passed over once, for the request may be complete."""
        first, second = another(talk), another(talk)
        for each in (first, second):
            each.protocol.dataReceived(GET[:5])
        with monkeypatch.context() as waiting:
            waiting.setattr(Receiver, "waits", True)
            assert another(talk).half_closed
        for each in (first, second):
            each.protocol.dataReceived(GET[5:6])
        third = another(talk)
        assert (first.connected, second.connected, third.connected) == (False, True, True)

    def test_one_that_was_answered_can_give_way(self, talk, later):
        """But one whose client does not read its answer does so only when that is read."""
        first, second = another(talk), another(talk)
        second.room = 0
        for each in (first, second):
            each.protocol.dataReceived(GET)
            later.answer()
        third = another(talk)
        assert (first.connected, second.connected, third.connected) == (False, True, True)
        third.protocol.dataReceived(GET)
        assert another(talk).half_closed
        second.take()
        fourth = another(talk)
        assert (second.connected, third.connected, fourth.connected) == (False, True, True)

    @pytest.mark.parametrize("data", [GET, b"GET / HTTP/1.0\r\n\r\n"], ids=["kept", "last"])
    def test_one_whose_client_takes_nothing_gives_way_first(self, talk, later, data):
        """When that is so for a while; until then it is in the middle of its answer."""
        stalled, idle = another(talk), another(talk)
        stalled.room = 0
        stalled.protocol.dataReceived(data)
        later.answer()
        talk.wait(STALL_SECONDS - 2)
        idle.drop()
        busy = another(talk)
        busy.protocol.dataReceived(GET)
        assert another(talk).half_closed
        later.answer()
        talk.wait(4)
        new = another(talk)
        assert (stalled.aborted, busy.connected, new.connected) == (True, True, True)
        assert len(talk.site.channels) == 3  # with the one that is being refused

    def test_one_whose_client_has_gone_on_does_not_give_way(self, talk, later):
        """It is as any other; and gives way the next time that its client takes nothing."""
        paused, busy = another(talk), another(talk)
        for _ in range(2):
            paused.room = 0
            paused.protocol.dataReceived(GET)
            later.answer()
            talk.wait(STALL_SECONDS + 2)
            busy.drop()
            busy = another(talk)
            busy.protocol.dataReceived(GET)
            paused.take()
            paused.room = None
            paused.protocol.dataReceived(GET)
            refused = another(talk)
            assert refused.half_closed
            refused.drop()
            later.answer()
            later.answer()
        paused.room = 0
        paused.protocol.dataReceived(GET)
        later.answer()
        talk.wait(STALL_SECONDS + 2)
        another(talk)
        assert another(talk).connected
        assert paused.aborted

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
                # The garbage collector, which may run meanwhile, calls some of others.
                counted += frame.f_globals["__name__"].startswith("sos.")

            sys.setprofile(count)
            talk.site.buildProtocol(None)
            sys.setprofile(None)
            return counted

        few = calls(10)
        assert few > 0
        assert calls(1000) == few


class TestThereAreTooManyFromOneAddress:
    @pytest.fixture
    def talk(self, later):
        talk = Conversation(later)
        talk.site = Site(later, max_connections=8, reactor=talk.clock)
        talk.site.startFactory()
        return talk

    def test_others_are_let_in(self, talk):
        """Half of all is the most that one can have, whatever it does with them."""
        attack = []
        for _ in range(5):
            attack.append(another(talk, "192.0.2.1"))
            attack[-1].protocol.dataReceived(GET)
        assert [each.half_closed for each in attack] == [False] * 4 + [True]
        (answer,) = parse_answers(attack[-1].value())
        assert (answer.status, "this address" in answer.json["error"]) == (503, True)
        assert not another(talk, "192.0.2.2").half_closed

    def test_one_whose_client_takes_nothing_gives_way_to_another_from_there(self, talk, later):
        """And does not for one from elsewhere, for which there is room."""
        stalled = [another(talk, "192.0.2.1") for _ in range(4)]
        for each in stalled:
            each.room = 0
            each.protocol.dataReceived(GET)
            later.answer()
        talk.wait(STALL_SECONDS + 2)
        assert another(talk, "192.0.2.2").connected
        assert not any(each.aborted for each in stalled)
        assert another(talk, "192.0.2.1").connected
        assert [each.aborted for each in stalled].count(True) == 1

    def test_one_of_its_own_gives_way(self, talk):
        """Not one of another's, however long that has had nothing to do."""
        other = another(talk, "192.0.2.2")
        attack = [another(talk, "192.0.2.1") for _ in range(4)]
        attack[0].protocol.dataReceived(GET[:5])
        assert not another(talk, "192.0.2.1").half_closed
        assert [each.connected for each in attack] == [True, False, True, True]
        assert other.connected

    def test_those_that_have_gone_do_not_count(self, talk):
        for _ in range(3):
            gone = [another(talk, "192.0.2.1") for _ in range(4)]
            assert not any(each.half_closed for each in gone)
            for each in gone:
                each.drop()

    def test_no_more_than_some_are_told_so(self, talk):
        """The others are closed without a word, and count for nothing."""
        for _ in range(4):
            another(talk, "192.0.2.1").protocol.dataReceived(GET)
        attack = [another(talk, "192.0.2.1") for _ in range(96)]
        assert [each.connected for each in attack].count(False) == 96 - 32
        assert not another(talk, "192.0.2.2").half_closed

    @pytest.mark.parametrize(
        ("one", "other"),
        [("2001:db8::1", "2001:db8::ffff:1"), ("::ffff:192.0.2.1", "192.0.2.1")],
    )
    def test_one_client_has_many_addresses(self, talk, one, other):
        """All of a /64 of IPv6; and what a socket for both calls an address of IPv4."""
        for _ in range(4):
            another(talk, one).protocol.dataReceived(GET)
        assert another(talk, other).half_closed

    @pytest.mark.parametrize("other", ["2001:db8:0:1::1", "fe80::1%eth0", "192.0.2.1", None])
    def test_another_is_told_apart(self, talk, other):
        for _ in range(4):
            another(talk, "2001:db8::1").protocol.dataReceived(GET)
        assert not another(talk, other).half_closed

    def test_a_socket_of_this_machine_has_no_limit_of_its_own(self, talk):
        """A proxy may come by it, for everybody."""
        assert not any(another(talk).half_closed for _ in range(8))
