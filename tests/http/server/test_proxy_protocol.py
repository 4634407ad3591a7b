"""The PROXY protocol: connections that a proxy passes on, and says whose they are."""

from __future__ import annotations

import socket
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent

from sos.http.server.connection import HEAD_SECONDS, IDLE_SECONDS
from sos.http.server.proxies import Proxies
from sos.http.server.proxy_protocol import Proxied, read_header
from sos.http.server.site import Site
from sos.http.tls import Secured, server_tls
from tests.support.certificates import Authority
from tests.support.conversation import Transport, parse_answers, request

PROXY, STRANGER = "10.0.0.5", "203.0.113.9"
PROXIES = Proxies("10.0.0.0/8,127.0.0.1")
GET = request("GET", "/")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, kind: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, kind, len(rest)) + rest


V4 = socket.inet_aton("198.51.100.7") + socket.inet_aton("10.0.0.9") + struct.pack("!HH", 4711, 80)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 4711, 80)
TLVS = b"\x04\x00\x03abc" * 200

GOOD = [
    (b"PROXY TCP4 198.51.100.7 10.0.0.9 4711 80\r\n", "198.51.100.7"),
    (b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 what ever 1\r\n", None),
    (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),
    (v2(0x21, 0x11, V4), "198.51.100.7"),
    (v2(0x21, 0x11, V4 + TLVS), "198.51.100.7"),
    (v2(0x21, 0x21, V6), "2001:db8::7"),
    (v2(0x21, 0x31, bytes(216)), None),
    (v2(0x21, 0x12, V4), None),
    (v2(0x21, 0x00, b""), None),
    (v2(0x21, 0x01, b"x" * 50), None),
    (v2(0x20, 0x00, b""), PROXY),
    (v2(0x20, 0x11, V4), PROXY),
    (v2(0x20, 0xFF, b"abc"), PROXY),
    (b"", PROXY),
]
BAD = [
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY TCP4 198.51.100.7 10.0.0.9 4711\r\n",
    b"PROXY TCP4 198.51.100.7 10.0.0.9 4711 80 \r\n",
    b"PROXY  TCP4 198.51.100.7 10.0.0.9 4711 80\r\n",
    b"PROXY TCP4 198.51.100.7 10.0.0.9 4711 80\n\r\n",
    b"PROXY TCP4 198.51.100.7 10.0.0.9 65536 80\r\n",
    b"PROXY TCP4 198.51.100.7 10.0.0.9 04711 80\r\n",
    b"PROXY TCP4 198.51.100.7 10.0.0.9 -1 80\r\n",
    b"PROXY TCP4 198.51.100.256 10.0.0.9 1 80\r\n",
    b"PROXY TCP4 198.51.100.07 10.0.0.9 1 80\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 4711 80\r\n",
    b"PROXY TCP6 198.51.100.7 10.0.0.9 4711 80\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 4711 80\r\n",
    b"PROXY UDP4 198.51.100.7 10.0.0.9 4711 80\r\n",
    b"PROXY UNKNOWN" + b" " * 93 + b"\r\n",
    b"PROXY " + b"x" * 101,
    v2(0x11, 0x11, V4),
    v2(0x22, 0x11, V4),
    v2(0x21, 0x41, V4),
    v2(0x21, 0x13, V4),
    v2(0x21, 0x11, V4[:11]),
    v2(0x21, 0x21, V6[:35]),
    v2(0x21, 0x31, bytes(215)),
    v2(0x21, 0x11, bytes(16 * 1024 - 15)),
    v2(0x20, 0x00, bytes(65535)),
]


class Front:
    """A site behind an endpoint for proxies, whose answers tell who has asked."""

    def __init__(self, handler=None, max_connections=100):
        self.reactor = MemoryReactorClock()
        self.site = Site(
            handler or self._answer_peer, max_connections, reactor=self.reactor, proxies=PROXIES
        )
        endpoint = TCP4ServerEndpoint(self.reactor, 1)
        Proxied(endpoint, PROXIES, self.reactor, IDLE_SECONDS).listen(self.site)
        ((_, self.factory, *_),) = self.reactor.tcpServers
        self.factory.doStart()

    @staticmethod
    def _answer_peer(request):
        request.finish(str(getattr(request.getClientAddress(), "host", None)).encode())

    def connect(self, host=PROXY):
        address = IPv4Address("TCP", host, 1)
        transport = Transport(peerAddress=address)
        transport.protocol = self.factory.buildProtocol(address)
        transport.protocol.makeConnection(transport)
        return transport

    def peer_for(self, data, host=PROXY):
        """Send *data*, and a request; return who is taken for its client."""
        transport = self.connect(host)
        transport.protocol.dataReceived(data + GET)
        self.reactor.advance(0)
        return parse_answers(transport.value())[0].body.decode()


@pytest.fixture
def front():
    return Front()


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_the_client_is_the_one_that_is_named(front, header, client):
    """By both versions; none where the proxy does not say, the proxy where it speaks for itself."""
    assert front.peer_for(header) == str(client)


@pytest.mark.parametrize(("header", "client"), GOOD)
def test_however_it_is_cut_into_reads(front, header, client):
    """Byte by byte, with the request behind it."""
    transport = front.connect()
    for byte in header + GET:
        transport.protocol.dataReceived(bytes([byte]))
    front.reactor.advance(0)
    assert parse_answers(transport.value())[0].body.decode() == str(client)


@pytest.mark.parametrize("header", BAD)
def test_a_malformed_header_ends_the_connection(front, header):
    """The log says whose it was, and what is wrong."""
    transport = front.connect()
    with capturedLogs() as logs:
        transport.protocol.dataReceived(header + GET)
    assert transport.aborted
    assert not transport.value()
    (line,) = [formatEvent(event) for event in logs]
    assert "PROXY header refused" in line
    assert f"proxy={PROXY} reason=" in line
    assert not front.reactor.getDelayedCalls()[1:]  # but the site's own


@pytest.mark.parametrize("header", [header for header, _ in GOOD if header])
def test_of_anybody_else_it_is_a_bad_request(front, header):
    """As all that is no HTTP."""
    transport = front.connect(STRANGER)
    transport.protocol.dataReceived(header + GET)
    front.reactor.advance(0)
    assert [each.status for each in parse_answers(transport.value())] == [400]


def test_headers_of_a_client_that_is_named_are_not_believed(front):
    """Unless it is a proxy, too; nor those of a client that is not named."""
    claim = request("GET", "/", None, b"X-Forwarded-For: 192.0.2.1")
    for name, client in (("198.51.100.7", "198.51.100.7"), (PROXY, "192.0.2.1")):
        transport = front.connect()
        transport.protocol.dataReceived(f"PROXY TCP4 {name} {PROXY} 1 1\r\n".encode() + claim)
        assert parse_answers(transport.value())[0].body.decode() == client
    transport = front.connect()
    transport.protocol.dataReceived(b"PROXY UNKNOWN\r\n" + claim)
    assert parse_answers(transport.value())[0].body == b"None"


def test_the_limit_for_one_address_is_for_the_client_that_is_named():
    """Not for the proxy."""
    front = Front(lambda request: None, max_connections=4)
    statuses = []
    for name in ("198.51.100.7", "198.51.100.7", "198.51.100.7", "198.51.100.8"):
        transport = front.connect()
        transport.protocol.dataReceived(f"PROXY TCP4 {name} {PROXY} 1 1\r\n".encode() + GET)
        statuses.append([each.status for each in parse_answers(transport.value())])
    assert statuses == [[], [], [503], []]


def test_a_connection_that_does_not_begin_is_closed(front):
    """When it has been idle for as long as any other may; a header that has begun has 20 s."""
    idle, begun = front.connect(), front.connect()
    front.reactor.advance(IDLE_SECONDS - HEAD_SECONDS - 1)
    begun.protocol.dataReceived(b"PROXY")
    front.reactor.advance(HEAD_SECONDS)
    assert (begun.aborted, idle.aborted) == (True, False)
    front.reactor.advance(1)
    assert idle.aborted


def test_connections_that_have_not_begun_are_closed_at_the_stop(front):
    """Nobody waits for them; so are those that are lost, and those that are too many."""
    lost = front.connect()
    lost.drop()
    waiting = [front.connect() for _ in range(513)]
    assert [each.aborted for each in waiting[:2]] == [True, False]
    front.factory.doStop()
    assert all(each.aborted for each in waiting)
    assert not lost.aborted
    assert not front.reactor.getDelayedCalls()


@given(
    st.sampled_from([b"", *(header for header, _ in GOOD), *BAD]),
    st.integers(0, 300),
    st.binary(max_size=300),
)
def test_any_bytes(header, cut, rest):
    """More that comes never changes what was read; nothing but a ValueError is raised."""
    data = header[:cut] + rest

    def read(data):
        try:
            return read_header(data)
        except ValueError as error:
            return str(error)

    found = [read(data[:size]) for size in range(len(data) + 1)]
    known = [each for each in found if each is not None]
    assert known == found[len(found) - len(known) :]
    assert len(set(known)) <= 1
    if known and not isinstance(known[0], str):
        assert known[0].size <= len(data)


@given(st.sampled_from([*(header for header, _ in GOOD), *BAD]), st.lists(st.integers(0, 400)))
def test_a_connection_ends_or_is_answered(header, cuts):
    """Whatever comes, in whatever pieces: nothing else is left of it, but what may yet come."""
    front = Front()
    transport = front.connect()
    data, start = header + GET, 0
    for end in [*sorted(cuts), len(data)]:
        if transport.connected:
            transport.protocol.dataReceived(data[start:end])
        start = max(start, end)
    front.reactor.advance(0)
    assert transport.aborted != bool(parse_answers(transport.value()))
    assert transport.aborted == (header in BAD)


@pytest.mark.parametrize("header", [GOOD[0], GOOD[6]], ids=["v1", "v2"])
@ensureDeferred
async def test_before_tls(reactor, tmp_path, header):
    """The header comes in clear, then the handshake: both in one write, or not."""
    authority = Authority(tmp_path, "ca")
    authority.issue("server")
    secured = server_tls(str(tmp_path / "server.pem"), str(tmp_path / "server.key"), None)
    site = Site(Front._answer_peer, reactor=reactor, proxies=PROXIES)
    bare = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
    endpoint = Secured(Proxied(bare, PROXIES, reactor, IDLE_SECONDS), secured)
    listening = await endpoint.listen(site)
    address = ("127.0.0.1", listening.getHost().port)

    def ask():
        context = ssl.create_default_context(cafile=authority.path)
        with socket.create_connection(address, 60) as plain:
            plain.sendall(header[0])
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
                client.sendall(request("GET", "/", None, b"Connection: close"))
                with client.makefile("rb") as answer:
                    return answer.read()

    answer = await deferToThread(ask)
    await listening.stopListening()
    await site.drain(0)
    assert parse_answers(answer)[0].body.decode() == header[1]
