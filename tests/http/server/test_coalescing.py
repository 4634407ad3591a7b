"""A turn of the reactor: everything is read, then worked through, then sent."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs

from sos.http.client import connection as client
from sos.http.client.request import Call
from sos.http.server.coalescing import MOST_PER_ITERATION, Receiver, Sender
from sos.http.server.site import Site

SMALL = b"s" * 100
LARGE = b"l" * 20_000
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Socket(Connection):
    """A transport that is a bare socket's to all that ask it, and has none.

    :ivar sent: what the system has taken, as it was given.
    :ivar room: bytes that the system still takes.
    """

    def __init__(self, reactor, sent):
        self.reactor = reactor
        self.sent = sent
        self.room = 1_000_000
        self.aborted = self.closed = False
        self.dataBuffer, self._tempDataBuffer = b"", []
        self.producer = None

    def writeSomeData(self, data):
        data = data[: self.room]
        self.room -= len(data)
        self.sent.append(data)
        return len(data)

    def write(self, data):
        self._tempDataBuffer.append(data)

    def doWrite(self):
        """Nothing waits."""

    def stopReading(self):
        """Nothing comes."""

    def stopWriting(self):
        """Nothing waits."""

    def connectionLost(self, reason):
        self.closed = True

    def registerProducer(self, producer, streaming):
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None

    def getPeer(self):
        return None

    def setTcpNoDelay(self, enabled):
        pass

    def pauseProducing(self):
        pass

    def resumeProducing(self):
        pass

    def loseConnection(self):
        self.closed = True

    def loseWriteConnection(self):
        self.closed = True

    def abortConnection(self):
        self.aborted = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    """What was taken and what was sent, in order."""
    return []


@pytest.fixture
def socket(clock, events):
    return Socket(clock, events)


@pytest.fixture
def sender(socket):
    return Sender(socket)


def broken():
    """Break a connection, where nothing should be broken."""
    raise AssertionError


def echoing(clock, events):
    """Return what has come over a connection; who takes it notes it, and sends it back."""
    socket = Socket(clock, events)
    sender = Sender(socket)

    def take(data):
        events.append(b"took " + data)
        sender.send(b"sent " + data)

    return Receiver(socket, take, broken)


class TestATurn:
    def test_is_over_for_all_before_any_is_answered(self, clock, events):
        """Whatever came is worked through, and then the answers go out."""
        first, second = echoing(clock, events), echoing(clock, events)
        first.receive(b"1")
        second.receive(b"2")
        assert events == []
        clock.advance(0)
        assert events == [b"took 1", b"took 2", b"sent 1", b"sent 2"]

    def test_follows_another(self, clock, events):
        """What comes later has its own."""
        receiver = echoing(clock, events)
        for each in (b"1", b"2"):
            receiver.receive(each)
            clock.advance(0)
        assert events == [b"took 1", b"sent 1", b"took 2", b"sent 2"]

    def test_is_one_of_a_reactor(self, clock, events):
        """That of another has nothing to do with it."""
        echoing(clock, events).receive(b"1")
        other = Clock()
        echoing(other, events).receive(b"2")
        other.advance(0)
        assert events == [b"took 2", b"sent 2"]

    @pytest.mark.parametrize("error", [ValueError("a mistake"), SystemExit("even so")])
    def test_goes_on_when_something_goes_wrong_in_it(self, clock, events, error):
        """The connection is broken where it did, and the log says why."""

        def take(data):
            raise error

        Receiver(Socket(clock, events), take, lambda: events.append("broken")).receive(b"1")
        echoing(clock, events).receive(b"2")
        with capturedLogs() as logged:
            clock.advance(0)
        assert events == ["broken", b"took 2", b"sent 2"]
        assert [event["log_failure"].value for event in logged] == [error]
        echoing(clock, events).receive(b"3")
        clock.advance(0)
        assert events[3:] == [b"took 3", b"sent 3"]

    def test_tells_of_the_same_mistake_once(self, clock, events):
        """For whoever can cause one can cause thousands."""

        def take(data):
            raise ValueError("a mistake")

        with capturedLogs() as logged:
            for _ in range(20):
                Receiver(Socket(clock, events), take, lambda: events.append("broken")).receive(b"1")
                clock.advance(0)
        assert events == ["broken"] * 20
        assert len(logged) == 1

    def test_takes_what_comes_of_what_has_come(self, clock, events):
        """One connection can be the cause of another's having something."""
        other = echoing(clock, events)
        Receiver(Socket(clock, events), other.receive, broken).receive(b"1")
        clock.advance(0)
        assert events == [b"took 1", b"sent 1"]


class TestWhatComes:
    def test_twice_in_a_turn_is_joined(self, clock, events):
        """It is taken once, in the order in which it came."""
        receiver = echoing(clock, events)
        receiver.receive(b"1")
        receiver.receive(b"2")
        clock.advance(0)
        assert events == [b"took 12", b"sent 12"]

    def test_is_taken_at_once_when_it_is_large(self, socket):
        """Behind what came before; nothing is left then."""
        taken = []
        receiver = Receiver(socket, taken.append, broken)
        receiver.receive(SMALL)
        receiver.receive(LARGE)
        assert taken == [SMALL + LARGE]
        assert not receiver.waits
        socket.reactor.advance(0)
        assert taken == [SMALL + LARGE]

    def test_can_be_asked_for_before_its_turn(self, socket):
        """It is not taken a second time."""
        taken = []
        receiver = Receiver(socket, taken.append, broken)
        receiver.receive(SMALL)
        assert receiver.waits
        receiver.pass_on()
        socket.reactor.advance(0)
        assert taken == [SMALL]

    def test_over_anything_but_a_bare_socket_is_taken_at_once(self):
        """Of others it is not known how they read."""
        taken = []
        Receiver(object(), taken.append, broken).receive(SMALL)
        assert taken == [SMALL]


class TestWhatIsSent:
    def test_goes_together(self, clock, events, sender):
        """In one call of the system, in order."""
        sender.send(b"1")
        sender.send(b"2")
        assert events == []
        clock.advance(0)
        assert events == [b"12"]

    def test_is_sent_at_once_when_there_is_much(self, clock, events, sender):
        """Behind what was sent before, and once."""
        sender.send(SMALL)
        sender.send(LARGE)
        assert events == [SMALL + LARGE]
        clock.advance(0)
        assert events == [SMALL + LARGE]

    def test_and_does_not_fit_is_left_to_the_transport(self, clock, events, sender, socket):
        """So is all that follows, behind it."""
        socket.room = 3
        sender.send(b"12345")
        clock.advance(0)
        sender.send(b"67")
        clock.advance(0)
        assert events == [b"123"]
        assert socket._tempDataBuffer == [b"45", b"67"]

    def test_is_forgotten_with_a_broken_connection(self, clock, events, sender):
        """There is nobody to have it."""
        sender.send(b"1")
        sender.drop()
        clock.advance(0)
        assert events == []


class TestAChannel:
    """One whose requests are answered at once, but for those that have a body."""

    @pytest.fixture
    def bodies(self):
        """Those of the requests that have come."""
        return []

    @pytest.fixture
    def site(self, clock, bodies):
        def answer(request):
            bodies.append(request.body)
            if request.body.complete:
                request.finish(b"yes")

        site = Site(answer, reactor=clock)
        site.startFactory()
        yield site
        site.stopFactory()

    @pytest.fixture
    def channel(self, site, socket):
        channel = site.buildProtocol(None)
        channel.makeConnection(socket)
        return channel

    def test_answers_what_came_at_the_end_of_the_turn(self, clock, channel, events):
        channel.dataReceived(GET)
        assert events == []
        clock.advance(0)
        assert len(events) == 1
        assert events[0].endswith(b"yes")

    def test_does_not_give_way_while_a_request_waits_for_its_turn(self, clock, channel):
        """So it is not closed to make room for another."""
        channel.dataReceived(GET)
        assert not channel.close_if_idle()
        clock.advance(0)
        assert channel.close_if_idle()

    @pytest.mark.parametrize("end", ["close_when_answered", "readConnectionLost"])
    def test_answers_what_came_before_it_is_closed(self, channel, socket, events, end):
        """Nothing that was read or written stays behind."""
        channel.dataReceived(GET)
        getattr(channel, end)()
        assert b"".join(events).endswith(b"yes")
        assert socket.closed

    def test_does_not_take_a_request_for_silence(self, site, channel, socket):
        """One that came in the turn in which the time was over is answered."""
        channel.dataReceived(GET)
        site.now += 3600
        channel.check_timeouts(site.now)
        assert not socket.closed

    def test_has_a_body_whose_end_came_in_the_turn_that_ended_the_connection(
        self, clock, channel, bodies
    ):
        """It is whole, and not one that was broken off."""
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
        clock.advance(0)
        channel.dataReceived(b"2")
        channel.readConnectionLost()
        assert bodies[0].complete
        assert bodies[0].error is None

    def test_does_nothing_for_a_client_that_has_gone(self, clock, channel, bodies, events):
        """What it asked for last is not even looked at."""
        channel.dataReceived(GET)
        channel.connectionLost()
        clock.advance(0)
        assert bodies == []
        assert events == []

    def test_sends_nothing_to_a_client_that_has_gone(self, clock, channel, bodies, events):
        """Although the answer is there."""
        channel.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + LARGE)
        channel.connectionLost()
        clock.advance(0)
        assert len(bodies) == 1
        assert events == []


class IterationQueues(Clock):
    """A clock that goes on by one turn of the reactor, and no further."""

    def turn(self):
        due, self.calls[:] = (
            [call for call in self.calls if call.getTime() <= self.rightNow],
            [call for call in self.calls if call.getTime() > self.rightNow],
        )
        for call in due:
            call.called = 1
            call.func(*call.args, **call.kw)


class TestThoseWhoAskForMuch:
    """Clients that send many requests at once, beside one that sends one."""

    @pytest.fixture
    def clock(self):
        return IterationQueues()

    @pytest.fixture
    def asked(self):
        """The paths of what was answered, in order."""
        return []

    @pytest.fixture
    def site(self, clock, asked):
        def answer(request):
            asked.append(request.path)
            request.finish(b"yes")

        site = Site(answer, reactor=clock)
        site.startFactory()
        yield site
        site.stopFactory()

    @pytest.fixture
    def connect(self, clock, events, site):
        """Connects a client that sends as many requests as is said; over anything but TCP, too."""

        def connect(path, count, transport=None):
            channel = site.buildProtocol(None)
            channel.makeConnection(transport or Socket(clock, events))
            channel.dataReceived(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path * count)
            return channel

        return connect

    @pytest.mark.parametrize("count", [100, 2000], ids=["little data", "much data"])
    @pytest.mark.parametrize("others", [1, 50])
    def test_have_one_request_answered_before_that_of_another(
        self, clock, asked, connect, others, count
    ):
        """A small request waits for one of each other that waits, and for no more."""
        for _ in range(others):
            connect(b"/greedy", count)
        connect(b"/small", 1)
        while b"/small" not in asked:
            clock.turn()
        assert asked.index(b"/small") <= 2 * others  # where one is answered as it is read

    def test_hold_nobody_up_who_comes_later(self, clock, asked, connect):
        """The sockets are looked at again after so many; then it is one of each again."""
        for _ in range(1000):
            connect(b"/greedy", 50)
        clock.turn()
        assert len(asked) == MOST_PER_ITERATION
        connect(b"/small", 1)
        while b"/small" not in asked:
            clock.turn()
        assert asked.index(b"/small") == MOST_PER_ITERATION + 1000

    def test_over_tls_wait_as_well(self, clock, asked, connect):
        """Or over what else is no bare socket."""
        connect(b"/greedy", 2000, StringTransport())
        assert len(asked) == 1
        connect(b"/small", 1, StringTransport())
        assert asked == [b"/greedy", b"/small"]
        clock.turn()
        assert len(asked) == MOST_PER_ITERATION + 2

    def test_are_all_answered_in_the_end(self, clock, asked, connect):
        """Nothing is lost, nor read on as long as something waits."""
        connect(b"/greedy", 2000)
        for _ in range(10):
            clock.turn()
        assert asked == [b"/greedy"] * 2000
        clock.turn()


class Pool:
    """Stands where the connections to a server are kept, and notes what it is told."""

    def __init__(self):
        self.calls = []

    def freed(self, connection):
        self.calls.append("freed")

    def lost(self, connection):
        self.calls.append("lost")

    def forget(self, connection):
        self.calls.append("forget")

    def retry_or_fail(self, call, failure, kept):
        self.calls.append("retry_or_fail")


class TestAConnectionToAServer:
    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"

    @pytest.fixture
    def pool(self):
        return Pool()

    @pytest.fixture
    def connection(self, pool, socket):
        connection = client.Connection(pool)
        connection.makeConnection(socket)
        return connection

    @pytest.fixture
    def call(self, connection):
        call = Call(b"GET / HTTP/1.1\r\n", None, False)
        connection.send(call)
        return call

    def test_has_an_answer_that_came_in_the_turn_that_ended_it(self, connection, call, pool):
        """The server has closed it behind the answer, as it may."""
        connection.dataReceived(self.ANSWER)
        connection.connectionLost()
        assert call.answered.result.whole() == b"yes"
        assert pool.calls == ["lost"]

    def test_sends_nothing_when_it_is_lost(self, connection, call, clock, events, pool):
        """What was asked is asked over another."""
        connection.connectionLost()
        clock.advance(0)
        assert events == []
        assert pool.calls == ["retry_or_fail", "lost"]

    def test_does_not_wait_to_refuse_what_nobody_has_asked_for(
        self, connection, call, clock, socket, pool
    ):
        """Or it would be taken for the answer to what is asked in the same turn."""
        connection.dataReceived(self.ANSWER)
        clock.advance(0)
        connection.dataReceived(self.ANSWER)
        assert socket.aborted
        assert pool.calls == ["freed", "forget"]

    def test_is_not_used_again_when_it_is_given_up_with_its_answer(
        self, connection, call, clock, pool
    ):
        """Another request would be sent over a connection that is to be reset."""
        clock.advance(0)
        connection.dataReceived(self.ANSWER)
        call.answered.addErrback(lambda failure: None)
        call.answered.cancel()
        clock.advance(0)
        assert pool.calls == ["forget"]

    def test_sends_nothing_of_what_is_given_up_at_once(self, connection, call, clock, events):
        """The server need not even know."""
        call.answered.addErrback(lambda failure: None)
        call.answered.cancel()
        clock.advance(0)
        assert events == []
