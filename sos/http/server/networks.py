"""The network of a client, by which its connections are counted."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from twisted.internet.interfaces import IAddress

# A client with one IPv6 address usually has all addresses with the same prefix (RFC 6177).
_OF_ONE_CLIENT = 64


def network_of(address: IAddress | None) -> str | None:
    """Return the network of *address*: an IPv4 address, or the first half of an IPv6 address.

    None for a Unix socket, which has no address.
    """
    host = getattr(address, "host", None)
    return None if host is None else _network_of(host)


@lru_cache(maxsize=1024)
def _network_of(host: str) -> str:
    address = ip_address(host)
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:  # from a socket that accepts IPv4 and IPv6
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> _OF_ONE_CLIENT << _OF_ONE_CLIENT))
