"""What a service manager is told of a daemon: the protocol of sd_notify(3).

A state is one datagram, a variable a line, to the socket that ``$NOTIFY_SOCKET``
names.  ``$WATCHDOG_USEC`` tells within how many microseconds the daemon has to be
heard of, again and again, or is taken to hang.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

_log = Logger()


class Notification(Service):
    """Tells that the daemon is ready, that it is alive, and that it stops.

    Make it the last of a daemon's services: it is ready when that has started.
    Where nobody wants to know it does nothing.

    :param environment: where the variables are.
    """

    def __init__(self, environment: Mapping[str, str], reactor: Any) -> None:
        self._reactor = reactor
        self._next: IDelayedCall | None = None
        # Connected now: after a chroot the socket's path leads nowhere.
        self._socket = _connected(environment.get("NOTIFY_SOCKET", ""))
        self._every = _watchdog(environment)

    def startService(self) -> None:
        super().startService()
        if self._socket is not None:
            # The reactor runs then, and answers what has come in meanwhile.
            self._reactor.callWhenRunning(self._ready)

    def _ready(self) -> None:
        # twistd may have gone to the background, as another process.
        self._send(f"READY=1\nMAINPID={os.getpid()}")
        if self._every is not None:
            self._beat(self._every)

    def _beat(self, every: float) -> None:
        self._send("WATCHDOG=1")
        self._next = self._reactor.callLater(every, self._beat, every)

    def stopService(self) -> None:
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        # A manager that does not read must not hold the daemon up.
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(state.encode("ascii"), socket.MSG_DONTWAIT)


def _connected(address: str) -> socket.socket | None:
    """Return a socket that leads to *address*; a name that begins with @ is abstract."""
    if not address:
        return None
    notifying = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        notifying.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        _log.warn("the service manager is told nothing: {error}", error=error)
        notifying.close()
        return None
    return notifying


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Return the seconds from sign of life to sign of life: half of what is allowed."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not (microseconds.isascii() and microseconds.isdigit()) or meant != str(os.getpid()):
        return None
    return int(microseconds) / 2 / 1_000_000 or None
