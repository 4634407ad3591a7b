"""Between two programs: passes on what they send each other, and sees who closes."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread

_READ = 256 * 1024


class Relay:
    """Listens at *port*, and connects to *target* for each connection; both of this machine.

    :ivar cut: whether a connection is closed when its second request comes, as by a server
        whose idle time was over.
    :ivar closed: who has closed each connection that has ended: client, server, cut.
    """

    def __init__(self, port: int, target: int) -> None:
        self.cut = False
        self.closed: list[str] = []
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", port), backlog=100)
        Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                _Connection(self, client, socket.create_connection(("127.0.0.1", self._target)))


class _Connection:
    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._answered = self._ended = False
        for arguments in (("client", client, server), ("server", server, client)):
            Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, name: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_READ):
                if name == "server":
                    self._answered = True
                elif self._answered and self._relay.cut:
                    self._end("cut")
                    target.shutdown(socket.SHUT_RDWR)
                    source.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(data)
        self._end(name)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _end(self, name: str) -> None:
        if not self._ended:
            self._ended = True
            self._relay.closed.append(name)
