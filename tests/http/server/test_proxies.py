"""Whose request a proxy passes on, by the headers that it adds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from sos.http.server import access_log_lines
from sos.http.server.proxies import Proxies
from sos.http.server.site import Site
from sos.model import addresses
from tests.support.conversation import Conversation, Transport, request

PROXIES = Proxies(addresses.proxies("10.0.0.0/8, 2001:db8:1::/48, unix"))
PROXY = IPv4Address("TCP", "10.0.0.5", 443)
STRANGER = IPv4Address("TCP", "203.0.113.9", 443)
CLIENT = "198.51.100.7"


def client_of(peer, **headers):
    fields = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return getattr(PROXIES.client(peer, fields), "host", None)


@pytest.mark.parametrize(
    "peer",
    [
        PROXY,
        IPv4Address("TCP", "10.255.255.255", 1),
        IPv6Address("TCP", "::ffff:10.0.0.5", 1),
        IPv6Address("TCP", "2001:db8:1:ffff::1", 1),
        UNIXAddress(""),
        UNIXAddress(None),
    ],
    ids=repr,
)
def test_who_is_listed_is_believed(peer):
    """An address of a network, also as a socket for both families has it; and Unix sockets."""
    assert client_of(peer, x_forwarded_for=CLIENT.encode()) == CLIENT


@pytest.mark.parametrize(
    "peer",
    [STRANGER, IPv4Address("TCP", "11.0.0.5", 1), IPv6Address("TCP", "2001:db8:2::1", 1), None],
    ids=repr,
)
def test_nobody_else_is_believed(peer):
    """Whatever it says, of itself or of proxies that are listed."""
    for value in (CLIENT, "10.0.0.5", f"{CLIENT}, 10.0.0.5"):
        forwarded = value.replace(", ", ",for=").encode()
        found = client_of(peer, x_forwarded_for=value.encode(), forwarded=b"for=" + forwarded)
        assert found == getattr(peer, "host", None)


def test_a_unix_socket_is_not_believed_unless_it_is_listed():
    """Who can open it may be anybody."""
    peer = UNIXAddress("")
    headers = {b"x-forwarded-for": CLIENT.encode()}
    assert Proxies("10.0.0.0/8").client(peer, headers) is peer


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"198.51.100.7", CLIENT),
        (b"1.2.3.4, 198.51.100.7", CLIENT),
        (b"1.2.3.4,198.51.100.7 , 10.9.9.9,\t10.8.8.8", CLIENT),
        (b"198.51.100.7:61234", CLIENT),
        (b"[2001:DB8::7]:443", "2001:db8::7"),
        (b"[2001:db8::7]", "2001:db8::7"),
        (b"2001:db8::7, 2001:db8:1::1", "2001:db8::7"),
        (b"10.0.0.6, 10.0.0.7", "10.0.0.6"),
        (b"198.51.100.7,,", CLIENT),
        (b"", "10.0.0.5"),
        (b" , ", "10.0.0.5"),
        (b"unknown", "10.0.0.5"),
        (b"198.51.100.7, unknown", "10.0.0.5"),
        (b"198.51.100.7, unknown, 10.0.0.6", "10.0.0.6"),
        (b"198.51.100.07", "10.0.0.5"),
        (b"198.51.100.7:", "10.0.0.5"),
        (b"198.51.100.7:123456", "10.0.0.5"),
        (b"0x7f.1", "10.0.0.5"),
        (b"fe80::1%eth0", "10.0.0.5"),
        (b"[::1", "10.0.0.5"),
        (b"\xff, \x00", "10.0.0.5"),
        ("١.٢.٣.٤".encode(), "10.0.0.5"),
    ],
)
def test_x_forwarded_for(value, client):
    """The last that is no proxy's; where that cannot be read, the last proxy that is known."""
    assert client_of(PROXY, x_forwarded_for=value) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"for=198.51.100.7", CLIENT),
        (b"For=198.51.100.7;proto=https;by=10.0.0.5", CLIENT),
        (b"proto=https; for=198.51.100.7", CLIENT),
        (b'for="198.51.100.7:4711"', CLIENT),
        (b'for="198.51.100.7:_port"', CLIENT),
        (b'for="\\198.51.100.7"', CLIENT),
        (b'for="[2001:db8::7]:4711"', "2001:db8::7"),
        (b'for=1.2.3.4, for=198.51.100.7, for="[2001:db8:1::1]"', CLIENT),
        (b'for=1.2.3.4;by="a,for=1.1.1.1;", ,for=198.51.100.7;x="\\"," ,', CLIENT),
        (b"for=198.51.100.7, for=unknown", "10.0.0.5"),
        (b"for=198.51.100.7, for=_hidden, for=10.0.0.6", "10.0.0.6"),
        (b"for=198.51.100.7, proto=https", "10.0.0.5"),
        (b"for=198.51.100.7:80", "10.0.0.5"),
        (b"for=2001:db8::7", "10.0.0.5"),
        (b'for="2001:db8::7"', "10.0.0.5"),
        (b"for = 198.51.100.7", "10.0.0.5"),
        (b'for=", for=198.51.100.7', "10.0.0.5"),
        (b"for=1.2.3.4;for=198.51.100.7", "10.0.0.5"),
        (b"198.51.100.7", "10.0.0.5"),
        (b"for=", "10.0.0.5"),
        (b"", "10.0.0.5"),
        (b" " * 16000 + b"!", "10.0.0.5"),
    ],
)
def test_forwarded(value, client):
    """As RFC 7239 has it: quoted where it has to be, each parameter once in an element."""
    assert client_of(PROXY, forwarded=value) == client


def test_two_headers_that_differ():
    """One of them can be the client's own, so neither is believed."""
    same = {"x_forwarded_for": CLIENT.encode(), "forwarded": f"for={CLIENT}".encode()}
    assert client_of(PROXY, **same) == CLIENT
    for forged in ({"x_forwarded_for": b"1.2.3.4"}, {"forwarded": b"for=1.2.3.4"}):
        assert client_of(PROXY, **same | forged) == "10.0.0.5"


#: What may stand in a header, and what a client that knows the grammar would send.
VALUES = st.binary(max_size=60) | st.lists(
    st.sampled_from(
        [b"for=", b'"', b",", b";", b" ", b"\\", b"=", b"by=a", b"1.2.3.4", b"[::1]", b"10.0.0.6"]
    ),
    max_size=20,
).map(b"".join)


@given(VALUES)
def test_a_client_cannot_pass_for_another(sent):
    """Whatever it sends, the proxy adds its address behind: that is found, or the proxy."""
    added = f"{CLIENT}, 10.0.0.6".encode()
    assert client_of(PROXY, x_forwarded_for=b"%b, %b" % (sent, added)) == CLIENT
    value = b'%b, for=%b, for="10.0.0.6:1"' % (sent, CLIENT.encode())
    assert client_of(PROXY, forwarded=value) in (CLIENT, "10.0.0.5")


@pytest.mark.parametrize(("peer", "logged"), [(PROXY, CLIENT), (STRANGER, "203.0.113.9")])
def test_access_logs_tell_the_client(peer, logged):
    """Both kinds; a stranger's header changes nothing."""
    notes = []

    def note(request, seconds):
        notes.append(access_log_lines.combined(request, seconds, 0))
        notes.append(json.loads(access_log_lines.as_json(request, seconds, 0))["peer"])

    talk = Conversation(lambda request: request.finish(b""), note)
    talk.site.proxies = PROXIES
    channel = talk.site.buildProtocol(peer)
    channel.makeConnection(Transport(peerAddress=peer))
    channel.dataReceived(request("GET", "/", None, f"X-Forwarded-For: {CLIENT}".encode()))
    assert notes[0].startswith(f"{logged} - - ")
    assert notes[1] == logged


@pytest.mark.parametrize(("peer", "room"), [(PROXY, 4), (STRANGER, 2)])
def test_a_proxy_may_have_all_connections(peer, room):
    """For it can be all clients; half of them is for one client."""
    site = Site(lambda request: None, 4, proxies=PROXIES)
    admitted = []
    for _ in range(5):
        channel = site.buildProtocol(peer)
        channel.makeConnection(Transport(peerAddress=peer))
        channel.busy = True
        admitted.append(bool(channel.limits))
    assert admitted == [True] * room + [False] * (5 - room)


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("10.0.0.5", "10.0.0.5"),
        (" 10.0.0.5/32 ,10.1.0.0/255.255.0.0, unix,10.0.0.5", "10.0.0.5,10.1.0.0/16,unix"),
        ("2001:DB8:0::/32, ::1", "2001:db8::/32,::1"),
    ],
)
def test_what_can_be_listed(text, listed):
    """Each once, in its normal form."""
    assert addresses.proxies(text) == listed
    assert addresses.proxies(listed) == listed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("proxy.example", "neither an address"),
        ("10.0.0.5,", "neither an address"),
        ("10.0.0", "neither an address"),
        ("10.0.0.1/33", "neither an address"),
        ("*", "neither an address"),
        ("10.0.0.5/8", "10.0.0.0/8"),
        ("0.0.0.0/0", "all clients"),
        ("::/0", "all clients"),
        ("::ffff:10.0.0.5", "IPv4"),
        ("fe80::1%eth0", "zone"),
    ],
)
def test_what_cannot_be_listed(text, reason):
    """The error says what to do."""
    with pytest.raises(ValueError, match=reason):
        addresses.proxies(text)
