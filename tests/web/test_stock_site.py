"""A stock server of ``twisted.web`` answers every route as our own does."""

from __future__ import annotations

import json

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.web.server import Site as StockSite

from sos.http.server.site import Site
from sos.interfaces import SMALL_BODY
from sos.model.batch import READ, Record
from sos.stores.memory import MemoryStore
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, put, shown
from tests.support.http import ask

SMALL, LARGE = b"abc", body_of(1_000_000)
ID, LARGE_ID = content_id(SMALL), content_id(LARGE)
FORM = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nabc\r\n--x--'

#: Of the servers, or of the moment: ours closes after a refusal only if the body has not come.
OWN = {
    "connection",
    "content-length",
    "date",
    "last-modified",
    "server",
    "transfer-encoding",
    "x-request-id",
}


def faces(store):
    uploads, downloads = UploadServer(store), DownloadServer(store)

    async def status():
        return {"version": "1"}

    async def metrics():
        return b"sos_up 1\n"

    return {
        "blob": BlobServer(store),
        "uploads": uploads,
        "downloads": downloads,
        "admin": AdminServer(store, status, metrics, uploads, downloads),
    }


REQUESTS = [
    ("blob", "GET", "/alive", None, {}),
    ("blob", "POST", f"/blob/{ID}", SMALL, {"X-Name": "n"}),
    ("blob", "PUT", f"/blob/{LARGE_ID}", LARGE, {}),
    ("blob", "POST", f"/blob/{LARGE_ID}", SMALL, {}),
    ("blob", "POST", "/blob/A", SMALL, {}),
    ("blob", "GET", f"/blob/{ID}", None, {}),
    ("blob", "GET", f"/blob/{LARGE_ID}", None, {}),
    ("blob", "HEAD", f"/blob/{LARGE_ID}", None, {}),
    ("blob", "GET", f"/blob/{LARGE_ID}", None, {"Range": "bytes=10-19"}),
    ("blob", "GET", f"/blob/{LARGE_ID}", None, {"Range": "bytes=2000000-"}),
    ("blob", "GET", f"/blob/{ID}", None, {"If-None-Match": f'"{ID}"'}),
    ("blob", "GET", "/blob/none", None, {}),
    ("blob", "GET", "/blobs", None, {}),
    ("blob", "GET", "/blobs?limit=1", None, {}),
    ("blob", "GET", "/blobs?limit=x", None, {}),
    ("blob", "GET", "/digests", None, {}),
    ("blob", "GET", f"/digests/{ID[:3]}", None, {}),
    ("blob", "POST", "/batch", Record(READ, b"", ID.encode()).encode(), {}),
    ("blob", "POST", "/batch", b"x", {}),
    ("blob", "PATCH", f"/blob/{ID}", b"", {"X-Sos-Metadata": "{}"}),
    ("blob", "DELETE", f"/blob/{ID}", None, {}),
    ("blob", "GET", "/status", None, {}),
    ("blob", "GET", "/openapi.json", None, {}),
    ("blob", "GET", "/nowhere", None, {}),
    ("blob", "DELETE", "/alive", None, {}),
    ("blob", "OPTIONS", "/alive", None, {}),
    ("uploads", "POST", "/upload", SMALL, {"X-Mime-Type": "text/plain"}),
    ("uploads", "PUT", "/upload/a%20b.txt", SMALL, {}),
    ("uploads", "POST", "/upload", SMALL, {"X-Csrftoken": "t"}),
    ("uploads", "POST", "/upload", SMALL, {"Content-Encoding": "exi"}),
    ("uploads", "POST", "/form", FORM, {"Content-Type": "multipart/form-data; boundary=x"}),
    ("uploads", "POST", "/form", SMALL, {"Content-Type": "text/plain"}),
    ("uploads", "POST", "/tus", None, {"Tus-Resumable": "1.0.0"}),
    ("downloads", "GET", f"/fetch/{ID}.txt", None, {}),
    ("downloads", "HEAD", f"/fetch/{ID}", None, {}),
    ("downloads", "GET", f"/fetch/{LARGE_ID}", None, {"Range": "bytes=-5"}),
    ("admin", "GET", "/", None, {}),
    ("admin", "GET", "/status", None, {}),
    ("admin", "GET", "/metrics", None, {}),
    ("admin", "GET", "/readyz", None, {}),
    ("admin", "POST", "/upload", SMALL, {}),
    ("admin", "GET", f"/fetch/{ID}", None, {}),
]


def comparable(answer):
    """Return what has to be the same of an *answer*."""
    headers = {
        name.lower(): value for name, value in answer.headers.items() if name.lower() not in OWN
    }
    body = answer.body
    if headers.get("content-type") == "application/json" and body:
        body = json.loads(body)
    return answer.status, headers, body


def kept_in(store):
    """Return bodies and metadata, without the times of the uploads."""
    return {id: (blob.body, shown(blob.info.metadata)) for id, blob in store.blobs.items()}


@pytest.mark.parametrize(
    ("face", "method", "path", "body", "headers"),
    REQUESTS,
    ids=[f"{face} {method} {path[:30]} {n}" for n, (face, method, path, *_) in enumerate(REQUESTS)],
)
@ensureDeferred
async def test_both_answer_alike(reactor, face, method, path, body, headers):
    """Status, headers and body; of what changes the store, the store."""
    answers = []
    for stock in (False, True):
        store = MemoryStore("memory", now=lambda: 1_700_000_000.0)
        for each in (SMALL, LARGE):
            await put(store, each, content_id(each))
        app = faces(store)[face].app
        site = StockSite(app.resource()) if stock else Site(handler(app), reactor=reactor)
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        url = f"http://127.0.0.1:{port.getHost().port}{path}"
        answers.append(
            (comparable(await deferToThread(ask, url, body, headers, method)), kept_in(store))
        )
        await port.stopListening()
    assert answers[0] == answers[1]


@ensureDeferred
async def test_a_path_that_is_none(reactor):
    """It is refused, and not answered with a traceback."""
    app = BlobServer(MemoryStore()).app
    port = reactor.listenTCP(0, StockSite(app.resource()), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/a%ff"
    answer = await deferToThread(ask, url)
    assert answer.status == 400
    await port.stopListening()


@ensureDeferred
async def test_an_error_of_ours_is_logged_with_who_asked(reactor):
    """And answered 500, without a word of it."""
    store = MemoryStore()
    store.stat = store.read = None  # which cannot be called
    port = reactor.listenTCP(0, StockSite(BlobServer(store).app.resource()), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/blob/{ID}"
    with capturedLogs() as logged:
        answer = await deferToThread(ask, url)
    assert answer.status == 500
    assert b"NoneType" not in answer.body
    assert [event for event in logged if event.get("log_failure")]
    await port.stopListening()


@pytest.mark.parametrize("size", [0, 1, SMALL_BODY, SMALL_BODY + 1])
@ensureDeferred
async def test_an_upload_to_a_directory_comes_back(reactor, local_store, size):
    """A local store takes a small body in one step, from either server."""
    body = body_of(size)
    port = reactor.listenTCP(
        0, StockSite(BlobServer(local_store).app.resource()), interface="127.0.0.1"
    )
    for id in (content_id(body), "aname"):
        url = f"http://127.0.0.1:{port.getHost().port}/blob/{id}"
        stored = await deferToThread(ask, url, body, {}, "PUT")
        assert (stored.status, json.loads(stored.body)["size"]) == (200, size)
        assert (await deferToThread(ask, url)).body == body
    await port.stopListening()
