"""A connection to a channel without a network: bytes in, bytes out, a clock to turn."""

from __future__ import annotations

import json

from attrs import define
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from sos.http.server.site import Site


def request(method: str, path: str, body: bytes | None = None, *headers: bytes) -> bytes:
    """Return the bytes of a request; *headers* are whole lines."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: x", *headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


class Transport(StringTransportWithDisconnection):
    """Remembers what a real one would have been told.

    :ivar room: bytes that may wait to be sent before the producer is paused.
    """

    half_closed = False
    aborted = False
    room: int | None = None
    waiting = 0

    def write(self, data):
        super().write(data)
        if self.room is not None:
            self.waiting += len(data)
            if self.waiting > self.room and self.producer is not None:
                self.producer.pauseProducing()

    def take(self):
        """Send all that waits, as when the client reads it."""
        self.waiting = 0
        if self.producer is not None:
            self.producer.resumeProducing()

    def loseWriteConnection(self):
        assert self.producer is None, "a transport with a producer does not close"
        self.half_closed = True

    def loseConnection(self):
        assert self.aborted or self.producer is None, "a transport with a producer does not close"
        super().loseConnection()

    def drop(self):
        """The client is gone."""
        super().loseConnection()

    def abortConnection(self):
        self.aborted = True
        self.loseConnection()


@define
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Conversation:
    """A client's connection to a server that *handler* answers for."""

    def __init__(self, handler, note=None):
        self.clock = Clock()
        self.site = Site(handler, reactor=self.clock, note=note)
        self.site.startFactory()
        self._connect()

    def _connect(self) -> None:
        self.transport = Transport()
        self.channel = self.site.buildProtocol(self.transport.getPeer())
        self.transport.protocol = self.channel
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> bytes:
        """Send *data*, and return what is answered to it."""
        before = len(self.transport.value())
        if self.transport.connected:
            self.channel.dataReceived(data)
            self.clock.advance(0)  # until it is no more its turn
        return self.transport.value()[before:]

    def ask(
        self, method: str, path: str, body: bytes | None = None, *lines: bytes, **headers: str
    ) -> Answer:
        """Ask one thing, with header *lines* or *headers*, and return the answer.

        On another connection, where the server has ended the one before.
        """
        if self.closed:
            self._connect()
        lines += tuple(
            f"{name.replace('_', '-')}: {value}".encode("latin-1")
            for name, value in headers.items()
        )
        data = self.send(request(method, path, body, *lines))
        (answer,) = parse_answers(data, to_head=method == "HEAD")
        return answer

    def answers(self, data: bytes) -> list[Answer]:
        """Send *data*, and return the answers to it."""
        return parse_answers(self.send(data))

    @property
    def closed(self) -> bool:
        """Whether the server has ended its side."""
        return not self.transport.connected or self.transport.half_closed

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([1.0] * int(seconds))


def parse_answers(data: bytes, to_head: bool = False) -> list[Answer]:
    """Take apart the answers in *data*: none of them to a HEAD, or the only one."""
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        headers = {}
        for line in fields:
            name, _, value = line.partition(b": ")
            assert name.lower() not in headers
            headers[name.lower()] = value
        body = b""
        if to_head:
            body, data = data, b""
        elif b"content-length" in headers:
            length = int(headers[b"content-length"])
            body, data = data[:length], data[length:]
        elif headers.get(b"transfer-encoding") == b"chunked":
            while True:
                size, _, data = data.partition(b"\r\n")
                piece, data = data[: int(size, 16)], data[int(size, 16) + 2 :]
                body += piece
                if not piece:
                    break
        answers.append(Answer(int(first.split()[1]), headers, body))
    return answers
