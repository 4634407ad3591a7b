"""A request as the routes see it, and the answer that they make of it."""

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
# A cache may keep a 404, and other answers, that say nothing of it (RFC 9111, 4.2.2).
_UNCACHED = b"Cache-Control: no-store\r\n"


class Recorder(Protocol):
    """What requests are told of when they have ended, and what it adds to each answer."""

    @property
    def head(self) -> bytes:
        """Header lines that every answer begins with."""
        ...

    @property
    def proxies(self) -> Proxies | None:
        """The proxies that are believed when they say whose requests they pass on."""
        ...

    def finished(self, request: Request) -> None:
        """Record a request that has been answered, or whose client has gone away."""
        ...


class ResponseSink(Protocol):
    """The connection that a request came by, as far as its answer needs it."""

    peer: IAddress | None
    transport: Any
    output: Output

    @property
    def site(self) -> Recorder:
        """What is told of the request."""
        ...

    def persists(self, request: Request) -> bool:
        """Return whether the connection can stay open after the answer to *request*."""
        ...

    def done(self, request: Request) -> None:
        """Go on: the answer to *request* has been written."""
        ...

    def abort(self) -> None:
        """Break the connection off."""
        ...


class Work(Protocol):
    """What is being done for a request."""

    def cancel(self) -> None:
        """Do no more: the client is gone."""


class Request:
    """One request, handled as soon as its headers are in.

    Raises :exc:`~sos.http.server.heads.Refused` when its target is none.  The names
    are those of Twisted's, of which it has what routes and access logs need.
    Its body is :attr:`body`; there is no ``content``.

    :ivar headers: the request's, by their names in lower case; the Host is that of the
        target if it names one.
    :ivar received_headers: the same as they came.
    :ivar id: by which the logs know it, see :mod:`sos.http.server.request_ids`.
    :ivar blob: the id of the blob that it is about, once that is known.
    :ivar begun: when it was first handled, by the site's timer.
    :ivar route: the rule that it goes by.
    :ivar persistent: whether another may follow the answer on its connection.
    :ivar sharing: header lines of the answer, whatever it is, that tell which pages of other
        origins may read it.
    :ivar private: whether the answer is for those alone who may ask for it, and
        not for caches that others share.
    :ivar target: its path and query.
    :ivar uri: what access logs tell of the target.
    :ivar work: what is being done for it, if that takes time; cancelled when
        the client goes away.
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
        """The arguments in the query."""
        return parse_qs(self._query, True) if self._query else {}

    def getHeader(self, name: bytes) -> bytes | None:
        """Return the value of the request's header *name*, in lower case."""
        return self.headers.get(name)

    def getClientAddress(self) -> IAddress | None:
        """Return where the request came from, as a trusted proxy says it; None if none is known."""
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
        """Whether there is no one to answer any more."""
        return self._channel is None

    # The answer.

    def setResponseCode(self, code: int) -> None:
        """Answer with the status *code*; 200 if it is not called."""
        self.code = code

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Answer with this header field."""
        self._answer_headers[name] = value

    def setFixedHeaders(self, lines: bytes) -> None:
        """Answer with these header fields, which are written already, each on its line.

        One of them is ``Cache-Control``: they replace the ``no-store`` of other answers.
        """
        self._fixed = lines

    def clearHeaders(self) -> None:
        """Answer with none of the header fields that have been set so far."""
        self._answer_headers.clear()
        self._fixed = _UNCACHED

    def write(self, data: bytes) -> None:
        """Send more of the answer's body, and its head before the first of it.

        Without a ``Content-Length`` it is sent in chunks.
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
        """Send part of an open file as the next of the body, which has a Content-Length.

        Returns when the system has taken it.  It should have been read just
        before, or the reactor waits for the disk.
        """
        if self._channel is not None:
            self.write(b"")
            self.sentLength += stop - start
            await self._channel.output.send_file(descriptor, start, stop)

    def finish(self, body: bytes | None = None) -> None:
        """End the answer.

        :param body: all of it, if nothing has been written; else the last of it.
        """
        channel = self._channel
        if channel is None:
            return
        if not self.startedWriting:
            if self.code not in BODILESS:
                self._answer_headers.setdefault(b"Content-Length", b"%d" % len(body or b""))
            self.write(body or b"")
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
        self.persistent = framed and self._channel.persists(self)
        if not self.persistent:
            headers[b"Connection"] = b"close"
        elif self.clientproto == b"HTTP/1.0":
            headers[b"Connection"] = b"keep-alive"
        head = self._channel.site.head
        fixed = b"%s%s%sX-Request-Id: %s\r\n" % (head, self._fixed, self.sharing, self.id)
        return format_head(self.code, fixed, headers)

    async def drained(self) -> None:
        """Return when the client has taken enough of what was written."""
        if self._channel is not None:
            await self._channel.output.drained()

    def abort(self) -> None:
        """Break the connection: what was sent of the answer is not all of it."""
        if self._channel is not None:
            self._channel.abort()

    def connectionLost(self) -> None:
        """There is no one to answer any more."""
        if self._channel is not None:
            self.code = GONE
            self._channel.site.finished(self)
        work, self._channel, self.work = self.work, None, None
        if work is not None:
            work.cancel()
