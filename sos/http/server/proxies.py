"""The proxies that are believed when they say whose requests they pass on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from twisted.internet.address import IPv4Address as TCPv4
from twisted.internet.address import IPv6Address as TCPv6
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress

from sos.model.config import UNIX_PEERS

# RFC 9110, 5.6.2 and 5.6.4.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"((?:[\t !\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+)"'
# RFC 7239, 4: one pair of an element, or none, and what ends it.  Blanks around semicolons,
# which the RFC does not have and some proxies send, mean nothing else.
_PAIR = re.compile(rb"[ \t]*+(?:(%b)=(?:(%b)|%b)[ \t]*+)?([;,]|\Z)" % (_TOKEN, _TOKEN, _QUOTED))
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_PORT = rb"(?::[0-9]{1,5})?"
# RFC 7239, 6: an IPv6 address is in brackets, and a port can be obfuscated.
_NODE = re.compile(rb"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5}|:_[A-Za-z0-9._-]+)?")
# X-Forwarded-For has no rule: addresses as nginx, HAProxy, Caddy, Envoy and Azure write them.
_HOP = re.compile(rb"(?:([0-9.]+)%b|\[([0-9A-Fa-f:.]+)\]%b|([0-9A-Fa-f:.]+))" % (_PORT, _PORT))
# Where the client is not told: RFC 7239, 6.2.
_UNKNOWN = b"unknown"


class Proxies:
    """Addresses of proxies, as ``trusted-proxies`` lists them.

    What a client says of itself is never believed: only what one of these has added.

    :param listed: addresses, networks, and ``unix``, as :func:`sos.model.config.proxies`
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
        """Return whose request *peer* has sent: its own unless it is one of these proxies.

        Each proxy adds the address that it was asked from at the end of ``X-Forwarded-For`` or
        ``Forwarded``.  So the client is the last address there that is not a proxy's.  Where
        that is not told, or cannot be read, it is the last proxy that is known.

        A proxy writes one of the two and may pass on the other as its client sent it.  Where
        they name different clients neither is believed.

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
    """Return what ``X-Forwarded-For`` lists."""
    return [hop for each in value.split(b",") if (hop := each.strip(b" \t"))]


def _nodes(value: bytes) -> list[bytes]:
    """Return what the elements of ``Forwarded`` have as ``for``; what is malformed is unknown."""
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
    """Return the address that a proxy calls *name*, None where it is none."""
    found = pattern.fullmatch(name)
    return None if found is None else address_of(next(filter(None, found.groups())).decode("ascii"))


def address_of(value: str | bytes, port: int = 0) -> IAddress | None:
    """Return the address of IPv4 or IPv6 that *value* is, text or packed; None if it is none."""
    try:
        address = ip_address(value)
    except ValueError:
        return None
    kind = TCPv6 if isinstance(address, IPv6Address) else TCPv4
    return kind("TCP", str(address), port)
