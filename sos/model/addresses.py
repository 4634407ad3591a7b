"""Servers' URLs, hosts, proxies and origins: from text to a checked, normal form.

Each function raises ValueError for text that is not valid.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, IPv6Network, ip_network
from urllib.parse import urlsplit

#: In trusted-proxies, all clients of a Unix socket.
UNIX_PEERS = "unix"
# RFC 1123, 2.1; no connection to another name could succeed.
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(\.{_LABEL})*\.?")
# Names that a proxy or a container platform can give, underscores included.  A last label of
# digits would be part of an address.
_OWN_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9_-]{1,63}\.)*(?![0-9]+\Z)[a-z0-9_-]{1,63}")
# Pages of browser extensions and of applications have their own schemes.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]{0,30})://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?")
DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_SHOWN = 100
_LONGEST_URL = 2000


def server_url(text: str) -> str:
    """Return the normal form of a server's URL, or raise ValueError."""
    if len(text) > _LONGEST_URL:
        raise ValueError(
            f"{shown(text)} is too long: the URL of a server has at most {_LONGEST_URL} characters"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(
            f"{shown(text)} is not the URL of a server; write http://host:port"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown(text)} is not the URL of a server; write http://host:port")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL of a server must not contain a user or a password")
    if parts.query or parts.fragment:
        raise ValueError(
            f"the URL of a server must not contain a query or a fragment: {shown(text)}"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{shown(text)} contains characters that are not allowed in a URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if host == parts.hostname and not HOST.fullmatch(host):
        raise ValueError(
            f"{host[:100]!r} is not a host name: use letters, digits, hyphens and dots"
        )
    if port not in (None, DEFAULT_PORTS[parts.scheme]):
        host = f"{host}:{port}"
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def shown(text: str) -> str:
    """Quote the beginning of *text* for an error, without the password that a URL can contain."""
    _, at, behind = text.rpartition("@")
    return repr((f"...@{behind}" if at else behind)[:_LONGEST_SHOWN])


def hosts(text: str) -> str:
    """Names of this server, separated by commas, in lower case."""
    return ",".join(dict.fromkeys(_own_name(each.strip()) for each in text.split(",")))


def _own_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if _OWN_NAME.fullmatch(name) is None:
        raise ValueError(
            f"{text[:100]!r} is not a host name: leave out the scheme and the port; do not list IP "
            "addresses, which are always accepted"
        )
    return name


def proxies(text: str) -> str:
    """Addresses and networks of proxies, or ``unix``, separated by commas, in normal form."""
    return ",".join(dict.fromkeys(_proxy(each.strip()) for each in text.split(",")))


def _proxy(text: str) -> str:
    if text == UNIX_PEERS:
        return text
    try:
        network = ip_network(text)
    except ValueError:
        try:
            better = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f"{shown(text)} is neither an address, nor a network like 10.0.0.0/8, nor unix"
            ) from None
        raise ValueError(f"{text} is not a network address; the network is {better}") from None
    if "%" in text:
        raise ValueError(f"{shown(text)} contains a zone: remove it")
    if not network.prefixlen:
        raise ValueError(
            f"{text} includes all clients, who could then forge their addresses: list the proxies"
        )
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} is a mapped IPv4 address: write it as IPv4")
    return network.compressed.removesuffix(f"/{network.max_prefixlen}")


def origins(text: str) -> str:
    """Origins of pages, or ``*``, separated by commas, as browsers send them."""
    return ",".join(dict.fromkeys(_origin(each.strip()) for each in text.split(",")))


def _origin(text: str) -> str:
    """Return the serialization of an origin, without the default port (RFC 6454, 6.2)."""
    if text == "*":
        return text
    found = _ORIGIN.fullmatch(text.lower())
    try:
        if found is None:
            raise ValueError
        scheme, host, port = found.groups()
        if host.startswith("["):
            host = f"[{IPv6Address(host[1:-1])}]"
        elif not HOST.fullmatch(host):
            raise ValueError
        if port is None or int(port) == DEFAULT_PORTS.get(scheme):
            return f"{scheme}://{host}"
        if not 0 < int(port) < 65536:
            raise ValueError
        return f"{scheme}://{host}:{int(port)}"
    except ValueError:
        raise ValueError(
            f"{shown(text)} is not a web origin; write scheme://host or scheme://host:port, "
            "without a path, or *"
        ) from None


def host(text: str) -> str:
    """The name or the address of an interface to listen on."""
    if not text.isprintable() or len(text) > 254:
        raise ValueError(f"{shown(text)} is not a host name or an IP address")
    return text
