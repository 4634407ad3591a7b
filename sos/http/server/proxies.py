"""Trusted proxies, and the client address in their forwarding headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from twisted.internet.address import IPv4Address as TCPv4
from twisted.internet.address import IPv6Address as TCPv6
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from sos.model.addresses import UNIX_PEERS

# RFC 9110, 5.6.2 and 5.6.4.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"((?:[\t !\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+)"'
# RFC 7239, 4: one pair of an element, or none, and its end.  Some proxies put blanks around
# semicolons, which the RFC does not permit; they are ignored.
_PAIR = re.compile(rb"[ \t]*+(?:(%b)=(?:(%b)|%b)[ \t]*+)?([;,]|\Z)" % (_TOKEN, _TOKEN, _QUOTED))
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_PORT = rb"(?::[0-9]{1,5})?"
# RFC 7239, 6: an IPv6 address is in brackets, and a port can be obfuscated.
_NODE = re.compile(rb"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5}|:_[A-Za-z0-9._-]+)?")
# X-Forwarded-For has no standard: addresses as nginx, HAProxy, Caddy, Envoy and Azure write them.
_HOP = re.compile(rb"(?:([0-9.]+)%b|\[([0-9A-Fa-f:.]+)\]%b|([0-9A-Fa-f:.]+))" % (_PORT, _PORT))
# For a client that the proxy does not name: RFC 7239, 6.2.
_UNKNOWN = b"unknown"


class Proxies:
    """The proxies that ``trusted-proxies`` lists.

    Only addresses that one of these proxies has added are trusted.

    :param listed: addresses, networks, and ``unix``, as :func:`sos.model.addresses.proxies`
        returns them.
    """

    def __init__(self, listed: str) -> None:
        names = listed.split(",")
        self._networks = [ip_network(each) for each in names if each != UNIX_PEERS]
        self._unix = UNIX_PEERS in names
        self._lists = lru_cache(maxsize=1024)(self._look_up)

    def __contains__(self, address: IAddress | None) -> bool:
        if isinstance(address, UNIXAddress):
            return self._unix
        host = getattr(address, "host", None)
        return host is not None and self._lists(host)

    def _look_up(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])  # without the zone
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._networks)

    def client(self, peer: IAddress | None, headers: Mapping[bytes, bytes]) -> IAddress | None:
        """Return the address of the client: *peer*, unless that is one of these proxies.

        Each proxy appends the address of its own peer to ``X-Forwarded-For`` or ``Forwarded``.
        So the client is the last address there that is not a proxy's.  If that address is
        missing or malformed, the result is the last known proxy.

        A proxy writes one of the two headers, and may pass on the other as its client sent it.
        If they name different clients, neither is trusted.

        :param headers: by their names in lower case.
        """
        if peer not in self:
            return peer
        found: set[IAddress | None] = set()
        if (value := headers.get(b"x-forwarded-for")) is not None:
            found.add(self._last_client(peer, _hops(value), _HOP))
        if (value := headers.get(b"forwarded")) is not None:
            found.add(self._last_client(peer, _nodes(value), _NODE))
        return found.pop() if len(found) == 1 else peer

    def _last_client(
        self, peer: IAddress | None, names: list[bytes], pattern: re.Pattern[bytes]
    ) -> IAddress | None:
        client = peer
        for name in reversed(names):
            address = _address(name, pattern) if client in self else None
            if address is None:
                break
            client = address
        return client


def _hops(value: bytes) -> list[bytes]:
    """Return the items of ``X-Forwarded-For``."""
    return [hop for each in value.split(b",") if (hop := each.strip(b" \t"))]


def _nodes(value: bytes) -> list[bytes]:
    """Return the ``for`` of each element of ``Forwarded``; only "unknown" if it is malformed."""
    nodes: list[bytes] = []
    pairs: dict[bytes, bytes] = {}
    position = 0
    end = b";"
    while end:
        found = _PAIR.match(value, position)
        if found is None:
            return [_UNKNOWN]
        name, token, quoted, end = found.groups()
        if name is not None:
            name = name.lower()
            if name in pairs:  # RFC 7239, 4
                return [_UNKNOWN]
            pairs[name] = token if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        if end != b";" and pairs:
            nodes.append(pairs.get(b"for", _UNKNOWN))
            pairs = {}
        position = found.end()
    return nodes


def _address(name: bytes, pattern: re.Pattern[bytes]) -> IAddress | None:
    """Return the address in *name*, as a proxy has written it; None if it is not an address."""
    found = pattern.fullmatch(name)
    return None if found is None else address_of(next(filter(None, found.groups())).decode("ascii"))


def address_of(value: str | bytes, port: int = 0) -> IAddress | None:
    """Parse an IPv4 or IPv6 address, text or packed; return None if *value* is not an address."""
    try:
        address = ip_address(value)
    except ValueError:
        return None
    kind = TCPv6 if isinstance(address, IPv6Address) else TCPv4
    return kind("TCP", str(address), port)
