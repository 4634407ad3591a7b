"""The HTTP client of a bucket: it signs requests, retries them and translates errors."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable, Mapping
from copy import copy
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import md5, sha256
from typing import Any
from xml.etree import ElementTree

from attrs import field, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from sos.aio.threads import RunInThread
from sos.errors import NoSpace, SOSError, StoreUnusable, Unavailable, printable
from sos.http.client.agent import Agent
from sos.http.client.bodies import (
    ANSWER_SECONDS,
    PROMPT_SECONDS,
    ResponseBody,
    TimedOut,
    network_failures,
)
from sos.stores.engines.s3.address import S3Address
from sos.stores.engines.s3.signing import Identity
from sos.stores.remote.client import gather

#: Attempts at a request that fails with a transient error.
TRIES = 3
# Mean seconds before the second attempt; before the third it is four times as long.
_BACK_OFF = 0.25

# Transient statuses: too many requests (SlowDown is a 503), and the effects of a restart.
_PASSING = frozenset((429, 500, 502, 503, 504))
_PASSING_CODES = frozenset(("RequestTimeout", "ConditionalRequestConflict", "OperationAborted"))
_FULL_CODES = frozenset(("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"))
# Errors that a new connection may avoid: the address may lead to another server by now.
_ELSEWHERE = frozenset((301, 302, 307, 308, 401, 403, 500, 502, 503, 504))
# Tolerated difference of clocks in seconds: S3 allows 900, others less.
_SKEW_SECONDS = 240.0

# Most bytes of an answer that is no blob: a listing of 1000 keys is the longest.
_MOST_OF_A_DOCUMENT = 8 * 1024 * 1024
# Most tags in an answer: a listed key has some twenty. In memory a tag takes a hundred bytes.
_MOST_TAGS = 100_000
# Bytes above which a body is hashed on another thread.
_MUCH_TO_HASH = 256 * 1024


class Denied(Unavailable):
    """The server refuses: invalid credentials, or no permission."""


@frozen
class Answer:
    """The answer to a request.

    :param fields: the headers, by their names in lower case.
    :param body: the whole body, unless it is streamed.
    :param pieces: the body in pieces, if it is streamed.
    :param signed_at: the ``X-Amz-Date`` of the request.
    """

    status: int
    fields: Mapping[str, str]
    body: bytes = b""
    pieces: ResponseBody | None = None
    signed_at: str = ""

    @property
    def code(self) -> str:
        """The error code of S3; empty if there is none."""
        return _text_of(self.body, "Code")

    @property
    def ahead(self) -> float | None:
        """Seconds by which our clock is ahead of the server's; None if unknown."""
        server_time = seconds_of(self.fields.get("date", ""))
        try:
            signed = datetime.strptime(self.signed_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return None
        return None if server_time is None else signed.timestamp() - server_time


@frozen
class Timeouts:
    """Timeouts in seconds.

    :param prompt: for the answers to GET, HEAD and DELETE.
    :param upload: for the answers to PUT and POST.
    """

    prompt: float = PROMPT_SECONDS
    upload: float = ANSWER_SECONDS


class Client:
    """The client of the bucket at an address; it needs :meth:`open` first.

    :param identify: finds credentials and region; it may block, so it runs on another thread.
    """

    def __init__(
        self,
        address: S3Address,
        agent: Agent,
        clock: Any,
        run_in_thread: RunInThread,
        identify: Callable[[], Identity],
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self.name = str(address)
        self.clock = clock
        self.bucket = address.bucket
        self._address = address
        self._agent = agent
        self._http = HTTPClient(agent)
        self._run_in_thread = run_in_thread
        self._identify = identify
        self._timeouts = timeouts
        self._identity: Identity | None = None

    @property
    def region(self) -> str:
        """The region of the bucket; empty while unknown."""
        return self._identity.region if self._identity else self._address.region or ""

    async def identified(self) -> Client:
        """Return a copy with credentials, to check the store before :meth:`open`.

        Raises StoreUnusable if there are no credentials.
        """
        found = copy(self)
        found._identity = await self._run_in_thread(self._identify)
        return found

    def open(self, identified: Client) -> None:
        """Start to use the credentials of *identified*."""
        self._identity = identified._identity

    async def close(self) -> None:
        """Close the connections."""
        await self._agent.close()

    async def ask(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] = {},
        fields: Mapping[str, str] = {},
        body: bytes = b"",
        accept: tuple[int, ...] = (),
        stream: bool = False,
    ) -> Answer:
        """Send a request; return the answer if it is a success or its status is in *accept*.

        Transient failures are retried with back-off, up to :data:`TRIES` attempts in all. A
        timeout is not retried. All requests here are idempotent.

        :param key: empty for the bucket itself.
        :param stream: return the body of a success as pieces, which the caller must close.
        :raises NoSpace: if the account or the server is full.
        :raises Denied: if the server refuses.
        :raises Unavailable: for any other failure.
        """
        if self._identity is None:
            raise Unavailable(f"{self.name} is not open yet")
        hashes = await self._hashes(body)
        wait = _BACK_OFF
        for left in reversed(range(TRIES)):
            try:
                answer = await self._once(method, key, query, fields, body, hashes, stream)
            except Unavailable as error:
                # Another attempt after a timeout would time out as well.
                if not left or isinstance(error, TimedOut):
                    raise
            else:
                if answer.status in accept or answer.status in (200, 204, 206):
                    return answer
                if answer.status in _ELSEWHERE:
                    await self._agent.close()
                if not left or not _passes(answer):
                    raise self._error(answer, f"to {method} {key or 'the bucket'}")
            await deferLater(self.clock, wait * random.uniform(0.5, 1.5))
            wait *= 4
        raise AssertionError("the last try returns or raises")

    async def document(self, method: str, key: str, root: str, **options: Any) -> Any:
        """Send a request, and return the XML in the answer, which must have the root *root*.

        Fails as :meth:`ask` does, also if an error comes with status 200.
        """
        return self.parsed(await self.ask(method, key, **options), root)

    def parsed(self, answer: Answer, root: str) -> Any:
        """Return the XML in *answer*; fails as :meth:`document` does."""
        if answer.body.count(b"<") > _MOST_TAGS:
            raise Unavailable(f"{self.name} sent XML of over {_MOST_TAGS} tags")
        try:
            found = ElementTree.fromstring(answer.body, ElementTree.XMLParser(target=_Elements()))
        except (ElementTree.ParseError, ValueError, LookupError):  # of its encoding
            raise Unavailable(f"{self.name} sent invalid XML: {answer.body[:80]!r}") from None
        for each in found.iter():
            each.tag = each.tag.rpartition("}")[2]
        if found.tag != root:
            raise self._error(answer, f"where {root} was expected")
        return found

    async def _hashes(self, body: bytes) -> _Hashes:
        if len(body) > _MUCH_TO_HASH:
            return await self._run_in_thread(_hashes, body)
        return _hashes(body)

    async def _once(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        fields: Mapping[str, str],
        body: bytes,
        hashes: _Hashes,
        stream: bool,
    ) -> Answer:
        url, signed = await self._signed(method, key, query, fields, body, hashes)
        seconds = self._timeouts.upload if method in ("PUT", "POST") else self._timeouts.prompt
        sent = self._http.request(
            method,
            url,
            headers=Headers({name: [value] for name, value in signed.items()}),
            data=body or None,
            allow_redirects=False,
            unbuffered=True,
            reactor=self.clock,
        )
        with network_failures(self.name):
            response = await sent.addTimeout(seconds, self.clock)
        pieces = ResponseBody(response, self.clock)
        received = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, (value, *_) in response.headers.getAllRawHeaders()
        }
        if stream and response.code in (200, 206):
            return Answer(response.code, received, pieces=pieces)
        signed_at = signed.get("X-Amz-Date", "")
        text = await gather(pieces, _MOST_OF_A_DOCUMENT)
        if len(text) > _MOST_OF_A_DOCUMENT:
            raise Unavailable(f"{self.name} sent an answer of over {_MOST_OF_A_DOCUMENT} bytes")
        return Answer(response.code, received, text, signed_at=signed_at)

    async def _signed(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        fields: Mapping[str, str],
        body: bytes,
        hashes: _Hashes,
    ) -> tuple[str, dict[str, str]]:
        identity = self._identity
        assert identity is not None
        base = self._address.base(identity.region)
        sent = dict(fields)
        if body:
            sent["Content-MD5"] = hashes.md5
        arguments = (method, f"{base}/{key}" if key else base, dict(query), sent, hashes.sha256)
        try:
            if identity.may_block:
                return await self._run_in_thread(identity.sign, *arguments)
            return identity.sign(*arguments)
        except CancelledError:
            raise
        except Exception as error:  # its text may contain secrets
            raise Unavailable(f"cannot sign a request: {type(error).__name__}") from None

    def _error(self, answer: Answer, to: str) -> SOSError:
        message = _text_of(answer.body, "Message")
        text = f"{self.name} answered {answer.status}"
        text += "".join(f" {each}" for each in (answer.code, message and f"({message})") if each)
        text = text[:300]
        if answer.status == 507 or answer.code in _FULL_CODES:
            return NoSpace(text)
        ahead = answer.ahead
        refused = answer.status in (401, 403)
        if answer.code == "RequestTimeTooSkewed" or (refused and abs(ahead or 0) > _SKEW_SECONDS):
            return Unavailable(f"{text}: {_skew(ahead)}")
        if refused:
            return Denied(text)
        if answer.status in (301, 302, 307, 308):
            return Unavailable(
                f"{text}: the bucket is at another endpoint; check endpoint and region"
            )
        return Unavailable(f"{text} {to}")


class _Elements(ElementTree.TreeBuilder):
    """A tree builder that rejects a DTD, which S3 never sends.

    The entities of a DTD can expand a small document to gigabytes.
    """

    def doctype(self, *_: object) -> None:
        """Raise ValueError; the parser calls this before it reads the DTD."""
        raise ValueError("a DTD")


@frozen
class _Hashes:
    md5: str = field()
    sha256: str = field()


def _hashes(body: bytes) -> _Hashes:
    digest = md5(body, usedforsecurity=False).digest()
    return _Hashes(b64encode(digest).decode("ascii"), sha256(body).hexdigest())


def _passes(answer: Answer) -> bool:
    return answer.status in _PASSING or answer.code in _PASSING_CODES


def _text_of(body: bytes, name: str) -> str:
    """Return the text of the first element *name* of an error, printable for the log.

    The error need not be well-formed XML.
    """
    start, stop = f"<{name}>".encode(), f"</{name}>".encode()
    text = body.partition(start)[2].partition(stop)[0][:200].decode("utf-8", "replace")
    return printable(text)


def _skew(ahead: float | None) -> str:
    """Describe the error of a clock that is *ahead* of the server's by so many seconds."""
    if ahead is None or abs(ahead) <= _SKEW_SECONDS:
        return "the clock of this machine or of the server is wrong; correct it"
    which = "ahead of" if ahead > 0 else "behind"
    return f"the clock of this machine is {abs(ahead):.0f} s {which} the server's; correct it"


def seconds_of(date: str) -> float | None:
    """Return a *date* in a header as seconds since the epoch; None if it is no date."""
    try:
        found = parsedate_to_datetime(date)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def unusable(error: Denied) -> StoreUnusable:
    """Return the error for a refusal while the store is opened."""
    return StoreUnusable(f"{error}; check the keys and their permissions")
