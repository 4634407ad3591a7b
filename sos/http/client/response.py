"""Responses, on the client's side."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

# Lengths of the names of the headers that matter here.
_LENGTHS = frozenset(map(len, ("Content-Length", "Transfer-Encoding", "Connection")))


class BodySource(Protocol):
    """The connection of an answer, as far as reading its body needs it."""

    def pause(self) -> None:
        """Stop reading from the server."""
        ...

    def resume(self) -> None:
        """Resume reading from the server."""
        ...

    def reader_paused(self) -> None:
        """Pause for the reader; the pool may take the connection back."""
        ...

    def reader_resumed(self) -> None:
        """Resume for the reader."""
        ...

    def abort(self) -> None:
        """Abort the connection."""
        ...


@implementer(IResponse)
class Response:
    """Answer to a request: its head, and its body, which a protocol receives.

    :ivar fields: the headers as received.
    """

    version = (b"HTTP", 1, 1)
    request: Any = None
    previousResponse: Any = None

    def __init__(
        self, connection: BodySource, code: int, phrase: bytes, fields: list[tuple[bytes, bytes]]
    ) -> None:
        self.connection: BodySource | None = connection
        self.code = code
        self.phrase = phrase
        self.fields = fields
        self.length: Any = UNKNOWN_LENGTH
        self.chunked = False
        self.keeps = True
        for name, value in fields:
            if len(name) not in _LENGTHS:
                continue  # a cheap test that excludes most names
            name = name.lower()
            if name == b"content-length":
                self.length = int(value)
            elif name == b"transfer-encoding":
                self.chunked = True
            elif name == b"connection":
                self.keeps = b"close" not in value.lower()
        self._headers: Headers | None = None
        self._delivered = False
        self._protocol: Any = None
        self._pieces: list[bytes] = []
        self._ended: Failure | None = None
        self._paused = False

    @property
    def headers(self) -> Headers:
        """The headers as an object of Twisted's, made on demand."""
        if self._headers is None:
            self._headers = Headers()
            for name, value in self.fields:
                self._headers.addRawHeader(name, value)
        return self._headers

    def setPreviousResponse(self, response: Any) -> None:
        """Store *response*, for callers that follow redirects."""
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Deliver the body, as it arrives, to *protocol*; connectionLost is its end."""
        if self._delivered:
            raise RuntimeError("the body has been delivered already")
        self._delivered = True
        self._protocol = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]
        self.deliver()
        if self._ended is not None:
            self._protocol = None  # breaks the reference cycle
            protocol.connectionLost(self._ended)
        elif not self._paused and self.connection is not None:
            self.connection.resume()

    def whole(self) -> bytes | None:
        """Return the body if all of it has arrived; else None."""
        if self._ended is None or not isinstance(self._ended.value, ResponseDone):
            return None
        self._delivered = True
        return b"".join(self._pieces)

    # Called by the connection.  feed() does not call the reader, which may end the response:
    # that must not happen during a call of the parser.

    def feed(self, piece: bytes) -> None:
        """Buffer the next *piece* of the body."""
        self._pieces.append(piece)

    def deliver(self) -> None:
        """Deliver the buffered pieces."""
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            self._protocol.dataReceived(piece)

    def end(self, reason: Failure) -> None:
        """Deliver the rest, and report the end of the body with *reason*."""
        if self._ended is None:
            self._ended = reason
            if self._protocol is not None:
                self.deliver()
                protocol, self._protocol = self._protocol, None
                protocol.connectionLost(reason)

    def update_flow_control(self) -> None:
        """Deliver the buffered pieces, or stop reading while there is no reader."""
        if self._protocol is not None:
            self.deliver()
        elif self.connection is not None:
            self.connection.pause()

    # The transport of the protocol that receives the body.

    disconnecting = False

    def pauseProducing(self) -> None:
        """Stop reading from the server."""
        self._paused = True
        if self.connection is not None:
            self.connection.reader_paused()

    def resumeProducing(self) -> None:
        """Resume reading from the server."""
        self._paused = False
        if self.connection is not None:
            self.connection.reader_resumed()

    def stopProducing(self) -> None:
        """Abort the connection: the reader does not want the rest."""
        if self.connection is not None:
            self.connection.abort()

    loseConnection = abortConnection = stopProducing
