"""Hosts of a network that is in this machine, whose cables can be pulled out.

Each is a network namespace with an address of its own, at a bridge that this
host is on as well.  Linux, root and iproute2 are needed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# Namespaces and links begin so, and go on with the process that made them.
_PREFIX = "sosf"


class Network:
    """A bridge with *count* hosts.

    :param second: the second byte of all addresses, which are 10.x.0.0/24.
    """

    def __init__(self, count: int, second: int = 213) -> None:
        _remove_leftovers()
        self._bridge = f"{_PREFIX}{os.getpid()}"
        self._prefix = f"10.{second}.0"
        self._count = count
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self._prefix}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for number in range(count):
            self._add(number)

    def _add(self, number: int) -> None:
        name, cable = self._host(number), self._cable(number)
        _ip("netns", "add", name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", self._bridge, "up")
        _ip("-n", name, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")

    def _host(self, number: int) -> str:
        return f"{self._bridge}-{number}"

    def _cable(self, number: int) -> str:
        return f"{self._bridge}v{number}"

    def address(self, number: int) -> str:
        return f"{self._prefix}.{10 + number}"

    def within(self, number: int) -> tuple[str, ...]:
        """Return what a command is started by to run on a host."""
        return ("ip", "netns", "exec", self._host(number))

    def cut(self, number: int) -> None:
        """Lose all packets to and from a host, without anybody being told."""
        _ip("link", "set", self._cable(number), "nomaster")

    def mend(self, number: int) -> None:
        _ip("link", "set", self._cable(number), "master", self._bridge)

    def remove(self) -> None:
        for number in range(self._count):
            _ip("netns", "delete", self._host(number))
        _ip("link", "delete", self._bridge)


def _remove_leftovers() -> None:
    """Remove what processes that have been killed have left."""
    for line in _ip("-o", "link", "show", "type", "bridge").splitlines():
        name = line.split()[1].rstrip(":")
        owner = name.removeprefix(_PREFIX)
        if owner != name and owner.isdigit() and not Path("/proc", owner).exists():
            for host in _ip("netns", "list").split():
                if host.startswith(f"{name}-"):
                    _ip("netns", "delete", host)
            _ip("link", "delete", name)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def make(count: int) -> Network:
    """Return a network of *count* hosts, or skip the test where none can be made."""
    try:
        return Network(count)
    except OSError as error:
        pytest.skip(f"network namespaces need root and iproute2: {error}")
