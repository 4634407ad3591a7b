"""Adapter for a stock ``twisted.web`` server: ``Site(BlobServer(store).app.resource())``.

Our own server is faster, rejects malformed requests, and sends bodies from files.  A stock
server can combine the routes with other resources.  Both answer every route alike.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from klein import Klein
from twisted.internet.interfaces import IAddress
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from sos.http.server.heads import RejectedRequest, format_error, gather
from sos.http.server.output import Output
from sos.http.server.request import BODILESS, Request
from sos.http.server.request_body import LARGE_READ, RequestBody
from sos.web.routes import handler


class App(Klein):
    """Klein application whose routes also work in a stock server."""

    def resource(self) -> _Resource:  # type: ignore[override]  # another kind of resource
        """Return the routes as a resource of ``twisted.web``."""
        return _Resource(self)


@implementer(IResource)
class _Resource:
    isLeaf = True

    def __init__(self, app: Klein) -> None:
        self._answer = handler(app)

    def getChildWithDefault(self, name: bytes, request: Any) -> _Resource:
        """Return this resource, which answers all paths below it."""
        return self

    def putChild(self, path: bytes, child: Any) -> None:
        """Refuse other resources: their paths could be routes."""
        raise NotImplementedError(
            "cannot add a child here: put this resource below another one instead"
        )

    def render(self, stock: Any) -> Any:
        """Answer the request *stock* of ``twisted.web``."""
        try:
            request = _StockRequest(stock)
        except RejectedRequest as refusal:
            stock.setResponseCode(refusal.status)
            stock.setHeader(b"Content-Type", b"application/json")
            stock.setHeader(b"Cache-Control", b"no-store")
            return format_error(refusal.status, str(refusal))
        self._answer(request)
        return NOT_DONE_YET


class _Body(RequestBody):
    """Body that ``twisted.web`` has already received, into memory or a file."""

    def __init__(self, content: Any) -> None:
        size = content.seek(0, 2)
        content.seek(0)
        super().__init__(size, lambda: None, lambda: None)
        self._content = content
        self.end()

    def whole(self) -> None:
        """Return None: the body can be in a file, and is read piece by piece."""

    def __aiter__(self) -> AsyncGenerator[bytes, None]:  # type: ignore[override]
        return self._read()

    async def _read(self) -> AsyncGenerator[bytes, None]:
        while piece := self._content.read(LARGE_READ):
            self.received += len(piece)
            yield piece


class _Channel:
    """Substitute for our connection and its site, for one request."""

    head = b""  # a stock server adds its own
    proxies = None

    def __init__(self, stock: Any) -> None:
        self.peer: IAddress | None = stock.getClientAddress()
        self.transport = stock
        self.output = Output(stock, lambda: None)

    @property
    def site(self) -> _Channel:
        """The recorder of finished requests."""
        return self

    def keeps_alive(self, request: Request) -> bool:
        """Return True: the stock server decides."""
        return True

    def finished(self, request: Request) -> None:
        """Do nothing: a stock server logs its requests itself."""

    def done(self, request: Request) -> None:
        """End the answer."""
        self.output.flush()
        self.transport.unregisterProducer()
        self.transport.finish()

    def abort(self) -> None:
        """Abort the connection."""
        self.output.abort()
        self.transport.transport.abortConnection()


class _StockRequest(Request):
    """Request of ours that wraps a request of ``twisted.web``."""

    __slots__ = ("_stock",)

    def __init__(self, stock: Any) -> None:
        headers = [
            (name, value)
            for name, values in stock.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        channel = _Channel(stock)
        body = _Body(stock.content)
        protocol = stock.clientproto
        super().__init__(channel, stock.method, stock.uri, protocol, headers, gather(headers), body)
        self._stock = stock
        stock.notifyFinish().addErrback(lambda _: self.connectionLost())

    def _begin(self) -> bytes:
        self.startedWriting = True
        self._bodiless = self.method == b"HEAD" or self.code in BODILESS
        self.persistent = True
        stock = self._stock
        stock.setResponseCode(self.code)
        for line in (self._fixed + self.sharing).splitlines():
            name, _, value = line.partition(b": ")
            stock.responseHeaders.addRawHeader(name, value)
        for name, value in self._answer_headers.items():
            stock.setHeader(name, value)
        stock.setHeader(b"X-Request-Id", self.id)
        return b""
