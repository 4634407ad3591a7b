"""Requests, as the routes see them, and their answers."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IAddress
from twisted.web.http import parse_qs

from sos.http.server.heads import format_head, split_target
from sos.http.server.output import Output
from sos.http.server.proxies import Proxies
from sos.http.server.request_body import RequestBody
from sos.http.server.request_ids import HEADER, request_id
from sos.monitoring.request_metrics import GONE, OTHER

#: Statuses of answers without a body (RFC 9110, 6.4.1).
BODILESS = frozenset({204, 304})
# Without it, caches may store a 404 and other answers (RFC 9111, 4.2.2).
_UNCACHED = b"Cache-Control: no-store\r\n"


class Recorder(Protocol):
    """Recorder of finished requests, and source of the headers that all answers have."""

    @property
    def head(self) -> bytes:
        """Header lines that every answer begins with."""
        ...

    @property
    def proxies(self) -> Proxies | None:
        """The proxies whose forwarding headers are trusted."""
        ...

    def finished(self, request: Request) -> None:
        """Record a request that has been answered, or whose client has gone away."""
        ...


class ResponseSink(Protocol):
    """The connection of a request, as far as its answer needs it."""

    peer: IAddress | None
    transport: Any
    output: Output

    @property
    def site(self) -> Recorder:
        """The recorder of the request."""
        ...

    def keeps_alive(self, request: Request) -> bool:
        """Return whether the connection can stay open after the answer to *request*."""
        ...

    def done(self, request: Request) -> None:
        """Go on after the answer to *request* has been written."""
        ...

    def abort(self) -> None:
        """Abort the connection."""
        ...


class Work(Protocol):
    """Work in progress for a request."""

    def cancel(self) -> None:
        """Stop, because the client is gone."""


class Request:
    """Request, handled as soon as its headers are complete.

    Raises :exc:`~sos.http.server.heads.RejectedRequest` if its target is malformed.  It has the
    attributes of Twisted's requests that routes and access logs need, with the same names.
    Its body is :attr:`body`; there is no ``content``.

    :ivar headers: the request's headers, by their names in lower case; the Host is that of the
        target if the target names one.
    :ivar received_headers: the same, as received.
    :ivar id: identifies the request in logs, see :mod:`sos.http.server.request_ids`.
    :ivar blob: the id of the blob that it concerns, once that is known.
    :ivar begun: when its handler was called, by the site's timer.
    :ivar route: the rule of its route.
    :ivar persistent: whether its connection stays open after the answer.
    :ivar sharing: CORS header lines, which every answer to it has.
    :ivar private: whether the answer needs credentials, so that shared caches must not
        store it.
    :ivar target: its path and query.
    :ivar uri: the target as access logs show it.
    :ivar user: the name of its token, once that is known.
    :ivar work: the route's work, if it is in progress; cancelled when the client goes away.
    """

    __slots__ = (
        "_answer_headers",
        "_bodiless",
        "_channel",
        "_chunked",
        "_fixed",
        "_query",
        "begun",
        "blob",
        "body",
        "clientproto",
        "code",
        "headers",
        "id",
        "method",
        "path",
        "persistent",
        "private",
        "received_headers",
        "route",
        "sentLength",
        "sharing",
        "startedWriting",
        "target",
        "uri",
        "user",
        "work",
    )

    def __init__(
        self,
        connection: ResponseSink,
        method: bytes,
        target: bytes,
        version: bytes,
        received_headers: list[tuple[bytes, bytes]],
        headers: dict[bytes, bytes],
        body: RequestBody,
    ) -> None:
        self._channel: ResponseSink | None = connection
        self.method = method
        self.uri = target
        self.clientproto = version
        host, self.target = split_target(method, target)
        if host is not None:
            headers[b"host"] = host  # RFC 9112, 3.2.2
        self.path, _, self._query = self.target.partition(b"?")
        self.received_headers = received_headers
        self.headers = headers
        self.body = body
        self.id = request_id(headers.get(HEADER))
        self.blob: str | None = None
        self.user: str | None = None
        self.begun = 0.0
        self.route = OTHER
        self.work: Work | None = None
        self.code = 200
        self.startedWriting = False
        self.sentLength = 0
        self._answer_headers: dict[bytes, bytes] = {}
        self._fixed = _UNCACHED
        self.sharing = b""
        self._chunked = False
        self._bodiless = False
        self.persistent = False
        self.private = False

    @property
    def args(self) -> dict[bytes, list[bytes]]:
        """The arguments in the query, as lists of values by name."""
        return parse_qs(self._query, True) if self._query else {}

    def getHeader(self, name: bytes) -> bytes | None:
        """Return the value of the request's header *name*, which is in lower case."""
        return self.headers.get(name)

    def getClientAddress(self) -> IAddress | None:
        """Return the client's address, also behind trusted proxies; None if it is not known."""
        channel = self._channel
        if channel is None:
            return None
        proxies = channel.site.proxies
        return channel.peer if proxies is None else proxies.client(channel.peer, self.headers)

    def getHost(self) -> IAddress | None:
        """Return the address of this server that the request came to."""
        return None if self._channel is None else self._channel.transport.getHost()

    @property
    def disconnected(self) -> bool:
        """Whether the request has been answered, or its client is gone."""
        return self._channel is None

    # The answer.

    def setResponseCode(self, code: int) -> None:
        """Set the status of the answer; the default is 200."""
        self.code = code

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Set a header of the answer."""
        self._answer_headers[name] = value

    def setFixedHeaders(self, lines: bytes) -> None:
        """Set headers of the answer that are already formatted as lines.

        They must include ``Cache-Control``, because they replace the default ``no-store``.
        """
        self._fixed = lines

    def clearHeaders(self) -> None:
        """Remove the headers that have been set so far."""
        self._answer_headers.clear()
        self._fixed = _UNCACHED

    def write(self, data: bytes) -> None:
        """Send the next piece of the answer's body, and the head before the first piece.

        Without a ``Content-Length``, the body is chunked (for a client with HTTP/1.1).
        """
        if self._channel is None:
            return
        head = b"" if self.startedWriting else self._begin()
        if self._bodiless:
            data = b""
        self.sentLength += len(data)
        if data and self._chunked:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        if head or data:
            self._channel.output.send(head + data)

    @property
    def sends_files(self) -> bool:
        """Whether :meth:`send_file` can be called: not over TLS."""
        return self._channel is not None and self._channel.output.sends_files

    async def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """Send part of an open file as the next piece of a body with a Content-Length.

        Returns when the kernel has accepted it.  The part should be in the page cache,
        or the reactor waits for the disk.
        """
        if self._channel is not None:
            self.write(b"")
            self.sentLength += stop - start
            await self._channel.output.send_file(descriptor, start, stop)

    def finish(self, body: bytes | None = None) -> None:
        """End the answer.

        :param body: the whole body if nothing has been written; else its last piece.
        """
        channel = self._channel
        if channel is None:
            return
        if not self.startedWriting:
            body = body or b""
            if self.code not in BODILESS:
                self._answer_headers.setdefault(b"Content-Length", b"%d" % len(body))
            head = self._begin()
            if self._bodiless:
                body = b""
            self.sentLength += len(body)
            channel.output.send(head + body)
        else:
            self.write(body or b"")
            if self._chunked and not self._bodiless:
                channel.output.send(b"0\r\n\r\n")
        channel.site.finished(self)
        self._channel = self.work = None
        channel.done(self)

    def _begin(self) -> bytes:
        assert self._channel is not None
        self.startedWriting = True
        headers = self._answer_headers
        self._bodiless = self.method == b"HEAD" or self.code in BODILESS
        framed = self._bodiless or b"Content-Length" in headers
        if not framed and self.clientproto == b"HTTP/1.1":
            framed = self._chunked = True
            headers[b"Transfer-Encoding"] = b"chunked"
        self.persistent = framed and self._channel.keeps_alive(self)
        if not self.persistent:
            headers[b"Connection"] = b"close"
        elif self.clientproto == b"HTTP/1.0":
            headers[b"Connection"] = b"keep-alive"
        head = self._channel.site.head
        fixed = b"%s%s%sX-Request-Id: %s\r\n" % (head, self._fixed, self.sharing, self.id)
        return format_head(self.code, fixed, headers)

    def finished_part(self, part: Any) -> None:
        """Record *part*, an operation of a batch, like the request that it stands for."""
        if self._channel is not None:
            self._channel.site.finished(part)

    async def drained(self) -> None:
        """Wait until the connection can take more output."""
        if self._channel is not None:
            await self._channel.output.drained()

    def abort(self) -> None:
        """Abort the connection, so that the client sees that its answer is incomplete."""
        if self._channel is not None:
            self._channel.abort()

    def connectionLost(self) -> None:
        """Record that the client is gone, and cancel the work."""
        if self._channel is not None:
            self.code = GONE
            self._channel.site.finished(self)
        work, self._channel, self.work = self.work, None, None
        if work is not None:
            work.cancel()
