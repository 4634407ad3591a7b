"""Requests to a server, and answers that are checked.

What a server answers is checked here and in :mod:`sos.stores.remote`, and
nowhere else; an answer that makes no sense is that server's failure,
:exc:`~sos.errors.Unavailable`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from sos import ids
from sos import metadata as metadata_format
from sos.errors import (
    Conflict,
    Incomplete,
    InvalidId,
    Mismatch,
    NoSpace,
    NotFound,
    SOSError,
    TooLarge,
    Unavailable,
)
from sos.interfaces import BlobInfo, IBlobWriter, Span
from sos.metadata import Metadata
from sos.wire.client import (
    ANSWER_SECONDS,
    PROMPT_SECONDS,
    ResponseBody,
    StreamedBody,
    cause,
)

T = TypeVar("T")

#: An answer: an IResponse.
Response = Any

# The inverse of the table in sos.web.errors; any other status is Unavailable.
_ERRORS: dict[int, type[SOSError]] = {
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Mismatch,
    507: NoSpace,
}

# Most bytes of an answer that is no blob and no listing.
_MOST_OF_A_DOCUMENT = 64 * 1024


class Exchange:
    """Speaks to the server at a URL.

    :param url: its address, as :func:`sos.config.server_url` spells it.
    :param agent: follows no redirects; blobs go over it directly, and what
        need not be fast through treq.
    """

    def __init__(self, url: str, agent: IAgent, clock: Any) -> None:
        self.url = url
        self.clock = clock
        self._agent = agent
        self._http = HTTPClient(agent)

    async def request(self, method: str, path: str, span: Span | None = None) -> Response:
        """Return the answer to a request without a body, which is a 200.

        :param span: the part of the body that is asked for; then it can be a
            206, of that part and no other.
        """
        if span is None:
            sent = self.send(method, path, metadata_format.EMPTY, None)
            return await self.answered(sent, PROMPT_SECONDS)
        start, stop = span
        asked = {"Range": f"bytes={start}-{stop - 1}"}
        sent = self.send(method, path, asked, None)
        response = await self.answered(sent, PROMPT_SECONDS, accept=(200, 206))
        if response.code == 206:
            told = response.headers.getRawHeaders(b"content-range", [b""])[0]
            if not told.startswith(b"bytes %d-%d/" % (start, stop - 1)):
                await ResponseBody(response, self.clock).aclose()
                raise Unavailable(f"{self.url} sent another part than was asked for: {told!r:.80}")
        return response

    async def document(self, method: str, path: str, most: int | None = _MOST_OF_A_DOCUMENT) -> Any:
        """Return the JSON that answers a request, of up to *most* bytes."""
        sent = self._http.request(
            method, self.url + path, allow_redirects=False, unbuffered=True, reactor=self.clock
        )
        return await self._document(await self.answered(sent, PROMPT_SECONDS), most)

    async def _document(self, response: Response, most: int | None) -> Any:
        text = await gather(ResponseBody(response, self.clock), most)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Unavailable(f"{self.url} sent what is not JSON: {text[:100]!r}") from None

    def send(
        self, method: str, path: str, fields: Mapping[str, str], body: IBodyProducer | None
    ) -> Deferred[Response]:
        """Send one request, with *fields* (which can be metadata) as its headers."""
        headers = Headers()
        for name, value in metadata_format.to_headers(fields):
            headers.addRawHeader(name, value)
        url = f"{self.url}{path}".encode("ascii")
        return self._agent.request(method.encode("ascii"), url, headers, body)

    async def answered(
        self, sent: Deferred[Response], seconds: float, accept: tuple[int, ...] = (200,)
    ) -> Response:
        """Wait for the answer to a request, and return it if its status is in *accept*.

        Any other raises what it means, and no answer in so many *seconds*
        raises Unavailable.
        """
        late = Unavailable(f"{self.url} did not answer in {seconds:.0f} s")
        waiting = abandonable(sent)
        deadline = self.clock.callLater(seconds, _abandon, waiting, sent, late)
        try:
            response = await waiting
        except (CancelledError, SOSError):
            raise
        except Exception as error:
            raise Unavailable(f"{self.url} cannot be reached: {cause(error)}") from error
        finally:
            if deadline.active():
                deadline.cancel()
        if response.code in accept:
            return response
        text = await gather(ResponseBody(response, self.clock), 4096)
        reason = f"{self.url} answered {response.code}{_told(text)}"
        raise _ERRORS.get(response.code, Unavailable)(reason)

    async def stored(self, sent: Deferred[Response]) -> BlobInfo:
        """Wait for the answer to an upload, and return what it says was stored."""
        answer = await self.answered(sent, ANSWER_SECONDS)
        found = await self._document(answer, _MOST_OF_A_DOCUMENT)
        try:
            if found["status"] == "OK" and isinstance(found["size"], int):
                return BlobInfo(ids.check(found["id"]), found["size"], metadata_format.EMPTY)
        except (KeyError, TypeError, InvalidId):
            pass
        raise Unavailable(f"{self.url} answered an upload with {found!r:.200}")


@implementer(IBlobWriter)
class Upload:
    """Sends a body as it comes, but for the last piece: that goes with the commit.

    With the whole body a server has all it needs to store the blob.

    :param path: what to POST to.
    :param id: the id that the answer has to name, or None for any.
    :param size: of the body in bytes, None to send it chunked.
    """

    def __init__(
        self,
        exchange: Exchange,
        path: str,
        id: str | None,
        metadata: Metadata,
        size: int | None,
    ) -> None:
        self._exchange = exchange
        self._path = path
        self._id = id
        self._metadata = metadata
        self._size = size
        self._body = StreamedBody(size, exchange.clock)
        self._sent: Deferred[Response] | None = None
        self._held = b""
        self._written = 0

    async def write(self, piece: bytes) -> None:
        self._written += len(piece)
        held, self._held = self._held, piece
        if held:
            await self._send(held)

    async def _send(self, piece: bytes) -> None:
        sent = self._begun()
        if not await self._body.write(piece):
            response = await self._exchange.answered(sent, ANSWER_SECONDS)
            await ResponseBody(response, self._exchange.clock).aclose()
            raise Unavailable(f"{self._exchange.url} answered before it had the body")

    async def commit(self) -> BlobInfo:
        if self._size not in (None, self._written):
            self.abort()
            raise Incomplete(f"{self._written} bytes came, {self._size} were announced")
        if self._held:
            await self._send(self._held)
        sent = self._begun()
        self._body.finish()
        info = await self._exchange.stored(sent)
        if info.size != self._written or self._id not in (None, info.id):
            raise Unavailable(
                f"{self._exchange.url} took {self._written} bytes for {self._id or 'an id'}, "
                f"and says that it stored {info.size} as {info.id}"
            )
        return info

    def _begun(self) -> Deferred[Response]:
        if self._sent is None:
            request = self._exchange.send("POST", self._path, self._metadata, self._body)
            # It fires when the request's own callbacks have all run: the
            # connection is made in one of them, which lets a writer go on.
            self._sent = abandonable(request)
            request.addBoth(lambda _: self._body.stop())
        return self._sent

    def abort(self) -> None:
        if self._sent is not None and not self._sent.called:
            self._sent.addErrback(lambda _: None)
            self._sent.cancel()


def fields_of(response: Response) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer."""
    fields: list[tuple[bytes, bytes]] | None = getattr(response, "fields", None)
    if fields is None:  # of an agent that is not ours
        headers = response.headers.getAllRawHeaders()
        fields = [(name, value) for name, values in headers for value in values]
    return fields


def abandonable(request: Deferred[T]) -> Deferred[T]:
    """Return a Deferred of the outcome of *request*, with which it is cancelled.

    Twisted's client fails a request that is cancelled in other ways than with
    CancelledError; this one fails with that, so that whoever waits for it ends
    and does not go on to the next server.
    """
    waiting: Deferred[T] = Deferred(lambda d: _abandon(d, request, CancelledError()))

    def ended(outcome: Any) -> None:
        if not waiting.called:
            waiting.callback(outcome)

    request.addBoth(ended)
    return waiting


def _abandon(waiting: Deferred[Any], request: Deferred[Any], error: Exception) -> None:
    waiting.errback(error)
    request.cancel()


async def gather(body: ResponseBody, most: int | None) -> bytes:
    """Return the whole body, or its beginning once that is over *most* bytes, and close it."""
    async with aclosing(body):
        return await beginning(body, most)


async def beginning(body: ResponseBody, most: int | None) -> bytes:
    """Return the whole body, or its beginning once that is over *most* bytes."""
    pieces = []
    size = 0
    async for piece in body:
        pieces.append(piece)
        size += len(piece)
        if most is not None and size > most:
            break
    return b"".join(pieces)


def _told(document: bytes) -> str:
    """Return what a server says of an error, to go behind its status."""
    try:
        return f": {json.loads(document)['error']}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return f": {document[:200].decode('latin-1')}" if document else ""
