"""What a cache between client and server may keep: objects, and nothing else."""

from __future__ import annotations

import re

import pytest

from sos.errors import Unauthorized
from sos.stores.memory import MemoryStore
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation
from tests.support.doubles import FailingStore
from tests.web.test_admin_api import counted, no_status

BODY = b"some bytes"
ID = content_id(BODY)
# What a route is asked with, for each of its arguments.
ARGUMENTS = {"id": ID, "name": ID, "partition": ID[:3], "token": "0"}
FACES = ("upload", "download", "admin", "blob")


def app(name, store):
    uploads, downloads = UploadServer(store), DownloadServer(store)
    return {
        "upload": uploads,
        "download": downloads,
        "admin": AdminServer(store, no_status, counted, uploads, downloads),
        "blob": BlobServer(store),
    }[name].app


def answers(app, guard=None):
    """Ask each route of *app* by each of its methods; yield what was asked, and the answer."""
    answer = handler(app, guard)
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(\w+)>", lambda found: ARGUMENTS[found[1]], rule.rule)
        for method in sorted(rule.methods):
            body = None if method in ("GET", "HEAD") else b""
            yield method, path, Conversation(answer).ask(method, path, body)


def refuse(request):
    raise Unauthorized("the request has no token", "Bearer")


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize(
    ("store", "guard"),
    [(MemoryStore(), None), (FailingStore(), None), (MemoryStore(), refuse)],
    ids=["nothing stored", "failing", "refused"],
)
def test_no_cache_keeps_what_can_change(name, store, guard):
    """Neither an error nor what a server tells: the object may be there a moment later."""
    for method, path, answer in answers(app(name, store), guard):
        assert answer.headers[b"cache-control"] == b"no-store", (method, path, answer.status)


@pytest.mark.parametrize(("name", "path"), [("download", "/fetch/"), ("blob", "/blob/")])
def test_caches_keep_objects(name, path):
    """The whole, a part, and that it has not changed; not that there is no such part."""
    store = MemoryStore()
    Conversation(handler(app("upload", store))).ask("POST", "/upload", BODY)
    talk = Conversation(handler(app(name, store)))
    for method, fields, status in (
        ("HEAD", {}, 200),
        ("GET", {}, 200),
        ("GET", {"Range": "bytes=1-2"}, 206),
        ("GET", {"If-None-Match": f'"{ID}"'}, 304),
    ):
        answer = talk.ask(method, path + ID, **fields)
        assert answer.status == status
        assert b"immutable" in answer.headers[b"cache-control"]
    missed = talk.ask("GET", path + ID, Range="bytes=99-")
    assert (missed.status, missed.headers[b"cache-control"]) == (416, b"no-store")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_object_is_found_after_it_was_missing(method):
    """The 404 that came first is not to be kept in its place."""
    store = MemoryStore()
    talk = Conversation(handler(app("download", store)))
    missing = talk.ask(method, f"/fetch/{ID}")
    assert (missing.status, missing.headers[b"cache-control"]) == (404, b"no-store")
    Conversation(handler(app("upload", store))).ask("POST", "/upload", BODY)
    assert talk.ask(method, f"/fetch/{ID}").status == 200


def test_digests_that_are_known_are_not_kept():
    """A 304 would renew what a cache holds."""
    talk = Conversation(handler(app("blob", MemoryStore())))
    etag = talk.ask("GET", "/digests").headers[b"etag"].decode()
    known = talk.ask("GET", "/digests", None, f"If-None-Match: {etag}".encode())
    assert (known.status, known.headers[b"cache-control"]) == (304, b"no-store")


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 70_000)],
    ids=["no request", "no host", "too long"],
)
def test_what_is_no_request_is_not_kept(sent):
    """Whatever it is answered."""
    (answer,) = Conversation(handler(app("download", MemoryStore()))).answers(sent)
    assert answer.status >= 400
    assert answer.headers[b"cache-control"] == b"no-store"
