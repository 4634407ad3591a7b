"""The way in of a connection: llhttp in front, our requests behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from sos.errors import Incomplete
from sos.wire.body import LARGE_READ, NO_BODY, SMALL_READ, RequestBody
from sos.wire.heads import Refused, body_length, gather
from sos.wire.request import Request

if TYPE_CHECKING:
    from sos.wire.server import Channel

#: Most bytes of a request's line and headers together.
MAX_HEAD_BYTES = 16 * 1024
#: Most header fields of a request.
MAX_FIELDS = 200


class Input:
    """Makes requests of what a client sends, for *channel*.

    :ivar in_head: whether the head of a request has begun, and not ended.
    :ivar body: what is being received, None between bodies.
    :ivar body_bytes: of bodies, since it was set to zero.
    """

    def __init__(self, channel: Channel) -> None:
        self.in_head = False
        self.body: RequestBody | None = None
        self.body_bytes = 0
        self._channel = channel
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._silent_bytes = 0
        self._progress = False
        self._upgrading = False

    def feed(self, data: bytes) -> None:
        """Take what came; raises :exc:`~sos.wire.heads.Refused` when it is no request."""
        # The parser tells of a field, or of a chunk's extensions, when it has
        # ended; what does not end has to be noticed too.
        self._silent_bytes += len(data)
        while data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # No upgrade is offered, so the request is an ordinary one (RFC
                # 9110, 7.8): its body follows, if it has one, and the next.
                data = data[upgrade.args[0] :]
                if self._upgrading:
                    self._go_on_to_the_body()
            except httptools.HttpParserError as error:
                if isinstance(error.__context__, Refused):
                    raise error.__context__ from None
                raise Refused(400, str(error)) from None
        if self._progress:
            self._progress = False
            self._silent_bytes = 0
        elif self._silent_bytes > MAX_HEAD_BYTES:
            raise Refused(431, f"something in the headers passes {MAX_HEAD_BYTES} bytes")

    def _go_on_to_the_body(self) -> None:
        """Have the body parsed that llhttp takes for another protocol."""
        assert self.body is not None
        length = self.body.length
        framing = (
            b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        )
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing)
        self._upgrading = False

    def fail(self, reason: str) -> None:
        """The body that is being received, if there is one, will not come whole."""
        if self.body is not None:
            self.body.fail(Incomplete(reason))

    # The parser.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._head_bytes = 0
        self._progress = True
        self.in_head = True
        self._channel.begun()

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > MAX_HEAD_BYTES:
            raise Refused(414, f"the target passes {MAX_HEAD_BYTES} bytes")
        self._count(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        stripped = value.rstrip(b" \t")
        if b"\t" in value and name.lower() == b"transfer-encoding":
            # llhttp does not see it as we do.
            raise Refused(400, "there is a tab in the transfer coding")
        headers.append((name, stripped))
        if len(headers) > MAX_FIELDS:
            raise Refused(431, f"there are more than {MAX_FIELDS} header fields")
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self._upgrading:
            return
        headers, self._headers = self._headers, []  # what follows are trailers
        self._head_bytes = 0
        self._progress = True
        parser, channel = self._parser, self._channel
        method = parser.get_method()
        version = parser.get_http_version()
        fields = gather(headers)
        length = body_length(method, version, fields)
        body = NO_BODY
        if length != 0:
            body = self.body = RequestBody(length, channel.send_continue, channel.regulate)
            self._upgrading = parser.should_upgrade()
            if length is None or length > SMALL_READ:
                channel.transport.bufferSize = LARGE_READ
        protocol = b"HTTP/1.1" if version == "1.1" else b"HTTP/1.0"
        channel.received(Request(channel, method, self._target, protocol, headers, fields, body))

    def on_body(self, piece: bytes) -> None:
        assert self.body is not None
        self._progress = True
        self.body_bytes += len(piece)
        self.body.feed(piece)

    def on_message_complete(self) -> None:
        self._progress = True
        if self.body is not None and not self._upgrading:
            self.body.end()
            self.body = None
            self._channel.transport.bufferSize = SMALL_READ

    def _count(self, size: int) -> None:
        self._progress = True
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise Refused(431, f"the headers pass {MAX_HEAD_BYTES} bytes")
