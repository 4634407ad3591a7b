"""The agent: what it sends, what it takes for an answer, and how it keeps connections."""

from __future__ import annotations

import datetime
import ipaddress

import pytest
import treq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pytest_twisted import ensureDeferred
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.error import SchemeNotSupported
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sos.http.client.agent import HELD_SECONDS, KEPT_SECONDS, Agent
from sos.http.client.connection import MAX_HEAD_BYTES, ConnectionReclaimed
from sos.http.server.site import Site

URL = b"http+unix://%2Frun%2Fsos.sock"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


class Transport(StringTransportWithDisconnection):
    """One end of a connection; abortConnection is a loss of it."""

    def loseConnection(self):
        assert self.producer is None, "a transport with a producer does not close"
        super().loseConnection()

    def abortConnection(self):
        self.unregisterProducer()
        self.loseConnection()

    def drop(self):
        self.unregisterProducer()
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.connected = False


class Peer:
    """An agent, and the servers' side of its connections."""

    def __init__(self, **options):
        self.reactor = MemoryReactorClock()
        self.agent = Agent(self.reactor, **options)
        self.transports = []

    def ask(self, method=b"GET", path=b"/x", headers=None, body=None):
        return Asked(self.agent.request(method, URL + path, headers, body))

    def accept(self) -> Transport:
        """Let the connection be made that is waited for."""
        factory = self.reactor.unixClients[len(self.transports)][1]
        transport = Transport()
        transport.protocol = factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        self.transports.append(transport)
        return transport

    def refuse(self) -> None:
        self.transports.append(None)
        factory = self.reactor.unixClients[len(self.transports) - 1][1]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    @property
    def connecting(self) -> int:
        """How many connections have been asked for."""
        return len(self.reactor.unixClients)


class Asked:
    """What became of a request, and of its body."""

    def __init__(self, deferred):
        self.deferred = deferred
        self.response = self.failure = None
        deferred.addCallbacks(self.answered, self.failed)

    def answered(self, response):
        self.response = response

    def failed(self, failure):
        self.failure = failure

    @property
    def error(self):
        return None if self.failure is None else self.failure.type

    def read(self) -> Collected:
        collected = Collected()
        self.response.deliverBody(collected)
        return collected


class Collected(Protocol):
    """A body."""

    def __init__(self):
        self.data, self.reason = b"", None

    def dataReceived(self, data):
        self.data += data

    def connectionLost(self, reason):
        self.reason = reason.type


@implementer(IBodyProducer)
class Body:
    """A body that is written by the test."""

    def __init__(self, length=UNKNOWN_LENGTH, replays=0):
        self.length = length
        self.replays = replays
        self.done, self.events = Deferred(), []

    def startProducing(self, consumer):
        self.consumer = consumer
        return self.done

    def pauseProducing(self):
        self.events.append("pause")

    def resumeProducing(self):
        self.events.append("resume")

    def stopProducing(self):
        self.events.append("stop")

    def replay(self):
        self.replays -= 1
        self.done = Deferred()
        return self.replays >= 0


@pytest.fixture
def peer():
    return Peer()


def test_it_is_an_agent(peer):
    """And its answers are responses."""
    verifyObject(IAgent, peer.agent)
    asked = peer.ask()
    peer.accept().protocol.dataReceived(OK)
    verifyObject(IResponse, asked.response)


def test_a_question_and_its_answer(peer):
    """The head with a Host, the headers that were given, and the body back."""
    asked = peer.ask(headers=Headers({b"X-A": [b"1", b"2"]}))
    transport = peer.accept()
    assert transport.value() == b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
    transport.protocol.dataReceived(OK)
    response = asked.response
    assert (response.code, response.phrase, response.length) == (200, b"OK", 3)
    assert response.headers.getRawHeaders(b"content-length") == [b"3"]
    body = asked.read()
    assert (body.data, body.reason) == (b"abc", ResponseDone)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_an_answer_that_comes_in_parts(peer, cut):
    """Is the same, wherever it is cut; nothing is read ahead of who wants it."""
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    asked = peer.ask()
    transport = peer.accept()
    transport.protocol.dataReceived(answer[:cut])
    if asked.response is not None:
        assert transport.producerState == "paused"
        body = asked.read()
        assert transport.producerState == "producing"
        transport.protocol.dataReceived(answer[cut:])
    else:
        transport.protocol.dataReceived(answer[cut:])
        body = asked.read()
    assert (body.data, body.reason) == (b"abcde", ResponseDone)


class TestConnectionsAreKept:
    def test_for_the_next_question(self, peer):
        """One connection serves one request after the other."""
        for _ in range(3):
            asked = peer.ask()
            if not peer.transports:
                peer.accept()
            peer.transports[0].protocol.dataReceived(OK)
            assert asked.read().data == b"abc"
        assert peer.connecting == 1

    def test_not_for_long(self, peer):
        """Servers close what is idle; who asks then should not be the one to find out."""
        peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(OK)
        peer.reactor.advance(KEPT_SECONDS - 1)
        assert transport.connected
        peer.reactor.advance(2)
        assert not transport.connected
        assert not peer.reactor.getDelayedCalls()

    def test_one_that_is_not_kept_is_read_from_until_it_is_closed(self):
        """Over TLS it is closed when the server's close alert has been read, and not before."""
        peer = Peer()
        asked = peer.ask()
        transport = peer.accept()
        states = []
        transport.loseConnection = lambda: states.append(transport.producerState)
        # Nobody wants the body yet, so that reading is paused.
        whole = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        transport.protocol.dataReceived(whole[:-1])
        assert transport.producerState == "paused"
        transport.protocol.dataReceived(whole[-1:])  # which had been decrypted already
        assert asked.read().data == b"abc"
        assert states == ["producing"]

    def test_not_if_the_server_says_so(self, peer):
        """Connection: close, or an older version."""
        for head in (b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"):
            asked = peer.ask()
            transport = peer.accept()
            transport.protocol.dataReceived(head + b"Content-Length: 3\r\n\r\nabc")
            assert asked.read().reason is ResponseDone
            assert not transport.connected

    def test_not_if_they_were_lost(self, peer):
        """The next question goes to a new one."""
        peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(OK)
        transport.drop()
        peer.ask()
        assert peer.connecting == 2

    def test_one_that_speaks_unasked_is_not_trusted(self, peer):
        """What it says could be taken for the answer to what is asked next."""
        peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(OK)
        transport.abortConnection = lambda: None  # as it takes a while
        transport.protocol.dataReceived(OK)
        peer.ask()
        assert peer.connecting == 2

    def test_two_answers_to_one_question(self, peer):
        """The same in one read."""
        asked = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(OK + OK)
        assert not transport.connected
        assert asked.error is ResponseFailed

    def test_no_more_than_the_limit(self):
        """What is too much waits for its turn."""
        peer = Peer(most=2)
        asked = [peer.ask() for _ in range(5)]
        assert peer.connecting == 2
        first, second = peer.accept(), peer.accept()
        for transport in (first, second, first, second, first):
            transport.protocol.dataReceived(OK)
        assert [each.read().data for each in asked] == [b"abc"] * 5
        assert peer.connecting == 2

    def test_one_that_is_asked_again_takes_the_place_of_an_idle_one(self):
        """Which may be as dead as the one that was lost."""
        peer = Peer(most=1)
        peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(OK)
        again, other = peer.ask(), peer.ask()
        transport.drop()
        peer.accept().protocol.dataReceived(OK)
        peer.accept().protocol.dataReceived(OK)
        assert [each.read().data for each in (again, other)] == [b"abc"] * 2

    def test_who_gives_up_waiting_leaves_the_queue(self):
        """And does not get the connection that comes free."""
        peer = Peer(most=1)
        _first, second, third = [peer.ask() for _ in range(3)]
        second.deferred.cancel()
        assert second.error is CancelledError
        transport = peer.accept()
        transport.protocol.dataReceived(OK)
        transport.protocol.dataReceived(OK)
        assert third.read().data == b"abc"

    @pytest.mark.parametrize("reads_on", [False, True])
    def test_one_is_taken_back_from_who_does_not_read(self, reads_on):
        """When somebody has waited for it for a while, and nobody else has one to give."""
        peer = Peer(most=2)
        slow, busy = peer.ask(), peer.ask()
        body = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
        peer.accept().protocol.dataReceived(body)
        peer.accept().protocol.dataReceived(body)
        held, _ = slow.read(), busy.read()
        held.transport.pauseProducing()
        waits = peer.ask()
        if reads_on:
            held.transport.resumeProducing()
        peer.reactor.pump([HELD_SECONDS / 2, HELD_SECONDS / 2])
        assert held.reason is (None if reads_on else ConnectionReclaimed)
        assert peer.connecting == (2 if reads_on else 3)
        if not reads_on:
            peer.accept().protocol.dataReceived(OK)
            assert waits.read().data == b"abc"

    def test_none_is_taken_back_when_nobody_waits(self):
        """However long nothing is read of what comes over it."""
        peer = Peer(most=1)
        slow = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        held = slow.read()
        held.transport.pauseProducing()
        peer.reactor.pump([60.0] * 3)
        held.transport.resumeProducing()
        transport.protocol.dataReceived(b"def")
        assert (held.data, held.reason) == (b"abcdef", ResponseDone)

    def test_a_failed_one_makes_room(self):
        """Those who wait try again by themselves."""
        peer = Peer(most=1)
        first, second = peer.ask(), peer.ask()
        peer.refuse()
        assert first.error is ConnectionRefusedError
        peer.accept().protocol.dataReceived(OK)
        assert second.read().data == b"abc"


class TestAKeptConnectionThatIsClosed:
    """By a server that was restarted, just when the next request is on its way."""

    def kept(self, peer):
        peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(OK)
        return transport

    def test_a_question_is_asked_again(self, peer):
        """On a new connection, once."""
        transport = self.kept(peer)
        asked = peer.ask()
        transport.drop()
        peer.accept().drop()
        assert asked.error is ResponseNeverReceived
        assert peer.connecting == 2

    def test_a_body_that_can_start_over_does(self, peer):
        """From its first byte."""
        transport = self.kept(peer)
        body = Body(3, replays=1)
        asked = peer.ask(b"POST", body=body)
        body.consumer.write(b"ab")
        transport.drop()
        second = peer.accept()
        body.consumer.write(b"abc")
        body.done.callback(None)
        assert second.value().endswith(b"\r\n\r\nabc")
        second.protocol.dataReceived(OK)
        assert asked.read().data == b"abc"

    def test_an_answer_that_is_none_is_one(self, peer):
        """Who speaks, if only nonsense, has got the request: it is not sent again."""
        transport = self.kept(peer)
        asked = peer.ask()
        transport.protocol.dataReceived(b"nonsense\r\n")
        assert asked.error is ResponseFailed
        assert peer.connecting == 1

    def test_another_is_not_sent_by_half(self, peer):
        """Whoever has the body learns of it."""
        transport = self.kept(peer)
        body = Body(3)
        asked = peer.ask(b"POST", body=body)
        transport.drop()
        assert asked.error is ResponseNeverReceived
        assert body.events == ["stop"]


class TestUploads:
    def test_of_a_known_length(self, peer):
        """As it is written."""
        body = Body(5)
        asked = peer.ask(b"POST", body=body)
        transport = peer.accept()
        for piece in (b"ab", b"", b"cde"):
            body.consumer.write(piece)
        body.done.callback(None)
        assert transport.value().endswith(b"Content-Length: 5\r\n\r\nabcde")
        transport.protocol.dataReceived(OK)
        assert asked.read().reason is ResponseDone
        assert transport.connected

    def test_of_an_unknown_length(self, peer):
        """In chunks."""
        body = Body()
        peer.ask(b"POST", body=body)
        transport = peer.accept()
        body.consumer.write(b"ab")
        body.done.callback(None)
        assert transport.value().endswith(b"chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")

    @pytest.mark.parametrize("piece", [b"ab", b"abcd"])
    def test_of_another_length_than_was_said(self, peer, piece):
        """What comes next would be taken for the rest of it: the connection is broken."""
        body = Body(3)
        asked = peer.ask(b"POST", body=body)
        transport = peer.accept()
        body.consumer.write(piece)
        body.done.callback(None)
        assert asked.error is not None
        assert not transport.connected

    def test_that_fail(self, peer):
        """Break the connection, too."""
        body = Body(3)
        asked = peer.ask(b"POST", body=body)
        transport = peer.accept()
        body.done.errback(ValueError("it went wrong"))
        assert asked.error is not None
        assert not transport.connected

    def test_follow_the_pace_of_the_server(self, peer):
        """The transport says when it has enough."""
        body = Body()
        peer.ask(b"POST", body=body)
        transport = peer.accept()
        transport.producer.pauseProducing()
        transport.producer.resumeProducing()
        assert body.events == ["pause", "resume"]

    def test_that_are_answered_early_are_ended(self, peer):
        """The answer counts, and the connection is of no more use."""
        body = Body(1000)
        asked = peer.ask(b"POST", body=body)
        transport = peer.accept()
        body.consumer.write(b"abc")
        transport.protocol.dataReceived(b"HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n")
        assert asked.response.code == 507
        assert body.events == ["stop"]
        assert not transport.connected

    def test_with_no_body_say_so(self, peer):
        """RFC 9110, 8.6."""
        peer.ask(b"POST")
        assert b"Content-Length: 0\r\n" in peer.accept().value()


class TestAnswers:
    @pytest.mark.parametrize(
        ("method", "answer"),
        [
            (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
            (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
            (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
            (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ],
    )
    def test_without_a_body(self, peer, method, answer):
        """End with their head, and the connection is kept."""
        for _ in range(2):
            asked = peer.ask(method)
            if not peer.transports:
                peer.accept()
            peer.transports[0].protocol.dataReceived(answer)
            body = asked.read()
            assert (body.data, body.reason) == (b"", ResponseDone)
        assert peer.connecting == 1

    def test_that_come_first_but_are_none(self, peer):
        """100 and its like announce the answer."""
        asked = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\n")
        transport.protocol.dataReceived(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
        assert asked.response.code == 200
        assert asked.read().data == b"abc"

    def test_that_end_with_the_connection(self, peer):
        """May have been cut short: so it is said."""
        asked = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\nabc")
        body = asked.read()
        transport.drop()
        assert (body.data, body.reason) == (b"abc", PotentialDataLoss)

    @pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
    def test_that_break_off(self, peer, framing):
        """Are not whole."""
        asked = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n3\r\nabc\r\n")
        body = asked.read()
        transport.drop()
        assert body.reason is ResponseFailed

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD_BYTES,
            b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * MAX_HEAD_BYTES,
        ],
    )
    def test_that_are_none(self, peer, answer):
        """Are refused, and the connection is not used again."""
        asked = peer.ask()
        transport = peer.accept()
        for start in range(0, len(answer), 4096):
            if transport.connected:
                transport.protocol.dataReceived(answer[start : start + 4096])
        assert asked.error is ResponseFailed
        assert not transport.connected

    def test_a_chunk_that_is_none(self, peer):
        """Ends a body that has begun well."""
        asked = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        body = asked.read()
        transport.protocol.dataReceived(b"3\r\nabc\r\nzz\r\n")
        assert body.reason is ResponseFailed
        assert not transport.connected

    def test_who_wants_no_more_of_it_breaks_the_connection(self, peer):
        """Nothing else could follow on it."""
        asked = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        body = asked.read()
        body.transport.stopProducing()
        assert not transport.connected

    def test_who_has_enough_with_the_last_byte_breaks_nothing(self, peer):
        """The answer has ended by then, and the connection serves the next question."""

        class Sated(Collected):
            def dataReceived(self, data):
                super().dataReceived(data)
                if self.data == b"abc":
                    self.transport.stopProducing()

        asked = peer.ask()
        transport = peer.accept()
        transport.protocol.dataReceived(OK[:-1])
        body = Sated()
        asked.response.deliverBody(body)
        transport.protocol.dataReceived(OK[-1:])
        assert (body.data, body.reason) == (b"abc", ResponseDone)
        assert transport.connected
        peer.ask()
        assert peer.connecting == 1


class TestGivingUp:
    def test_before_there_is_a_connection(self, peer):
        """And it is not made for nothing."""
        asked = peer.ask()
        asked.deferred.cancel()
        assert asked.error is CancelledError

    def test_before_there_is_an_answer(self, peer):
        """The server notices."""
        body = Body(3)
        asked = peer.ask(b"POST", body=body)
        transport = peer.accept()
        asked.deferred.cancel()
        assert asked.error is CancelledError
        assert not transport.connected
        assert body.events == ["stop"]

    def test_a_server_that_refuses(self, peer):
        """The error says why."""
        asked = peer.ask()
        peer.refuse()
        assert asked.error is ConnectionRefusedError

    @pytest.mark.parametrize("host", [b"127.0.0.1", b"[::1]"])
    def test_a_refusal_is_told_at_once(self, peer, host):
        """Of an address there is no other to be tried before that."""
        asked = Asked(peer.agent.request(b"GET", b"http://%s:1/" % host))
        address, port, factory, *_ = peer.reactor.tcpClients[0]
        assert (address, port) == (host.strip(b"[]").decode(), 1)
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        assert asked.error is ConnectionRefusedError

    @pytest.mark.parametrize("zone", [b"%25eth0", b"%eth0", b"%25e%74h0"])
    def test_a_zone_is_for_this_machine_alone(self, peer, zone):
        """It says through which interface to connect; the server does not hear of it."""
        asked = Asked(peer.agent.request(b"GET", b"http://[fe80::1%b]:4001/x" % zone))
        address, port, factory, *_ = peer.reactor.tcpClients[0]
        assert (address, port) == ("fe80::1%eth0", 4001)
        transport = Transport()
        transport.protocol = factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        assert b"Host: [fe80::1]:4001\r\n" in transport.value()
        asked.deferred.cancel()

    @ensureDeferred
    async def test_a_scheme_that_is_not_spoken(self, peer):
        """A failure like others."""
        failed = peer.agent.request(b"GET", b"ftp://x/")
        with pytest.raises(SchemeNotSupported, match="ftp"):
            await failed


def answer(request):
    """Say what was asked."""
    request.work = succeed(None)
    request.finish(request.method + b" " + request.uri)


def certificate(directory) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1; return its path and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(paths[0]), str(paths[1])


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
@ensureDeferred
async def test_treq_works_on_it(reactor, tmp_path, monkeypatch, kind):
    """Over real sockets of each kind, as over Twisted's own agent."""
    if kind == "unix":
        description = f"unix:{tmp_path}/s"
    else:
        description = "tcp:0:interface=127.0.0.1"
        if kind == "tls":
            chain, key = certificate(tmp_path)
            monkeypatch.setenv("SSL_CERT_FILE", chain)
            description = f"ssl:0:interface=127.0.0.1:certKey={chain}:privateKey={key}"
    port = await serverFromString(reactor, description).listen(Site(answer, reactor=reactor))
    agent = Agent(reactor)
    http = HTTPClient(agent)
    if kind == "unix":
        base = "http+unix://" + str(tmp_path / "s").replace("/", "%2F")
        response = await agent.request(b"GET", base.encode() + b"/a?b=c")
        assert await treq.content(response) == b"GET /a?b=c"
    else:
        base = f"{'https' if kind == 'tls' else 'http'}://127.0.0.1:{port.getHost().port}"
        for _ in range(2):
            response = await http.get(f"{base}/a", params={"b": "c"})
            assert await response.text() == "GET /a?b=c"
        response = await http.post(f"{base}/a", data=b"x" * 100_000)
        assert response.code == 200
    await agent.close()
    await port.stopListening()
