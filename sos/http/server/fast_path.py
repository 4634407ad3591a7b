"""The fast path: a small request that arrives whole in one read bypasses the parser.

Most clients send the same header block with every request, so parsed header blocks are cached.
A request that is unusual - its request line, a chunked body, an expectation - takes the slow
path: the parser gets the same bytes.  Only the parsing differs: limits, guards, routes, logs and
metrics get the same :class:`Request` either way.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, NamedTuple

from twisted.internet.interfaces import IAddress

from sos.http.server.heads import RejectedRequest
from sos.http.server.parser import Input
from sos.http.server.request import Request, ResponseSink
from sos.http.server.request_body import NO_BODY, RequestBody

#: Most bytes of a body, and of a header block, that the fast path takes.  With a target of up to
#: 1024 bytes, a head is far below the limit of the parser.
MAX_BODY_BYTES = 64 * 1024
MAX_BLOCK_BYTES = 2 * 1024
#: Most header blocks that are cached.
MAX_BLOCKS = 512

_LINE = re.compile(rb"(GET|POST|PUT) (/[A-Za-z0-9/._~?=&%,+-]{0,1024}) HTTP/1\.1\r\n")
_END = b"\r\n\r\n"
# The server does something about these before the body has arrived.
_UNUSUAL = frozenset({b"expect", b"upgrade", b"transfer-encoding"})
# Blocks with these are not cached: hardly two are the same, and credentials do not belong there.
_UNIQUE = frozenset(
    {b"authorization", b"cookie", b"proxy-authorization", b"x-request-id", b"x-sos-lease"}
)


class _Head(NamedTuple):
    """A judged header block: its fields, and the length of the body in bytes."""

    received: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]
    length: int


_remembered: dict[tuple[bytes, bytes], _Head | None] = {}


def whole_request(channel: ResponseSink, data: bytes) -> Request | None:
    """Return the request in *data* if it can take the fast path, else None.

    :param channel: the connection on which *data* arrived, between two requests.
    """
    line = _LINE.match(data)
    if line is None:
        return None
    method, target = line.groups()
    start = line.end()
    body = data.find(_END, start - 2) + len(_END)
    if body < start + len(_END) or body - start > MAX_BLOCK_BYTES:
        return None
    head = _judged(method, data[start:body])
    if head is None or len(data) - body != head.length:
        return None
    received, fields, length = head
    content = NO_BODY
    if length:
        content = RequestBody(length, _nothing, _nothing)
        content.feed(data[body:])
        content.end()
    return Request(channel, method, target, b"HTTP/1.1", received, fields, content)


def _judged(method: bytes, block: bytes) -> _Head | None:
    """Return what the parser makes of a header *block*, None if it takes the slow path."""
    key = method, block
    if key in _remembered:
        return _remembered[key]
    head = _judge(method, block)
    fields = block.lower() if head is None else head.fields
    recurs = not any(name in fields for name in _UNIQUE)
    if recurs:
        if len(_remembered) >= MAX_BLOCKS:
            _remembered.clear()
        _remembered[key] = head
    return head


def _judge(method: bytes, block: bytes) -> _Head | None:
    sink = _Sink()
    parser = Input(sink)
    parser.feed(b"%s / HTTP/1.1\r\n%s" % (method, block))
    try:
        parser.parse()
    except RejectedRequest:
        return None
    finally:
        parser.close()
    request, sink.request = sink.request, None  # breaks the reference cycle
    if request is None or not _UNUSUAL.isdisjoint(request.headers):
        return None
    length = request.body.length
    if length is None or length > MAX_BODY_BYTES:
        return None
    return _Head(request.received_headers, request.headers, length)


class _Sink:
    """Connection of a parser that judges one header block."""

    peer: IAddress | None = None
    site: Any = None
    output: Any = None
    transport: Any = SimpleNamespace(bufferSize=0)
    busy = False
    request: Request | None = None

    def received(self, request: Request) -> None:
        """Take *request*, whose head is complete."""
        self.request = request

    def begun(self) -> None: ...

    def send_continue(self) -> None: ...

    def update_flow_control(self) -> None: ...

    def keeps_alive(self, request: Request) -> bool:
        return True

    def done(self, request: Request) -> None: ...

    def abort(self) -> None: ...


def _nothing() -> None: ...
