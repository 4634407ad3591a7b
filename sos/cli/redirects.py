"""Follow redirects of an API server, and reject unsafe ones (RFC 9110, 15.4)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.web.iweb import IBodyProducer

from sos.errors import Unavailable
from sos.http.client.agent import Agent
from sos.http.client.bodies import ResponseBody, StreamedBody
from sos.model import addresses
from sos.model.metadata import EMPTY, Metadata
from sos.stores.remote.client import Credentials, Exchange, Response, shown_url

#: The most redirects to follow for one request.
MOST_HOPS = 5

# These keep the method and the body.  After the others clients send a GET, also for an upload.
_KEEPING = (307, 308)
_REDIRECTS = (301, 302, 303, *_KEEPING)
# The answer of a server that does not support Expect: 100-continue.
_NOT_EXPECTED = 417
_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


class Redirected(Unavailable):
    """A redirect that the command does not follow."""


class SentInPart(Redirected):
    """A redirect of an upload that arrived after part of the body had been sent.

    The same upload, started again, goes to the new URL.
    """


class FollowingExchange(Exchange):
    """A connection to an API server that follows redirects to the same host.

    :param option: the option of the command that names the server.
    """

    expects = True

    def __init__(
        self,
        option: str,
        url: str,
        agent: Agent,
        clock: Any,
        credentials: Credentials | None = None,
    ) -> None:
        super().__init__(url, agent, clock, credentials)
        self._option = option
        # The new URLs of uploads that were redirected after they had started, by path.
        self._moved: dict[str, str] = {}
        # What speaks to the servers that redirects lead to, by their URLs.
        self._others: dict[str, Exchange] = {}

    def send(
        self,
        method: str,
        path: str,
        fields: Metadata = EMPTY,
        body: bytes | IBodyProducer | None = None,
        seconds: float | None = None,
    ) -> Deferred[Response]:
        return ensureDeferred(self._follow(method, path, fields, body, seconds))

    async def _follow(
        self,
        method: str,
        path: str,
        fields: Metadata,
        body: bytes | IBodyProducer | None,
        seconds: float | None,
    ) -> Response:
        url = self._moved.get(path, self.url + path)
        for _ in range(MOST_HOPS + 1):
            response = await self._send_to(url, path, method, fields, body, seconds)
            if response.code == _NOT_EXPECTED and isinstance(body, StreamedBody) and body.replay():
                await ResponseBody(response, self.clock).aclose()
                body.expects = False  # RFC 9110, 10.1.1
                continue
            if response.code not in _REDIRECTS:
                return response
            location = response.headers.getRawHeaders(b"location", [b""])[0]
            await ResponseBody(response, self.clock).aclose()
            url = self._destination(url, path, method, response.code, location)
            if isinstance(body, StreamedBody) and not body.replay():
                self._moved[path] = url
                raise SentInPart(
                    f"{self.url} redirects to {shown_url(url)} after it received part of the "
                    f"input, which cannot be read again: {self._advice(url, path)}"
                )
        raise Redirected(
            f"{self.url} redirects more than {MOST_HOPS} times, the last time to "
            f"{shown_url(url)}: check the configuration of the server or its proxy"
        )

    def _send_to(
        self,
        url: str,
        path: str,
        method: str,
        fields: Metadata,
        body: bytes | IBodyProducer | None,
        seconds: float | None,
    ) -> Deferred[Response]:
        if url == self.url + path:
            return super().send(method, path, fields, body, seconds)
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        there = self._others.get(origin)
        if there is None:
            there = Exchange(origin, self._agent, self.clock, self._credentials)
            self._others[origin] = there
        return there.send(method, url.removeprefix(origin), fields, body, seconds)

    def _destination(self, url: str, path: str, method: str, code: int, location: bytes) -> str:
        """Return the URL to which *url* redirects a request for *path*.

        :param code: the status of the response.
        :raises Redirected: if the redirect must not be followed; the error says what to do.
        """
        if not location:
            raise Redirected(f"{shown_url(url)} answered {code}, a redirect without a Location")
        target = location.decode("latin-1").partition("#")[0]
        with suppress(ValueError):
            target = urljoin(url, target)
        found = f"{shown_url(url)} answered {code}, a redirect to {shown_url(target)}"
        advice = self._advice(target, path)
        try:
            here, there = urlsplit(url), urlsplit(target)
            if there.username is not None or there.scheme not in _PORTS:
                raise ValueError
            normal = addresses.server_url(f"{there.scheme}://{there.netloc}")
            if not target.isascii() or not target.isprintable() or " " in target:
                raise ValueError
        except ValueError:
            raise Redirected(f"{found}, which is not the URL of a server") from None
        if method in ("POST", "DELETE") and code not in _KEEPING:
            what = "uploads" if method == "POST" else "deletions"
            raise Redirected(
                f"{found}; {what} follow only redirects with status 307 or 308: {advice}"
            )
        if _name(here) != _name(there):
            raise Redirected(f"{found}, which is another host: {advice}, if you trust it")
        if (here.scheme, there.scheme) == ("https", "http"):
            raise Redirected(
                f"{found}, which is not encrypted: a redirect from https must lead to https"
            )
        if self._credentials is not None and not _is_same_origin(here, there):
            raise Redirected(
                f"{found}, which is another port, so it gets no password or token: {advice}"
            )
        return f"{normal}{there.path or '/'}{'?' + there.query if there.query else ''}"

    def _advice(self, target: str, path: str) -> str:
        base = shown_url(target)
        return f"name that server with {self._option} {base.removesuffix(path)}"


def _name(url: SplitResult) -> str:
    return (url.hostname or "").rstrip(".")


def _is_same_origin(here: SplitResult, there: SplitResult) -> bool:
    """Return whether credentials may follow a redirect on the same host (RFC 6454, 4).

    They may also go from http to https, between the default ports or on the same port.
    """
    ports = [url.port or _PORTS[url.scheme] for url in (here, there)]
    if here.scheme == there.scheme:
        return ports[0] == ports[1]
    return ports == [_PORTS[url.scheme] for url in (here, there)] or ports[0] == ports[1]
