"""A server whose answers break off, over real sockets: each way that a body can be framed."""

from __future__ import annotations

from contextlib import asynccontextmanager

from attrs import define, frozen
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.support.conversation import Conversation


@frozen
class Cut:
    """How an answer ends.

    :param framing: what tells a reader where its body ends: its ``length``, its last
        ``chunk``, or the end of the connection, ``close``.
    :param sent: how much of the body is: ``none``, ``half``, ``most`` (all but a byte), or
        ``all``, of which only the end is not told; ``marker`` cuts what tells it in two.
    :param ending: ``closed``, in order; ``reset``; or, under TLS, ``torn``: without its
        closing alert.
    """

    framing: str
    sent: str
    ending: str

    def of(self, body: bytes) -> tuple[bytes, bytes]:
        """Return the header that frames *body*, and what is sent of it."""
        size = {"none": 0, "half": len(body) // 2, "most": len(body) - 1}.get(self.sent, len(body))
        part = body[:size]
        if self.framing == "length":
            return b"Content-Length: %d" % len(body), part
        if self.framing == "close":
            return b"Connection: close", part
        chunks = b"%x\r\n%s\r\n" % (len(part), part) if part else b""
        if self.sent == "half":  # in the middle of a chunk
            chunks = b"%x\r\n%s" % (len(body), part)
        return b"Transfer-Encoding: chunked", chunks + (b"0\r\n" if self.sent == "marker" else b"")

    def __str__(self) -> str:
        return f"{self.framing}-{self.sent}-{self.ending}"


@define
class Server:
    """Answers as a handler does, and breaks off what is asked for.

    :ivar cut: how; None to answer in full.
    :ivar wanted: breaks off the answers to requests whose first line has this in it, and to
        batches that ask for it.
    """

    handler: object
    cut: Cut | None = None
    wanted: bytes = b""

    def answer(self, head: bytes, request: bytes) -> tuple[bytes, bool]:
        """Return what is sent, and whether the connection ends then."""
        asked = request if head.startswith(b"POST /batch") else head.partition(b"\r\n")[0]
        whole = Conversation(self.handler).send(request)
        if self.cut is None or self.wanted not in asked or head.startswith(b"HEAD"):
            return whole, False
        fields, _, body = whole.partition(b"\r\n\r\n")
        kept = [each for each in fields.split(b"\r\n") if not each.startswith(b"Content-Length")]
        if any(each.startswith(b"Transfer-Encoding") for each in kept):
            kept = [each for each in kept if not each.startswith(b"Transfer-Encoding")]
            body = _joined(body)
        framing, part = self.cut.of(body)
        if self.cut.framing == "close":
            kept[0] = kept[0].replace(b"HTTP/1.1", b"HTTP/1.0")
        return b"\r\n".join([*kept, framing]) + b"\r\n\r\n" + part, True


def _joined(chunks: bytes) -> bytes:
    body = b""
    while True:
        size, _, chunks = chunks.partition(b"\r\n")
        if not int(size, 16):
            return body
        body += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]


class _Connection(Protocol):
    def __init__(self, server, reactor):
        self.server, self.reactor = server, reactor
        self.received = b""

    def dataReceived(self, data):
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        fields = dict(
            line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
        )
        whole = len(body) >= int(fields.get(b"content-length", 0))
        if b"transfer-encoding" in fields:
            whole = body.endswith(b"0\r\n\r\n")
        if not (blank and whole):
            return
        request, self.received = self.received, b""
        answer, ends = self.server.answer(head, request)
        self.transport.write(answer)
        if ends:
            # A turn later it is under TLS, and another one later on its way.
            self.reactor.callLater(0, self.reactor.callLater, 0, self._end)

    def _end(self):
        if self.server.cut.ending == "torn":
            self.transport.transport.loseConnection()
        elif self.server.cut.ending == "reset":
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()


@asynccontextmanager
async def cutting(server, reactor, certificate=None):
    """Let *server* answer while the block runs; gives its port.

    :param certificate: a context, for TLS.
    """
    factory = Factory.forProtocol(lambda: _Connection(server, reactor))
    factory.noisy = False
    if certificate is not None:
        factory = TLSMemoryBIOFactory(certificate, False, factory)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
