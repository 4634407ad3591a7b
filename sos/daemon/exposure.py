"""Who can reach an endpoint: only this machine, or others."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

from twisted.internet.endpoints import serverFromString

#: A socket in the file system: whoever its mode lets in, a proxy for one.
UNIX = "unix"
#: The processes of this machine.
LOOPBACK = "loopback"
#: Whoever the network lets through; also what is not known.
OTHERS = "others"

# Where an endpoint has its interface among the arguments that are given without a name.
_INTERFACES = {"tcp": 1, "tcp6": 2, "ssl": 4}


def reach(endpoint: str) -> str:
    """Return who can reach *endpoint*, a string of Twisted's that is one."""
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
    """Return who can reach a socket that systemd has opened."""
    from twisted.internet import reactor

    descriptor = serverFromString(reactor, endpoint).fileno
    try:
        with socket.socket(fileno=os.dup(descriptor)) as opened:
            if opened.family == socket.AF_UNIX:
                return UNIX
            return LOOPBACK if _is_loopback(opened.getsockname()[0]) else OTHERS
    except OSError:  # it is none, which is told when it is to listen
        return OTHERS
