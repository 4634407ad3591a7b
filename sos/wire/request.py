"""A request as Klein's routes see it: Twisted's, with a body that streams in."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import datetimeToString, parse_qs

from sos import __version__
from sos.wire.body import RequestBody

if TYPE_CHECKING:
    from sos.wire.server import Channel

_SERVER = f"sos/{__version__}".encode("ascii")


class Request(server.Request):
    """One request.  It is processed as soon as its headers are in.

    Its body is :attr:`body`; there is no ``content``, and forms are not parsed.
    """

    channel: Channel  # type: ignore[assignment]
    defaultContentType = b"application/octet-stream"

    def __init__(
        self,
        channel: Channel,
        method: bytes,
        target: bytes,
        version: bytes,
        headers: list[tuple[bytes, bytes]],
        body: RequestBody,
    ) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.method = method
        self.uri = target
        self.clientproto = version
        self.path, _, query = _origin_form(target).partition(b"?")
        self.args = parse_qs(query, True) if query else {}
        self.received_headers = headers
        for name, value in headers:
            self.requestHeaders.addRawHeader(name, value)
        self.body = body

    def process(self) -> None:
        """Hand the request to its resource."""
        self.site = self.channel.site
        self.setHeader(b"Server", _SERVER)
        self.setHeader(b"Date", datetimeToString())
        self.prepath = []
        self.postpath = [unquote_to_bytes(part) for part in self.path[1:].split(b"/")]
        try:
            self.render(self.site.getResourceFor(self))
        except Exception:
            self.processingFailed(Failure())

    async def drained(self) -> None:
        """Return when the client has taken enough of what was written."""
        await self.channel.drained()

    def abort(self) -> None:
        """Break the connection: what was sent of the answer is not all of it."""
        if self.channel is not None:
            self.channel.abort()


def _origin_form(target: bytes) -> bytes:
    """Return the path and query of a request target (RFC 9112, 3.2.2)."""
    if target.startswith(b"/"):
        return target
    _, scheme_end, rest = target.partition(b"://")
    if not scheme_end:
        return b"/" + target  # asterisk-form, which no route matches
    _, slash, path = rest.partition(b"/")
    return slash + path or b"/"
