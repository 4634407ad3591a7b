"""The parser of a connection, which makes requests of its input by llhttp."""

from __future__ import annotations

from typing import Protocol

import httptools

from sos.errors import Incomplete
from sos.http.server.framing import body_length
from sos.http.server.heads import RejectedRequest, gather
from sos.http.server.request import Request, ResponseSink
from sos.http.server.request_body import LARGE_READ, NO_BODY, SMALL_READ, RequestBody

#: Most bytes of a request line and headers together.
MAX_HEAD_BYTES = 16 * 1024
#: Most header fields of a request.
MAX_FIELDS = 200


_BLANK_LINE = b"\r\n\r\n"


class RequestSink(ResponseSink, Protocol):
    """The connection that the parser works for."""

    @property
    def busy(self) -> bool:
        """Whether there is a request that has not been answered."""
        ...

    def begun(self) -> None:
        """Note that the first bytes of a request have arrived."""
        ...

    def received(self, request: Request) -> None:
        """Take *request*, whose head is complete."""
        ...

    def send_continue(self) -> None:
        """Send ``100 Continue`` if the client waits for it before it sends the body."""
        ...

    def update_flow_control(self) -> None:
        """Pause reading while received data waits, or resume it."""
        ...


class Input:
    """Parser of the bytes that a client sends, for *channel*.

    The result does not depend on how the bytes are split into reads.  llhttp does not report
    positions, so it gets pieces that end where a head or a message can end, and that are
    small enough to check the size limits afterwards.

    :ivar in_head: whether the head of a request has begun, and not ended.
    :ivar body: the body that is being received, None between bodies.
    :ivar body_bytes: bytes of bodies received since it was set to zero.
    :ivar waits: whether there is input that has not been parsed.
    """

    def __init__(self, channel: RequestSink) -> None:
        self.in_head = False
        self.body: RequestBody | None = None
        self.body_bytes = 0
        self.waits = False
        self._channel = channel
        # The input, and the offset of the part that has not been parsed.
        self._data = b""
        self._start = 0
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        # Bytes of the body that are still missing: 0 in a head, None for a chunked body.
        self._left: int | None = 0
        # Bytes of an incomplete head, or line between chunks, and the last three of them.
        self._unfinished = 0
        self._tail = b""
        self._in_chunk = False
        self._trailer_bytes = 0
        self._upgrading = False

    @property
    def between_requests(self) -> bool:
        """Whether nothing of the next request has arrived."""
        return not (self.waits or self._unfinished or self.body is not None)

    def close(self) -> None:
        """Release the parser, which refers to this object: else that is garbage in a cycle."""
        del self._parser

    def feed(self, data: bytes) -> None:
        """Add *data* to the input, which :meth:`parse` parses."""
        self._data = self._data[self._start :] + data if self.waits else data
        self._start = 0
        self.waits = bool(self._data)

    def parse(self) -> None:
        """Parse the input up to the end of a request, and no further while that is unanswered.

        Raises :exc:`~sos.http.server.heads.RejectedRequest` if the input is malformed.
        """
        data = self._data
        size = len(data)
        while self.waits and (self.body is not None or not self._channel.busy):
            start, left = self._start, self._left
            end = min(start + left, size) if left else self._judged_at_once()
            self._start = end
            self.waits = end < size
            piece = data[start:end]
            if left:
                self._left = left - len(piece)
                self._parse(piece)
            else:
                self._unfinished += len(piece)
                self._parse(piece)
                if self._left is None:
                    self._look_for_the_line(piece)
                self._tail = (self._tail + piece)[-3:] if self._unfinished else b""
        if not self.waits:
            self._data = b""

    def _judged_at_once(self) -> int:
        """Return the offset up to which a head, or chunks, can be parsed in one call."""
        data, start = self._data, self._start
        room = MAX_HEAD_BYTES - self._unfinished
        if room <= 0:
            if self._left == 0 and 2 * len(self._target) > MAX_HEAD_BYTES:
                raise RejectedRequest(414, f"the request target exceeds {MAX_HEAD_BYTES} bytes")
            raise RejectedRequest(431, f"the headers exceed {MAX_HEAD_BYTES} bytes")
        end = start + room
        if self._in_chunk:  # chunk data up to the next line end does not count
            line = data.find(b"\n", start)
            end += (len(data) if line < 0 else line) - start
        if self._tail:
            seam = (self._tail + data[start : start + 3]).find(_BLANK_LINE)
            if seam >= 0:
                return min(start + seam + len(_BLANK_LINE) - len(self._tail), end)
        blank = data.find(_BLANK_LINE, start)
        return min(end, len(data) if blank < 0 else blank + len(_BLANK_LINE))

    def _look_for_the_line(self, piece: bytes) -> None:
        """Update the size of an incomplete line between chunks after parsing *piece*."""
        line = piece.rfind(b"\n")
        if self._in_chunk:
            self._unfinished = 0
        elif line >= 0:
            self._unfinished = len(piece) - 1 - line

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # The server offers no upgrade, so this is an ordinary request (RFC 9110, 7.8),
            # whose body follows.
            if self._upgrading:
                self._go_on_to_the_body()
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, RejectedRequest):
                raise error.__context__ from None
            raise RejectedRequest(400, str(error)) from None

    def _go_on_to_the_body(self) -> None:
        """Make llhttp parse the body, which it takes for the data of another protocol."""
        assert self.body is not None
        length = self.body.length
        framing = (
            b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        )
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing)
        self._upgrading = False

    def fail(self, reason: str) -> None:
        """Fail the body that is being received, if any, with Incomplete."""
        if self.body is not None:
            self.body.fail(Incomplete(reason))

    # Called by llhttp.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._trailer_bytes = 0
        self.in_head = True
        self._channel.begun()

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        stripped = value.rstrip(b" \t")
        if b"\t" in value and name.lower() == b"transfer-encoding":
            # llhttp interprets it differently from us.
            raise RejectedRequest(400, "the Transfer-Encoding header contains a tab")
        headers.append((name, stripped))
        if len(headers) > MAX_FIELDS:
            raise RejectedRequest(431, f"the request has more than {MAX_FIELDS} header fields")
        if self.body is not None:
            self._trailer_bytes += len(name) + len(value)
            if self._trailer_bytes > MAX_HEAD_BYTES:
                raise RejectedRequest(431, f"the trailers exceed {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self._upgrading:
            return
        headers, self._headers = self._headers, []  # what follows are trailers
        self._unfinished = 0
        parser, channel = self._parser, self._channel
        method = parser.get_method()
        version = parser.get_http_version()
        fields = gather(headers)
        length = body_length(method, version, fields)
        body = NO_BODY
        if length != 0:
            body = self.body = RequestBody(
                length, channel.send_continue, channel.update_flow_control
            )
            self._left = length
            self._in_chunk = False
            self._upgrading = parser.should_upgrade()
            if length is None or length > SMALL_READ:
                channel.transport.bufferSize = LARGE_READ
        protocol = b"HTTP/1.1" if version == "1.1" else b"HTTP/1.0"
        channel.received(Request(channel, method, self._target, protocol, headers, fields, body))

    def on_body(self, piece: bytes) -> None:
        assert self.body is not None
        self._in_chunk = True
        self.body_bytes += len(piece)
        self.body.feed(piece)

    def on_chunk_complete(self) -> None:
        self._in_chunk = False

    def on_message_complete(self) -> None:
        if self.body is not None and not self._upgrading:
            self.body.end()
            self.body = None
            self._left = self._unfinished = 0
            self._in_chunk = False
            self._channel.transport.bufferSize = SMALL_READ
