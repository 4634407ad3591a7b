"""Status messages to the service manager: the protocol of sd_notify(3).

Each message is a datagram to the socket that ``$NOTIFY_SOCKET`` names, with a variable on
each line.  ``$WATCHDOG_USEC`` is the watchdog timeout in microseconds: if the daemon sends
no message for so long, the service manager assumes that it hangs.
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
    """Notifies the service manager that the daemon is ready, alive, or stopping.

    No service that it waits for may come after it: its start means that the daemon is ready.
    Without a service manager it does nothing.

    :param environment: the environment variables.
    """

    def __init__(self, environment: Mapping[str, str], reactor: Any) -> None:
        self._reactor = reactor
        self._next: IDelayedCall | None = None
        # Connect now: after a chroot the path of the socket is not reachable.
        self._socket = _connected(environment.get("NOTIFY_SOCKET", ""))
        self._every = _watchdog(environment)

    def startService(self) -> None:
        super().startService()
        if self._socket is not None:
            # Once the reactor runs, the daemon answers requests.
            self._reactor.callWhenRunning(self._ready)

    def _ready(self) -> None:
        # When twistd goes to the background, the process id changes.
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
        # A service manager that does not read must not block the daemon.
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(state.encode("ascii"), socket.MSG_DONTWAIT)


def _connected(address: str) -> socket.socket | None:
    """Return a socket connected to *address*, which is abstract if it starts with @."""
    if not address:
        return None
    notifying = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        notifying.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        _log.warn(
            "cannot connect to the service manager, it gets no notifications: "
            "socket={address} reason={error}",
            address=address,
            error=error,
        )
        notifying.close()
        return None
    return notifying


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Return the seconds between watchdog messages, half the timeout; None without one."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not (microseconds.isascii() and microseconds.isdigit()) or meant != str(os.getpid()):
        return None
    return int(microseconds) / 2 / 1_000_000 or None
