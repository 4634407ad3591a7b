"""The answer to a request, on the client's side."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

# Of the names of the headers that matter here.
_LENGTHS = frozenset(map(len, ("Content-Length", "Transfer-Encoding", "Connection")))


class BodySource(Protocol):
    """The connection that an answer comes by, as far as reading its body needs it."""

    def pause(self) -> None:
        """Hold the server up."""
        ...

    def resume(self) -> None:
        """Let the server go on."""
        ...

    def hold_up(self) -> None:
        """Hold the server up for a reader, who may take long."""
        ...

    def go_on(self) -> None:
        """Let the server go on, for the reader does."""
        ...

    def abort(self) -> None:
        """Break the connection off."""
        ...


@implementer(IResponse)
class Response:
    """The answer to a request: its head, and its body for whom it is delivered to.

    :ivar fields: the headers as they came.
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
                continue  # most are told apart by that already
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
        """The headers, for who wants them of this kind."""
        if self._headers is None:
            self._headers = Headers()
            for name, value in self.fields:
                self._headers.addRawHeader(name, value)
        return self._headers

    def setPreviousResponse(self, response: Any) -> None:
        """Of redirects, which are not followed here but may be above."""
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Give the body, as it comes, to *protocol*; its loss of connection is the end."""
        if self._delivered:
            raise RuntimeError("the body is delivered once")
        self._delivered = True
        self._protocol = protocol
        protocol.makeConnection(self)  # type: ignore[arg-type]
        self.tell()
        if self._ended is not None:
            self._protocol = None  # or the two would keep each other
            protocol.connectionLost(self._ended)
        elif not self._paused and self.connection is not None:
            self.connection.resume()

    def whole(self) -> bytes | None:
        """Return the body if all of it has come by now: else nothing is taken of it."""
        if self._ended is None or not isinstance(self._ended.value, ResponseDone):
            return None
        self._delivered = True
        return b"".join(self._pieces)

    # What the connection calls; who reads goes on when it is told to, for that
    # may end the response, which must not happen in the middle of a parser's call.

    def feed(self, piece: bytes) -> None:
        """Take the next *piece* of the body."""
        self._pieces.append(piece)

    def tell(self) -> None:
        """Pass on what has come."""
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            self._protocol.dataReceived(piece)

    def end(self, reason: Failure) -> None:
        """Nothing more comes."""
        if self._ended is None:
            self._ended = reason
            if self._protocol is not None:
                self.tell()
                protocol, self._protocol = self._protocol, None
                protocol.connectionLost(reason)

    def regulate(self) -> None:
        """Hold the server up until somebody wants the body."""
        if self._protocol is not None:
            self.tell()
        elif self.connection is not None:
            self.connection.pause()

    # What the protocol that the body is delivered to has for a transport.

    disconnecting = False

    def pauseProducing(self) -> None:
        """Hold the server up."""
        self._paused = True
        if self.connection is not None:
            self.connection.hold_up()

    def resumeProducing(self) -> None:
        """Let the server go on."""
        self._paused = False
        if self.connection is not None:
            self.connection.go_on()

    def stopProducing(self) -> None:
        """Break the connection: the rest is of no use."""
        if self.connection is not None:
            self.connection.abort()

    loseConnection = abortConnection = stopProducing
