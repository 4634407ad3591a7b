"""``sos put`` and ``sos get`` behind proxies that redirect, or that answer in HTML."""

from __future__ import annotations

import http.client
import os
import re
from contextlib import AsyncExitStack, suppress
from threading import Thread
from types import SimpleNamespace

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred

from sos.aio.threads import threads_of
from sos.cli.downloads import Downloader
from sos.cli.redirects import MOST_HOPS, FollowingExchange
from sos.cli.uploads import Uploader
from sos.errors import SOSError
from sos.http.client.agent import Agent
from sos.model.metadata import EMPTY
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, put
from tests.support.servers import serving

SMALL, LARGE = b"small", body_of(3_000_000)
PAGE = b"<!DOCTYPE html>\n<html><body><h1>302 Found</h1><hr>nginx</body></html>\n"


class Front:
    """What stands before a server: redirects what comes to *location*.

    :ivar late: whether it takes the body first.
    :ivar otherwise: what answers requests that expect nothing.
    """

    def __init__(self):
        self.code, self.location, self.late = 307, "", False
        self.headers, self.page = {"Content-Type": "text/html"}, PAGE
        self.otherwise = None
        self.asked = []

    def __call__(self, request):
        self.asked.append((request.method, request.path))
        if self.otherwise is not None and b"expect" not in request.headers:
            self.otherwise(request)
        elif self.late:
            request.work = Deferred.fromCoroutine(self._read(request))
        else:
            self._answer(request)

    async def _read(self, request):
        async for _ in request.body:
            pass
        self._answer(request)

    def _answer(self, request):
        request.setResponseCode(self.code)
        for name, value in self.headers.items():
            request.setHeader(name.encode(), value.encode())
        if self.location:
            location = self.location.replace("PATH", request.path.decode())
            request.setHeader(b"Location", location.encode())
        request.finish(self.page)


@async_yield_fixture
async def site(reactor):
    """A server of both kinds, and a front on another port of the same host."""
    store = MemoryStore()
    faces = [handler(face(store).app) for face in (UploadServer, DownloadServer)]
    asked = []

    def answer(request):
        asked.append((request.method, request.headers.get(b"authorization")))
        request.path = request.path.removeprefix(b"/deeper")
        faces[request.method in (b"GET", b"HEAD")](request)

    agent, front = Agent(reactor), Front()
    async with AsyncExitStack() as stack:
        there = await stack.enter_async_context(serving(answer, reactor, agent))
        here = await stack.enter_async_context(serving(front, reactor, agent))
        front.location = f"{there.name}PATH"

        def exchange(credentials=None, url=here.name):
            return FollowingExchange("--to", url, agent, reactor, credentials)

        yield SimpleNamespace(
            store=store,
            asked=asked,
            front=front,
            here=here.name,
            there=there.name,
            exchange=exchange,
            uploader=lambda *given: Uploader(exchange(*given), threads_of(reactor), EMPTY, None),
            downloader=lambda *given: Downloader(exchange(*given), reactor, 2),
        )


def ignore(count):
    pass


async def refusal(action):
    with pytest.raises(SOSError) as caught:
        await action
    return str(caught.value)


@pytest.mark.parametrize("body", [b"", SMALL, LARGE], ids=len)
@pytest.mark.parametrize(("code", "late"), [(307, False), (308, False), (307, True)])
@ensureDeferred
async def test_an_upload_is_sent_where_it_is_redirected(site, tmp_path, body, code, late):
    """Also when the redirect comes after the body: a file is read once more."""
    site.front.code, site.front.late = code, late
    (tmp_path / "file").write_bytes(body)
    advanced = []
    id = await site.uploader().put(str(tmp_path / "file"), advanced.append)
    assert id == content_id(body)
    assert (await site.store.stat(id)).size == len(body)
    assert sum(advanced) == len(body)


@ensureDeferred
async def test_a_server_that_cannot_be_asked_is_sent_the_body(site):
    """It refuses the question by 417, and nothing has been sent by then."""
    site.front.code, site.front.location = 417, ""
    site.front.otherwise = handler(UploadServer(site.store).app)
    with os.fdopen(pipe_of(LARGE), "rb") as pipe:
        assert await site.uploader().stream(pipe, ignore) == content_id(LARGE)
    assert site.front.asked == [(b"POST", b"/upload")] * 2


@ensureDeferred
async def test_a_pipe_is_sent_on_if_nothing_has_been_sent(site):
    """The server is asked first whether it takes the body (100-continue)."""
    with os.fdopen(pipe_of(LARGE), "rb") as pipe:
        assert await site.uploader().stream(pipe, ignore) == content_id(LARGE)
    assert site.front.asked == [(b"POST", b"/upload")]


@ensureDeferred
async def test_a_pipe_that_has_been_sent_in_part_is_not_sent_on(site):
    """It cannot be read twice: the error says which server to name."""
    site.front.late = True
    with os.fdopen(pipe_of(LARGE), "rb") as pipe:
        message = await refusal(site.uploader().stream(pipe, ignore))
    assert f"redirects to {site.there}/upload" in message
    assert message.endswith(f"name that server with --to {site.there}")
    assert site.asked == []


def pipe_of(body):
    """Return where *body* can be read from, once."""
    out, into = os.pipe()

    def write():
        with suppress(BrokenPipeError), os.fdopen(into, "wb", buffering=0) as file:
            file.write(body)

    Thread(target=write, daemon=True).start()
    return out


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("body", [SMALL, body_of(9_000_000)], ids=len)
@ensureDeferred
async def test_a_fetch_is_sent_where_it_is_redirected(site, code, body):
    """Each part of it, to a path of any kind: a GET stays a GET."""
    site.front.code, site.front.location = code, f"{site.there}/deeperPATH?signature=x"
    id = (await put(site.store, body)).id
    _, found = await site.downloader().open(id, ignore)
    if not isinstance(found, bytes):
        found = b"".join([piece async for piece in found])
    assert found == body


@pytest.mark.parametrize(
    ("code", "location", "message"),
    [
        (301, "THERE/upload", "redirects with status 307 or 308: .*--to THERE$"),
        (302, "THERE/upload", "uploads follow only redirects with status 307 or 308"),
        (303, "/elsewhere", "HERE/upload answered 303, a redirect to HERE/elsewhere"),
        (307, "http://evil.example/upload", "another host: .*--to http://evil.example,"),
        (308, "http://127.0.0.1.evil.example/upload", "another host"),
        (307, "//evil.example/upload", "another host"),
        (307, "http://user:hush@127.0.0.1:1/upload", "not the URL of a server"),
        (307, "ftp://127.0.0.1/upload", "not the URL of a server"),
        (307, "http://127.0.0.1:99999/upload", "not the URL of a server"),
        (307, "http://[::1/upload", "not the URL of a server"),
        (307, "THERE/up load", "not the URL of a server"),
        (307, "", "a redirect without a Location"),
        (307, "/upload", f"more than {MOST_HOPS} times"),
        (307, "http://evil.example/upload?token=hush", "http://evil.example/upload,"),
    ],
)
@ensureDeferred
async def test_where_an_upload_is_not_sent(site, tmp_path, code, location, message):
    """The error says where the redirect leads, without what can be secret; nothing goes there."""
    (tmp_path / "file").write_bytes(SMALL)
    site.front.code = code
    site.front.location = location.replace("THERE", site.there)
    error = await refusal(site.uploader().put(str(tmp_path / "file"), ignore))
    message = message.replace("THERE", site.there).replace("HERE", site.here)
    assert re.search(message, error), error
    assert "hush" not in error
    assert "<" not in error
    assert site.asked == []


@ensureDeferred
async def test_what_shows_who_asks_stays_with_the_server(site, tmp_path):
    """It goes to another path of the same server, and not to another port of the same host."""
    token = lambda *_: b"Bearer hush"  # noqa: E731
    (tmp_path / "file").write_bytes(SMALL)
    message = await refusal(site.uploader(token).put(str(tmp_path / "file"), ignore))
    assert "gets no password or token" in message
    assert site.asked == []
    uploader = site.uploader(token, f"{site.there}/deeper")
    await uploader.put(str(tmp_path / "file"), ignore)
    assert site.asked == [(b"POST", b"Bearer hush")]


@pytest.mark.parametrize(
    ("here", "there", "goes"),
    [
        ("http://a", "https://a", True),
        ("http://a:8080", "https://a:8080", True),
        ("http://a:80/x", "https://a:443/y", True),
        ("https://a", "https://a/x", True),
        ("https://a", "https://a.", True),
        ("http://a", "https://a:8443", False),
        ("https://a", "https://a:8443", False),
        ("https://a", "http://a", False),
        ("https://a", "https://b.a", False),
    ],
)
def test_to_which_origins_a_token_goes(reactor, here, there, goes):
    """To the same, and from http to https on the ports of those, or on the same port."""
    exchange = FollowingExchange("--to", here, Agent(reactor), reactor, lambda *_: b"Bearer x")
    location = f"{there}/upload".encode()
    try:
        exchange._destination(f"{here}/upload", "/upload", "POST", 308, location)
    except SOSError:
        assert not goes
    else:
        assert goes


@pytest.mark.parametrize("code", [200, 400, 413, 502])
@pytest.mark.parametrize(
    ("type", "page", "message"),
    [
        ("text/html", PAGE, ""),
        ("", PAGE, ""),
        ("text/plain", PAGE, ""),
        ("text/plain; charset=utf-8", b"\n no backend\x1b[2J\nmore\n", ": no backend?[2J"),
        ("application/problem+xml", b"<?xml?>", ""),
        ("image/png", b"\x89PNG", ""),
    ],
)
@ensureDeferred
async def test_no_page_of_a_proxy_is_in_an_error(site, tmp_path, code, type, page, message):
    """Of text it is one line, of anything else what the status is called."""
    site.front.code, site.front.location = code, ""
    site.front.headers, site.front.page = {"Content-Type": type} if type else {}, page
    (tmp_path / "file").write_bytes(SMALL)
    error = await refusal(site.uploader().put(str(tmp_path / "file"), ignore))
    assert "<" not in error
    assert error.isprintable()
    if code != 200:
        phrase = message or f" {http.client.responses[code]}"
        assert error == f"{site.here} answered {code}{phrase}"


@ensureDeferred
async def test_servers_follow_no_redirects_of_one_another(site, reactor):
    """They sign requests for one server; what the redirect is called is told."""
    plain = Exchange(site.here, Agent(reactor), reactor)
    message = await refusal(plain.post("/upload", EMPTY, SMALL))
    assert message == f"{site.here} answered 307, a redirect to {site.there}/upload"
    assert site.asked == []
