"""The server's side of a connection.

The server handles a request as soon as its headers are complete, and the route decides what to
do with the body before any of it is read: see :class:`RequestBody`.  Pipelined requests are
answered in order, one at a time, and all other connections are served between two of them (see
:mod:`sos.http.server.coalescing`).  Until a request is answered, the server does not parse the
bytes behind it; once there are any, it stops reading.  So at most one read of them can wait.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from sos.aio.limited_log import LimitedLog
from sos.aio.twisted_internals import close_now, is_buffering
from sos.errors import TooSlow
from sos.http.server.coalescing import IterationQueue, Receiver
from sos.http.server.connection_limits import ConnectionLimit
from sos.http.server.fast_path import whole_request
from sos.http.server.heads import RejectedRequest, format_error, format_head
from sos.http.server.output import Output
from sos.http.server.parser import Input
from sos.http.server.request import Recorder, Request
from sos.http.server.request_body import RequestBody
from sos.http.server.request_ids import CURRENT
from sos.http.tls import handshake_failure

#: Seconds for which a connection may be idle: longer than the minute for which proxies keep
#: theirs, so that no request arrives while the connection is being closed.
IDLE_SECONDS: float = 75
#: Seconds from the first byte of a request to the last of its headers.
HEAD_SECONDS = 20.0
#: Seconds in which a body must bring BODY_BYTES while its reader waits.
BODY_SECONDS = 20.0
#: Least bytes of a body in BODY_SECONDS: 512 a second.
BODY_BYTES = 10 * 1024
#: Seconds after which a client that does not read its answer is stalled: it is the first to be
#: closed for a new one.  It can be a paused video player, so while there is room the server
#: waits, until TCP finds that the client is gone (RFC 9293, 3.8.6.1; on Linux after 15 minutes
#: or so, ``tcp_retries2``).
STALL_SECONDS = 120.0
#: Seconds to let a client notice an answer that came before it had sent the whole request.
LINGER_SECONDS = 5.0
#: Seconds after which a client that was answered 503 may try again (``Retry-After``).
RETRY_SECONDS = 5

# These close the connection, so each try with other credentials needs a new one.
_CLOSING_STATUSES = (401, 403, 421)


class Owner(Recorder, typing.Protocol):
    """The site of a connection: its settings, its handler, and its records.

    :ivar now: the time in seconds, updated once a second.
    :ivar timer: returns a time in seconds, to measure the duration of requests.
    :ivar iteration_queue: batches the work of its connections per reactor iteration.
    :ivar handler: answers requests.
    :ivar failures: the log for internal errors.
    :ivar idle_seconds: for which a connection may be idle.
    :ivar is_patient: whether to wait for stalled clients.
    """

    now: float
    timer: Callable[[], float]
    iteration_queue: IterationQueue
    handler: Callable[[Request], None]
    failures: LimitedLog
    idle_seconds: float
    is_patient: bool

    def made(self, channel: Channel) -> None:
        """Record a new connection."""
        ...

    def lost(self, channel: Channel) -> None:
        """Record the end of a connection."""
        ...

    def refused(self, status: int, sent: int) -> None:
        """Record an answer of *sent* bytes to a malformed request or a surplus connection."""
        ...

    def handshake_failed(self, local: IAddress | None, peer: IAddress | None, why: str) -> None:
        """Record a failed TLS handshake."""
        ...


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class Channel(Protocol):
    """Connection of a client.

    :param peer: the address of the client; None if it is not known.
    :param limits: the connection limits that it counts in.
    :param refusal: if given, the answer to any request.
    :ivar output: sends the answers.
    :ivar since: when the connection began its current wait, by the site's clock.
    :ivar busy: whether there is a request that has not been answered.
    :ivar active_at: time of its last request, or of its opening, by the site's timer.
    """

    site: Owner
    output: Output
    _receiver: Receiver
    _socket: Connection | None
    _over_tls: bool
    _local: IAddress | None
    transport: Any  # ITransport lacks the methods for producers and half-closing

    def __init__(
        self,
        site: Owner,
        peer: IAddress | None,
        limits: Sequence[ConnectionLimit],
        refusal: RejectedRequest | None = None,
    ) -> None:
        self.peer = peer
        self.limits = limits
        self.site = self.factory = site
        self.since = site.now
        self.active_at = site.timer()
        self.busy = False
        self._input = Input(self)
        self._next: Request | None = None
        self._current: Request | None = None
        self._refusal = refusal
        self._advancing = False
        self._in_line = False
        self._counts_as_idle = False
        self._counts_as_in_head = False
        self._counts_as_stalled = False
        self._closing = False
        self._retired = False
        self._ended = False
        self._lingers = False
        self._is_shut = False
        self._paused = False
        self._is_secured = False

    # The transport.

    def connectionMade(self) -> None:
        self._over_tls = ISSLTransport.providedBy(self.transport)
        bare = self.transport.transport if self._over_tls else self.transport
        # Not available any more once the connection is lost.
        self._local = self.transport.getHost() if self._over_tls else None
        self._socket = bare if isinstance(bare, Connection) else None
        self.site.made(self)
        self.output = Output(self.transport, self._output_changed)
        self._receiver = Receiver(self.transport, self._take, self.abort)
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        self._advance()

    def dataReceived(self, data: bytes) -> None:
        self._receiver.receive(data)

    def _take(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return
        request = None
        if not self.busy and self._input.between_requests:
            request = whole_request(self, data)
        if request is None:
            self._input.feed(data)
        else:
            self.received(request)
        self._advance()

    def readConnectionLost(self) -> None:
        """The client sends no more, but may be waiting for answers."""
        self._receiver.pass_on()
        self._ended = self._retired = True
        if self._is_shut:  # we lingered, so that the client gets our answer
            self.transport.loseConnection()
        self._advance()

    def writeConnectionLost(self) -> None:
        """Our side is closed, as requested."""

    def handshakeCompleted(self) -> None:
        """Note that the TLS handshake is complete, see IHandshakeListener."""
        self._is_secured = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._over_tls and not self._is_secured:
            why = handshake_failure(reason.value, self.transport.getHandle(), self._closing)
            if why is not None:
                self.site.handshake_failed(self._local, self.peer, why)
        self._closing = True
        self._next = None
        current, self._current = self._current, None
        self._input.fail("the connection was lost before the end of the body")
        if current is not None:
            current.connectionLost()  # which cancels its route
        self.output.close()
        self.site.lost(self)

    # Called by the parser.

    def begun(self) -> None:
        """Note that the first bytes of a request have arrived."""
        if not self.output.full:
            self.since = self.site.now

    def received(self, request: Request) -> None:
        """Take *request*, whose head is complete."""
        self._next = request
        self.busy = True

    # One request after the other.

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        try:
            self._parse()
            if self._current is not None:
                self._current.body.wake()
                if self._current is None:  # it has been answered: parse the next one
                    self._parse()
            # A client that does not read its answers gets no further ones.
            if self._current is None and not self._closing and not self.output.full:
                request, self._next = self._next, None
                if request is not None:
                    self._handle(request)
                elif self._refusal is not None:
                    self._answer_refusal(self._refusal)
        finally:
            self._advancing = False
        if self._current is None and not self._closing:
            self._rest()
        self.update_flow_control()

    def _parse(self) -> None:
        if self._closing or self._refusal is not None:
            return
        if self._input.waits:
            try:
                self._input.parse()
            except RejectedRequest as refusal:
                self._refuse(refusal)
        if self._ended and not self._input.waits:
            self._input.fail("the client closed the connection before the end of the body")

    def _rest(self) -> None:
        """Queue the next request, if there is one; else close, or count as idle."""
        if self.output.full:
            return
        if self._input.waits or self._refusal is not None:
            if not self._in_line:
                self._in_line = True
                self.site.iteration_queue.add(self._handle_next, self.abort)
        elif self._retired:
            self._close(linger=False)
        elif self._input.in_head:
            if not self._counts_as_in_head:
                self._counts_as_in_head = True
                self._counts_as_idle = False
                for limit in self.limits:
                    limit.in_head(self)
        elif not self._counts_as_idle:
            self._counts_as_idle = True
            for limit in self.limits:
                limit.idle(self)

    def _handle_next(self) -> None:
        self._in_line = False
        self._advance()

    def _handle(self, request: Request) -> None:
        self._current = request
        if self._counts_as_in_head:
            self._counts_as_in_head = False
            for limit in self.limits:
                limit.head_completed(self)
        self.since = self.site.now
        self._input.body_bytes = 0
        self.active_at = request.begun = self.site.timer()
        context = CURRENT.set(request.id)
        try:
            self.site.handler(request)
        except Exception:
            self.site.failures.failure("internal error, connection closed without an answer")
            self.abort()
        finally:
            CURRENT.reset(context)

    def done(self, request: Request) -> None:
        """Go on after the answer to *request* has been written."""
        self._current = None
        self.busy = self._next is not None
        self.since = self.site.now
        if self._closing:
            return
        if not request.persistent:
            self._close(linger=not request.body.complete or self._input.waits)
        elif not self._advancing:
            self._advance()

    def keeps_alive(self, request: Request) -> bool:
        """Return whether the connection stays open after the answer to *request*."""
        if not request.body.complete or (self._retired and not self._input.waits):
            return False
        if request.code in _CLOSING_STATUSES:
            return False
        asked = request.headers.get(b"connection")
        if asked is None:
            return request.clientproto == b"HTTP/1.1"
        options = {token.strip() for token in asked.lower().split(b",")}
        kept = b"keep-alive" in options or request.clientproto == b"HTTP/1.1"
        return kept and b"close" not in options

    def _refuse(self, refusal: RejectedRequest) -> None:
        """Answer the earlier requests, then answer *refusal*, then close."""
        self._refusal = refusal
        self._input.fail(f"the request is malformed: {refusal}")

    def _answer_refusal(self, refusal: RejectedRequest, linger: bool = True) -> None:
        status = refusal.status
        document = format_error(status, str(refusal))
        headers = {
            b"Content-Type": b"application/json",
            b"Content-Length": b"%d" % len(document),
            b"Cache-Control": b"no-store",
            b"Connection": b"close",
        }
        if status == 503:
            headers[b"Retry-After"] = b"%d" % RETRY_SECONDS
        self.output.send(format_head(status, self.site.head, headers) + document)
        self.site.refused(status, len(document))
        self._close(linger)

    def close_if_idle(self) -> bool:
        """Close for a new connection; return False if there is work to do on this one."""
        if self.busy or self._receiver.waits or self._in_line or self.output.full:
            # The caller has removed it from its list; _rest() adds it again.
            self._counts_as_idle = self._counts_as_in_head = False
            return False
        if self._input.in_head:
            self._answer_refusal(self.limits[0].refusal, linger=False)
        else:
            self._close(linger=False)
        # Close at once: a client that reads nothing, or does not answer the close alert of TLS,
        # could keep the connection open for as long as it liked.
        if self._socket is not None:
            close_now(self._socket)
        return True

    def abort_if_stalled(self) -> bool:
        """Abort for a new connection; return False if the client reads again."""
        self._counts_as_stalled = False  # the caller has removed it from its list
        if not self._is_sending or self.site.now - self.since <= STALL_SECONDS:
            return False
        self.abort()
        return True

    def close_when_answered(self) -> None:
        """Answer the requests that have been received, then close."""
        self._receiver.pass_on()
        self._retired = True
        self._advance()

    def _close(self, linger: bool) -> None:
        """Send the buffered output, then close.

        :param linger: whether the client may still be sending: then read on for a while.
            TCP resets a connection that is closed with unread bytes, and the client may
            lose the answer.
        """
        self._closing = True
        self._lingers = linger
        self._input.body = None
        self.since = self.site.now
        self.output.flush()
        if not self.output.full:
            self._shut()

    def _shut(self) -> None:
        if self._is_shut:  # a callback has done so already
            return
        self._is_shut = True
        # A transport does not close while it has a producer, but asks it for more.
        self.transport.unregisterProducer()
        self.since = self.site.now
        if self._ended or self._over_tls:
            self._lingers = False
        if self._paused and (self._lingers or self._over_tls):
            # Read the last bytes of the client: over TLS the connection stays open until
            # its close alert arrives.
            self._paused = False
            self.transport.resumeProducing()
        if self._lingers:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Reset the connection, and discard the buffered output."""
        self._closing = True
        self.output.abort()
        abort = getattr(self.transport, "abortConnection", self.transport.loseConnection)
        abort()

    # Flow control and timeouts.

    def update_flow_control(self) -> None:
        """Pause reading while received or outgoing data waits, or resume it."""
        if self._closing or self._ended:
            return
        body = self._input.body
        body_full = body is not None and body.full
        ahead = self._input.waits or body_full or self.output.full
        if ahead != self._paused:
            self._paused = ahead
            if ahead:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def check_timeouts(self, now: float) -> None:
        """Apply the timeout of what this connection waits for.

        :param now: the time by the site's clock, as :attr:`since`.
        """
        if self._receiver.waits or self._in_line:
            return  # it waits for us, not for the client
        waited = now - self.since
        if self._is_sending:
            if waited > LINGER_SECONDS:
                self._wait_for_no_alert()
            # A stalled refusal is not worth waiting for, unlike a download.
            if waited > STALL_SECONDS and (self._refusal or not self.site.is_patient):
                self.abort()
            elif waited > STALL_SECONDS and not self._counts_as_stalled:
                self._counts_as_stalled = True
                for limit in self.limits:
                    limit.stalled(self)
        elif self._closing:
            if waited > LINGER_SECONDS:
                self.abort()
        elif self._current is not None:
            self._expire_body(self._current.body, now)
        elif self._input.in_head:
            if waited > HEAD_SECONDS:
                self._refuse(
                    RejectedRequest(
                        408, f"timed out: the headers took more than {HEAD_SECONDS:.0f} s"
                    )
                )
                self._advance()
        elif waited > self.site.idle_seconds:
            self._close(linger=False)

    @property
    def _is_sending(self) -> bool:
        """Whether the connection waits for the client to read the output."""
        return self.output.full or (self._closing and not self._lingers)

    def _wait_for_no_alert(self) -> None:
        """Close if all has been sent, and only the client's close alert of TLS is missing."""
        bare = self._socket
        if self._over_tls and self._is_shut and bare is not None and not is_buffering(bare):
            close_now(bare)

    def _expire_body(self, body: RequestBody, now: float) -> None:
        if body.awaited and now - self.since < BODY_SECONDS:
            return
        came = self._input.body_bytes
        if body.awaited and came < BODY_BYTES:
            body.fail(
                TooSlow(
                    f"the body is too slow: {came} bytes in {BODY_SECONDS:.0f} s, instead of "
                    f"{BODY_BYTES}"
                )
            )
            self._advance()
        self.since = now
        self._input.body_bytes = 0

    def _output_changed(self) -> None:
        self.since = self.site.now
        if self.output.full:
            if not self._advancing:
                self.update_flow_control()
        elif self._closing:
            self._shut()
        else:
            self._advance()

    def send_continue(self) -> None:
        """Send ``100 Continue`` if the client waits for it before it sends the body."""
        request = self._current
        if request is not None and not request.startedWriting:
            expectation = request.headers.get(b"expect")
            if expectation is not None and request.clientproto == b"HTTP/1.1":
                del request.headers[b"expect"]
                if expectation.lower() == b"100-continue":
                    self.output.send(b"HTTP/1.1 100 Continue\r\n\r\n")
