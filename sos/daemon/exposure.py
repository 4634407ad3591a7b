"""Which machines can reach an endpoint: only this one, or others."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

from twisted.internet.endpoints import serverFromString

#: A socket in the file system: processes that its mode permits, such as a proxy.
UNIX = "unix"
#: All processes of this machine.
LOOPBACK = "loopback"
#: Other machines, or unknown.
OTHERS = "others"

# The index of the interface among an endpoint's positional arguments.
_INTERFACES = {"tcp": 1, "tcp6": 2, "ssl": 4}


def reach(endpoint: str) -> str:
    """Return who can reach *endpoint*, a valid endpoint string of Twisted."""
    kind, *arguments = endpoint.replace("\\:", "\0").split(":")
    if kind == "unix":
        return UNIX
    if kind == "systemd":
        return _reach_of_socket(endpoint)
    if kind not in _INTERFACES:
        return OTHERS
    hosts = [each.removeprefix("interface=") for each in arguments if "interface=" in each]
    hosts += [each for each in arguments if "=" not in each][_INTERFACES[kind] :][:1]
    local = hosts and all(_is_loopback(host.replace("\0", ":")) for host in hosts)
    return LOOPBACK if local else OTHERS


def _is_loopback(host: str) -> bool:
    """Return whether *host*, a name or an address, is a loopback address of this machine."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _reach_of_socket(endpoint: str) -> str:
    """Return who can reach a socket that systemd opened."""
    from twisted.internet import reactor

    descriptor = serverFromString(reactor, endpoint).fileno
    try:
        with socket.socket(fileno=os.dup(descriptor)) as opened:
            if opened.family == socket.AF_UNIX:
                return UNIX
            return LOOPBACK if _is_loopback(opened.getsockname()[0]) else OTHERS
    except OSError:  # not a socket; listening on it will raise an error
        return OTHERS
