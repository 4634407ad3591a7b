"""The server's side of a connection: llhttp in front, Twisted's requests behind.

A request is processed when its headers are in, and its route decides what
becomes of the body before any of it is read: see :class:`RequestBody`.
Requests that come pipelined are answered one after the other, in order.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from sos.errors import Incomplete, TooSlow
from sos.wire.body import RequestBody
from sos.wire.heads import Refused, body_length, format_head
from sos.wire.request import Request

if TYPE_CHECKING:
    from sos.wire.site import Site

#: Most bytes of a request's line and headers together.
MAX_HEAD_BYTES = 16 * 1024
#: Most header fields of a request.
MAX_FIELDS = 200

#: Seconds that a connection may be open and idle between requests.
IDLE_SECONDS = 60.0
#: Seconds from the first byte of a request to the last of its headers.
HEAD_SECONDS = 20.0
#: Seconds that a body may bring nothing while its reader waits.
BODY_SECONDS = 30.0
#: Seconds that a client may take nothing of what waits to be sent.
SEND_SECONDS = 120.0
#: Seconds to let a client notice an answer that came before it had sent all.
LINGER_SECONDS = 5.0


class Channel(Protocol):
    """One connection of a client."""

    site: Site
    transport: Any  # ITransport says nothing of producers and half-closing

    def __init__(self, site: Site) -> None:
        self.site = self.factory = site
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._field_bytes = 0
        self._silent_bytes = 0
        self._progress = False
        self._in_head = False
        self._body: RequestBody | None = None
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._refusal: Refused | None = None
        self._advancing = False
        self._closing = False
        self._lingers = False
        self._paused = False
        self._drained: Deferred[None] | None = None
        self._head_expires = 0.0
        self._expires: float | None = None

    # The transport.

    def connectionMade(self) -> None:
        self.site.channels.add(self)
        self.transport.registerProducer(self, True)
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        self._set_expiry()

    def dataReceived(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return
        try:
            self._feed(data)
        except Refused as refusal:
            self._refuse(refusal)
        self._advance()

    def _feed(self, data: bytes) -> None:
        # The parser tells of a field, or of a chunk's extensions, when it has
        # ended; what does not end has to be noticed too.
        self._silent_bytes += len(data)
        while data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # No upgrade is offered, so the request is an ordinary one (RFC
                # 9110, 7.8), and what follows it is the next.
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                if isinstance(error.__context__, Refused):
                    raise error.__context__ from None
                raise Refused(400, str(error)) from None
        if self._progress:
            self._progress = False
            self._silent_bytes = 0
        elif self._silent_bytes > MAX_HEAD_BYTES:
            raise Refused(431, f"something in the headers passes {MAX_HEAD_BYTES} bytes")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.channels.discard(self)
        self._closing = True
        self._expires = None
        self._waiting.clear()
        current, self._current = self._current, None
        if current is not None:
            current.connectionLost(reason)  # which cancels its route
        if self._body is not None:
            self._body.fail(Incomplete("the connection was lost before the body's end"))
        self._release_writer()

    # The parser.

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._field_bytes = 0
        self._progress = True
        self._in_head = True
        self._head_expires = self.site.reactor.seconds() + HEAD_SECONDS

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._count(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value.rstrip(b" \t")))
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers, self._headers = self._headers, []  # what follows are trailers
        self._field_bytes = 0
        self._progress = True
        method = self._parser.get_method()
        version = self._parser.get_http_version()
        length = body_length(method, version, headers)
        if self._parser.should_upgrade() and length != 0:
            raise Refused(400, "a request to upgrade cannot have a body")
        self._body = RequestBody(length, self._send_continue, self._regulate)
        self._waiting.append(
            Request(self, method, self._target, f"HTTP/{version}".encode(), headers, self._body)
        )

    def on_body(self, piece: bytes) -> None:
        assert self._body is not None
        self._progress = True
        self._body.feed(piece)

    def on_message_complete(self) -> None:
        assert self._body is not None
        self._progress = True
        self._body.end()
        self._body = None

    def _count(self, size: int) -> None:
        self._progress = True
        self._field_bytes += size
        if self._field_bytes > MAX_HEAD_BYTES:
            raise Refused(431, f"the headers pass {MAX_HEAD_BYTES} bytes")
        if len(self._headers) > MAX_FIELDS:
            raise Refused(431, f"there are more than {MAX_FIELDS} header fields")

    # One request after the other.

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        try:
            if self._current is not None:
                self._current.body.wake()
            # A client that does not read what it has asked for waits for more.
            while self._current is None and not self._closing and self._drained is None:
                if self._waiting:
                    self._current = self._waiting.popleft()
                    self._current.process()
                elif self._refusal is not None:
                    self._answer_refusal(self._refusal)
                else:
                    break
        finally:
            self._advancing = False
        self._regulate()

    def requestDone(self, request: Request) -> None:
        """Called by a request when its answer has been written."""
        self._current = None
        if self._closing:
            return
        if self._persistent(request):
            self._advance()
        else:
            self._close(linger=not request.body.complete)

    def _persistent(self, request: Request) -> bool:
        if not request.body.complete:
            return False
        tokens = b",".join(request.requestHeaders.getRawHeaders(b"connection", ())).lower()
        options = {token.strip() for token in tokens.split(b",")}
        if request.clientproto == b"HTTP/1.0":
            framed = request.responseHeaders.hasHeader(b"content-length")
            return b"keep-alive" in options and framed
        return b"close" not in options

    def _refuse(self, refusal: Refused) -> None:
        """Answer what came before, then *refusal*, then close."""
        self._refusal = refusal
        if self._body is not None:
            self._body.fail(Incomplete(f"the request's framing is broken: {refusal}"))

    def _answer_refusal(self, refusal: Refused) -> None:
        status = refusal.status
        document = json.dumps(
            {"error": str(refusal), "status": status}, separators=(",", ":")
        ).encode("ascii")
        headers = Headers()
        headers.setRawHeaders(b"Content-Type", [b"application/json"])
        headers.setRawHeaders(b"Content-Length", [b"%d" % len(document)])
        headers.setRawHeaders(b"Connection", [b"close"])
        self.transport.write(format_head(status, headers) + document)
        self._close(linger=True)

    def _close(self, linger: bool) -> None:
        """Send what is written, then close.

        :param linger: whether more may be coming.  A connection that is closed
            with bytes unread is reset, and the client may lose the answer: so
            read on for a while.
        """
        self._closing = True
        self._lingers = linger
        self._body = None
        if self._drained is None:
            self._shut()

    def _shut(self) -> None:
        # A transport with a producer does not close, but asks that for more.
        self.transport.unregisterProducer()
        if self.isSecure() or not self._lingers:
            self._expires = self.site.reactor.seconds() + SEND_SECONDS
            self.transport.loseConnection()
            return
        self.transport.loseWriteConnection()
        self._expires = self.site.reactor.seconds() + LINGER_SECONDS
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def abort(self) -> None:
        """Break the connection now."""
        self._closing = True
        abort = getattr(self.transport, "abortConnection", self.transport.loseConnection)
        abort()

    # Flow: of what comes in, and of what goes out.

    def _regulate(self) -> None:
        """Hold the client up while it is ahead of us, and say when it is late."""
        if self._closing:
            return
        body_full = self._body is not None and self._body.full
        ahead = bool(self._waiting) or body_full or self._drained is not None
        if ahead != self._paused:
            self._paused = ahead
            if ahead:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()
        self._set_expiry()

    def _set_expiry(self) -> None:
        now = self.site.reactor.seconds()
        if self._closing or self._drained is not None:
            return
        if self._current is not None:
            self._expires = now + BODY_SECONDS if self._current.body.awaited else None
        else:
            self._expires = self._head_expires if self._in_head else now + IDLE_SECONDS

    def expire(self, now: float) -> None:
        """Give up waiting, if the time *now* is past what this connection waits for."""
        if self._expires is None or now < self._expires:
            return
        if self._closing or self._drained is not None:
            self.abort()
        elif self._current is not None:
            late = TooSlow(f"nothing of the body came for {BODY_SECONDS:.0f} s")
            self._current.body.fail(late)
            self._advance()
        elif self._in_head:
            self._refuse(Refused(408, f"the headers took over {HEAD_SECONDS:.0f} s"))
            self._advance()
        else:
            self._close(linger=False)

    def pauseProducing(self) -> None:
        """The transport has enough to send for now."""
        if self._drained is None:
            self._drained = Deferred()
            self._expires = self.site.reactor.seconds() + SEND_SECONDS
            if not self._advancing:
                self._regulate()

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self._release_writer()
        if self._closing:
            self._shut()
        else:
            self._advance()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    def _release_writer(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    async def drained(self) -> None:
        """Return when the transport can take more."""
        if self._drained is not None:
            waiter: Deferred[None] = Deferred()
            self._drained.addCallback(lambda _: waiter.callback(None))
            await waiter

    # What a request writes.

    def _send_continue(self) -> None:
        self._set_expiry()
        request = self._current
        if request is not None and not request.startedWriting:
            expectation = request.requestHeaders.getRawHeaders(b"expect", [b""])[0]
            if expectation.lower() == b"100-continue" and request.clientproto == b"HTTP/1.1":
                request.requestHeaders.removeHeader(b"expect")
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        assert self._current is not None
        if not self._persistent(self._current):
            headers.setRawHeaders(b"Connection", [b"close"])
        elif version == b"HTTP/1.0":
            headers.setRawHeaders(b"Connection", [b"keep-alive"])
        self.transport.write(format_head(int(code), headers))

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def writeSequence(self, pieces: list[bytes]) -> None:
        self.transport.writeSequence(pieces)

    def getPeer(self) -> IAddress:
        return self.transport.getPeer()

    def getHost(self) -> IAddress:
        return self.transport.getHost()

    def isSecure(self) -> bool:
        return ISSLTransport.providedBy(self.transport)
