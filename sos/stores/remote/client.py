"""HTTP requests to one server, and validation of its answers.

Only this module and :mod:`sos.stores.remote.store` validate what a server answers.
An invalid answer counts as a failure of that server: :exc:`~sos.errors.Unavailable`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from hashlib import sha256
from http.client import responses
from typing import Any
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from sos.aio.tasks import unwanted
from sos.aio.timeouts import Deadlines
from sos.auth.request_signing import STORE, Length
from sos.errors import (
    Conflict,
    Deleted,
    Incomplete,
    InvalidId,
    InvalidRequest,
    Mismatch,
    NoSpace,
    NotFound,
    SOSError,
    TooLarge,
    Unavailable,
    printable,
)
from sos.http.client.agent import Agent
from sos.http.client.bodies import (
    ANSWER_SECONDS,
    PROMPT_SECONDS,
    ResponseBody,
    StreamedBody,
    is_network_failure,
    network_failures,
)
from sos.http.client.request import Call
from sos.http.server.request_ids import CURRENT
from sos.interfaces import BlobInfo, IBlobWriter, Span, is_size, is_time
from sos.model import ids
from sos.model import metadata as metadata_format
from sos.model.batch import Answer
from sos.model.manifest import MARK
from sos.model.metadata import DELETED_AT, EMPTY, Metadata

#: An HTTP response: an IResponse.
Response = Any

#: The header fields of a request.
Fields = list[tuple[bytes, bytes]]

#: Signs a request: returns the value of its ``Authorization`` header, given its method,
#: its path and query, the length of its body in bytes, and its headers.
Credentials = Callable[[bytes, bytes, Length, Fields], bytes]

#: The inverse of the table in :mod:`sos.web.errors`; any other status is UnexpectedStatus.
ERRORS: dict[int, type[SOSError]] = {
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Mismatch,
    507: NoSpace,
}

_STORE = STORE.encode("ascii")

# Most bytes of an answer that is neither a blob nor a listing.
_MOST_OF_A_DOCUMENT = 64 * 1024

# Most characters of a URL in an error.
_MOST_OF_A_URL = 200

# Most bytes of the body of an error.
_MOST_OF_AN_ERROR = 4096

# An entity tag, which is sent back unchanged (RFC 9110, 8.8.3).
_ETAG = re.compile(rb'(W/)?"[!#-~]*"')

# Most bytes of one member of a listing.
_MOST_OF_A_MEMBER = 1024 * 1024

# Resolution of request timeouts, in seconds: a request can time out so much later.
_TICK_SECONDS = 0.5


class UnexpectedStatus(Unavailable):
    """An answer with a status that blob servers have no error for.

    :ivar status: the status.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


def error_of(status: int, reason: str, metadata: Callable[[], Metadata]) -> SOSError:
    """Return the error that a *status* other than 200 stands for.

    :param metadata: returns the metadata of the answer: of a deleted object, if it is 410.
    """
    if status == 410 and DELETED_AT in (found := metadata()):
        return Deleted(reason, found)
    if status in ERRORS:
        return ERRORS[status](reason)
    return UnexpectedStatus(reason, status)


class Exchange:
    """HTTP client of the server at one URL.

    Documents, such as statuses and digests, are requested through treq.  Blobs are not: of
    ``GET /alive`` over a kept connection, a request through treq took 103 us of CPU, and a
    direct one 31 us.

    :param url: its address, as :func:`sos.model.addresses.server_url` spells it.
    :param agent: its connections.
    :param credentials: signs the requests; None to send them unsigned.
    :ivar ignored: names of the X-* headers of uploads that the server did not keep.
    :ivar store: the id of the server's store, once known.  Requests are signed for it
        until the server answers 401: the address may lead to another store by then.
    :ivar deadlines: of the requests to it.
    :ivar expects: whether uploads wait for a ``100 Continue`` before they send a body in pieces.
    """

    expects = False

    def __init__(
        self, url: str, agent: Agent, clock: Any, credentials: Credentials | None = None
    ) -> None:
        self.url = url
        self._agent = agent
        self.clock = clock
        self.ignored: set[str] = set()
        self.store: str | None = None
        self._credentials = credentials
        parts = urlsplit(url)
        self._base = parts.path
        self._server = agent.server(f"{parts.scheme}://{parts.netloc}".encode("ascii"))
        self._version = f" HTTP/1.1\r\nHost: {self._server.host.decode('ascii')}\r\n"
        self._http = HTTPClient(self._server)
        self.deadlines = Deadlines(clock, _TICK_SECONDS)

    async def request(
        self,
        method: str,
        path: str,
        span: Span | None = None,
        seconds: float = PROMPT_SECONDS,
    ) -> Response:
        """Send a request without a body, and return its response, a 200.

        :param span: range of the body to request; the response can then be a 206 with
            exactly this range.
        :param seconds: timeout for the head of the response, without a *span*.
        """
        if span is None:
            return await self.answered(self.send(method, path, seconds=seconds))
        start, stop = span
        asked = {"Range": f"bytes={start}-{stop - 1}"}
        sent = self.send(method, path, asked, seconds=PROMPT_SECONDS)
        response = await self.answered(sent, accept=(200, 206))
        if response.code == 206:
            content_range = response.headers.getRawHeaders(b"content-range", [b""])[0]
            if not content_range.startswith(b"bytes %d-%d/" % (start, stop - 1)):
                await ResponseBody(response, self.clock).aclose()
                raise Unavailable(
                    f"{self.url} sent another range than requested: {content_range!r:.80}"
                )
        return response

    async def document(
        self,
        method: str,
        path: str,
        most: int = _MOST_OF_A_DOCUMENT,
        fields: Metadata = EMPTY,
    ) -> Any:
        """Send a request without a body, and return the JSON of its answer, up to *most* bytes."""
        return await self.parsed(await self._ask(method, path, fields), most)

    async def parsed(self, response: Response, most: int) -> Any:
        """Return the JSON in the body of *response*, up to *most* bytes."""
        return self._parsed(await gather(ResponseBody(response, self.clock), most))

    async def parts(
        self, response: Response, brackets: bytes, separator: bytes, most: int
    ) -> AsyncGenerator[Any, None]:
        """Yield the JSON array or object in *response* in parts of a few members each.

        Parsing tens of megabytes at once would block all other requests.  Raises
        :exc:`~sos.errors.Unavailable` after more than *most* bytes.

        :param brackets: around the members: ``[]`` or ``{}``.
        :param separator: ends each member but the last, with a comma as its last byte; must
            not occur within a member.
        """
        opening, closing = brackets[:1], brackets[1:]
        body = ResponseBody(response, self.clock)
        size, begun, rest = 0, b"", b""
        async with aclosing(body):
            async for piece in body:
                size += len(piece)
                rest += piece
                end = rest.rfind(separator) + len(separator)
                if end >= len(separator):
                    yield self._parsed(begun + rest[: end - 1] + closing)
                    begun, rest = opening, rest[end:]
                if size > most or len(rest) > _MOST_OF_A_MEMBER:
                    raise Unavailable(f"{self.url} sent too large a listing: {size} bytes or more")
        last = self._parsed(begun + rest)
        if begun and not last:
            raise Unavailable(f"{self.url} sent invalid JSON: it ends with a comma")
        yield last

    async def version(self, path: str, known: str | None, most: int) -> tuple[str | None, Any]:
        """Return the ETag of the JSON at *path*, and the JSON, up to *most* bytes.

        :param known: ETag of an earlier answer; while it matches, the JSON is None.
        """
        if known is None:
            response = await self._ask("GET", path)
        else:
            response = await self._ask("GET", path, {"If-None-Match": known}, accept=(200, 304))
        text = await gather(ResponseBody(response, self.clock), most)
        if response.code == 304:
            return known, None
        raw_etag = response.headers.getRawHeaders(b"etag", [b""])[0]
        etag = raw_etag.decode("ascii") if _ETAG.fullmatch(raw_etag) else None
        return etag, self._parsed(text)

    async def _ask(
        self, method: str, path: str, fields: Metadata = EMPTY, accept: tuple[int, ...] = (200,)
    ) -> Response:
        headers = Headers({name: [value] for name, value in fields.items()})
        if self._credentials is not None:
            named = metadata_format.to_headers(fields)
            target = f"{self._base}{path}".encode("ascii")
            if self.store is not None:
                named.append((_STORE, self.store.encode("ascii")))
                headers.addRawHeader(*named[-1])
            value = self._credentials(method.encode("ascii"), target, 0, named)
            headers.addRawHeader(b"Authorization", value)
        sent = self._http.request(
            method,
            f"http://server{self._base}{path}",  # treq rejects IPv6 addresses
            headers=headers,
            allow_redirects=False,
            unbuffered=True,
            reactor=self.clock,
        )
        return await self.answered(sent.addTimeout(PROMPT_SECONDS, self.clock), accept)

    def _parsed(self, text: bytes) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            shown = "an HTML page" if _is_markup(text) else repr(text[:100])
            raise Unavailable(f"{self.url} sent invalid JSON: {shown}") from None

    def send(
        self,
        method: str,
        path: str,
        fields: Metadata = EMPTY,
        body: bytes | IBodyProducer | None = None,
        seconds: float | None = None,
    ) -> Deferred[Response]:
        """Send one request.

        :param fields: its headers, which can be metadata.
        :param seconds: until it fails with a TimeoutError; None for no timeout.
        """
        head = f"{method} {self._base}{path}{self._version}".encode("ascii")
        headers = metadata_format.to_headers(fields)
        sign = None
        if self._credentials is not None:
            if body and isinstance(body, bytes) and not _is_certified(path, fields):
                headers.append((b"Content-Digest", _content_digest(body)))
            if self.store is not None:
                headers.append((_STORE, self.store.encode("ascii")))
            sign = self._signed(method, path, headers, body)
        for each in headers:
            head += b"%s: %s\r\n" % each
        asked_for = CURRENT.get()
        if asked_for is not None:
            head += b"X-Request-Id: %s\r\n" % asked_for
        call = Call(head, body, method == "HEAD", sign)
        if seconds is not None:
            call.set_timeout(seconds, self.deadlines)
        return self._server.send(call)

    def _signed(
        self, method: str, path: str, headers: Fields, body: bytes | IBodyProducer | None
    ) -> Callable[[], bytes]:
        """Return a function that makes the ``Authorization`` header line of a request."""
        credentials = self._credentials
        assert credentials is not None
        target = f"{self._base}{path}".encode("ascii")
        length: Length = 0
        if isinstance(body, bytes):
            length = len(body)
        elif body is not None:
            length = None if body.length is UNKNOWN_LENGTH else int(body.length)
        verb = method.encode("ascii")
        return lambda: b"Authorization: %s\r\n" % credentials(verb, target, length, headers)

    async def answered(
        self, sent: Deferred[Response], accept: tuple[int, ...] = (200,)
    ) -> Response:
        """Wait for the response to a request, and return it if its status is in *accept*.

        Any other status raises the error that it stands for.  No response at all raises
        :exc:`~sos.errors.Unavailable`.
        """
        with network_failures(self.url):
            response = await sent
        if response.code in accept:
            return response
        if response.code == 401:
            self.store = None
        text, is_whole = await _excerpt(ResponseBody(response, self.clock))
        location = response.headers.getRawHeaders(b"location", [b""])[0]
        detail = _error_detail(response, text)
        if location and response.code // 100 == 3:
            detail = f", a redirect to {shown_url(location.decode('latin-1'))}"
        reason = f"{self.url} answered {response.code}{detail}"
        # A truncated answer can be a proxy's: its status proves nothing.
        if not is_whole:
            raise Unavailable(reason)
        raise error_of(response.code, reason, lambda: self.metadata(response))

    def metadata(self, answer: Response | Answer) -> Metadata:
        """Return the metadata in an *answer*; raise Unavailable if it is invalid."""
        try:
            if isinstance(answer, Answer):
                return metadata_format.from_header(answer.metadata)
            return metadata_format.from_server(answer.fields)
        except InvalidRequest as error:
            raise Unavailable(f"{self.url} sent invalid metadata: {error}") from error

    async def post(self, path: str, fields: Metadata, body: bytes) -> BlobInfo:
        """Upload *body* with :meth:`send`, and return the stored blob: see :meth:`stored`."""
        return await self.stored(self.send("POST", path, fields, body, ANSWER_SECONDS))

    async def stored(self, sent: Deferred[Response]) -> BlobInfo:
        """Wait for the answer to an upload, and return the blob that it confirms."""
        response = await self.answered(sent)
        text = response.whole()
        if text is None:
            text = await gather(ResponseBody(response, self.clock), _MOST_OF_A_DOCUMENT)
        found = self._parsed(text)
        try:
            store, expires_at = found.get("store"), found.get("expires_at")
            if (
                found["status"] == "OK"
                and is_size(found["size"])
                and (store is None or ids.is_store_id(store))
                and (expires_at is None or is_time(expires_at))
            ):
                self.store = store or self.store
                if "ignored" in found:
                    self.ignored.update(found["ignored"])
                id = ids.check(found["id"])
                size, nothing = found["size"], metadata_format.EMPTY
                return BlobInfo(id, size, nothing, store=store, expires_at=expires_at)
        except (AttributeError, KeyError, TypeError, InvalidId):
            pass
        raise Unavailable(f"{self.url} sent an unexpected answer to an upload: {found!r:.200}")


@implementer(IBlobWriter)
class Upload:
    """Upload that streams its body, but holds the last piece back until the commit.

    A server that has the whole body stores the blob, even if the upload is to be aborted.

    :param path: path to POST to.
    :param id: the id that the answer must name, or None for any.
    :param fields: headers, which carry the metadata.
    :param size: size of the body in bytes, None to send it chunked.
    """

    def __init__(
        self,
        exchange: Exchange,
        path: str,
        id: str | None,
        fields: Metadata,
        size: int | None,
    ) -> None:
        self._exchange = exchange
        self._path = path
        self._id = id
        self._fields = fields
        self._size = size
        self._streamed: _Streamed | None = None
        self._held = b""
        self._written = 0

    async def write(self, piece: bytes) -> None:
        self._written += len(piece)
        held, self._held = self._held, piece
        if held:
            if self._streamed is None:
                self._streamed = _Streamed(self._exchange, self._path, self._fields, self._size)
            await self._streamed.write(held)

    async def commit(self) -> BlobInfo:
        if self._size not in (None, self._written):
            self.abort()
            raise Incomplete(f"{self._written} bytes arrived, but {self._size} were announced")
        if self._streamed is None:
            info = await self._exchange.post(self._path, self._fields, self._held)
        else:
            await self._streamed.write(self._held)
            info = await self._streamed.finish()
        if info.size != self._written or self._id not in (None, info.id):
            raise Unavailable(
                f"{self._exchange.url} was sent {self._written} bytes for {self._id or 'any id'}, "
                f"but reports {info.size} bytes stored as {info.id}"
            )
        return info

    def abort(self) -> None:
        if self._streamed is not None:
            self._streamed.abort()


class _Streamed:
    """Upload whose body is sent in pieces."""

    def __init__(self, exchange: Exchange, path: str, fields: Metadata, size: int | None) -> None:
        self._exchange = exchange
        self._body = StreamedBody(size, exchange.clock, exchange.expects)
        request = exchange.send("POST", path, fields, self._body)
        self._sent: Deferred[Response] = Deferred(lambda _: request.cancel())
        request.addBoth(self._ended)

    def _ended(self, outcome: Response | Failure) -> None:
        self._sent.callback(outcome)
        self._body.stop()  # wakes up a waiting writer, which then finds the outcome

    async def write(self, piece: bytes) -> None:
        if not await self._body.write(piece):
            response = await self._exchange.answered(self._sent)
            await ResponseBody(response, self._exchange.clock).aclose()
            raise Unavailable(f"{self._exchange.url} answered before the body was complete")

    async def finish(self) -> BlobInfo:
        self._body.finish()
        return await self._exchange.stored(
            self._sent.addTimeout(ANSWER_SECONDS, self._exchange.clock)
        )

    def abort(self) -> None:
        # An answer that nobody reads would hold its connection for ever.
        self._sent.addCallbacks(_let_go, _given_up)
        self._sent.cancel()


def _let_go(response: Response | None) -> None:
    if response is not None:  # else somebody has read it already
        response.stopProducing()


def _given_up(failure: Failure) -> None:
    if failure.value is not None and not is_network_failure(failure.value):
        unwanted(failure)


async def gather(body: ResponseBody, most: int) -> bytes:
    """Return the body, cut off after the piece that exceeds *most* bytes, and close it."""
    async with aclosing(body):
        return await beginning(body, most)


async def _excerpt(body: ResponseBody) -> tuple[bytes, bool]:
    """Return the beginning of an error's body, and False if the body was truncated.

    Truncation does not show in a body without a length, as in HTTP/1.0.
    """
    text = b""
    async with aclosing(body):
        try:
            async for piece in body:
                text += piece
                if len(text) > _MOST_OF_AN_ERROR:
                    break
        except Unavailable:
            return text, False
    return text, True


async def beginning(body: ResponseBody, most: int) -> bytes:
    """Return the body, cut off after the piece that exceeds *most* bytes."""
    pieces = []
    size = 0
    async for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size > most:
            break
    return b"".join(pieces)


def _is_certified(path: str, fields: Metadata) -> bool:
    """Return whether the id at the end of *path* is the hash of the body that is sent there."""
    return ids.algorithm(path.rpartition("/")[2]) is not None and MARK not in fields


def _content_digest(body: bytes) -> bytes:
    """Return the value of ``Content-Digest`` (RFC 9530, 2)."""
    return b"sha-256=:%s:" % b64encode(sha256(body).digest())


def _phrase(status: int) -> str:
    """Return the reason phrase of *status*, for an error whose answer has no message."""
    return f" {responses[status]}" if status in responses else ""


def _error_detail(response: Response, document: bytes) -> str:
    """Return the server's error message, to follow the status code.

    The message is one line.  For a proxy's HTML page it is the reason phrase.
    """
    try:
        detail = str(json.loads(document)["error"])
    except (ValueError, TypeError, KeyError, RecursionError):
        type = response.headers.getRawHeaders(b"content-type", [b""])[0].partition(b";")[0]
        is_text = type.strip().lower() in (b"", b"text/plain") and not _is_markup(document)
        lines = document.decode("latin-1").split("\n") if is_text else []
        detail = next(filter(None, map(str.strip, lines)), "")
    shown = printable(detail[:200])
    return f": {shown}" if shown else _phrase(response.code)


def shown_url(url: str) -> str:
    """Return *url* for an error message: without query, user and password, which are secret."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    return printable(shown[:_MOST_OF_A_URL])


def _is_markup(document: bytes) -> bool:
    return document.lstrip()[:1] == b"<"
