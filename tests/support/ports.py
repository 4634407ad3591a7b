"""Ports of this machine for the servers that tests start."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator
from functools import cache

# Below those that the system gives to connections (net.ipv4.ip_local_port_range).
_FIRST, _END = 10_000, 32_000
_BLOCK = 200


@cache
def _reserved() -> tuple[socket.socket, Iterator[int]]:
    """Reserve a block of ports for this process, which holds the first as a lock.

    Several processes run tests at once: each worker of pytest-xdist, and other runs.
    """
    bases = range(_FIRST, _END, _BLOCK)
    for number in range(len(bases)):
        base = bases[(os.getpid() + number) % len(bases)]
        lock = socket.socket()
        with contextlib.suppress(OSError):
            lock.bind(("127.0.0.1", base))
            lock.listen()
            return lock, itertools.cycle(range(base + 1, base + _BLOCK))
        lock.close()
    raise RuntimeError("all blocks of ports are taken by processes that run tests")


def free_ports(count: int) -> list[int]:
    """Return ports of this machine at which nobody listens, nor did a moment ago."""
    _, ports = _reserved()
    found: list[int] = []
    while len(found) < count:
        port = next(ports)
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("127.0.0.1", port))
            found.append(port)
    return found
