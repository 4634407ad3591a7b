"""The API server's face for those who look after it."""

from __future__ import annotations

import pytest

from sos.errors import Unavailable
from sos.interfaces import StoreStatus
from sos.monitoring.request_metrics import RequestMetrics
from sos.stores.memory import MemoryStore
from sos.web.admin_api import TRANSFERS, AdminServer, transfers_alone
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation, request
from tests.support.doubles import FailingStore


class Full(MemoryStore):
    """Takes no blobs."""

    async def status(self):
        return StoreStatus(False, "there is no room")


async def no_status():
    return {"groups": {}}


async def counted():
    return b"sos_connections 1.0\n"


def ask(method, path, store=None, status=no_status):
    return send(store or MemoryStore(), method, path, status=status)


def send(store, *parts, status=no_status, max_size=None):
    face = AdminServer(store, status, counted, UploadServer(store, max_size), DownloadServer(store))
    return Conversation(handler(face.app)).ask(*parts)


def test_the_status_is_a_document():
    """What it tells is not this face's business."""
    answer = ask("GET", "/status")
    assert (answer.status, answer.json) == (200, {"groups": {}})
    assert answer.headers[b"content-type"] == b"application/json"


def test_the_metrics_are_a_text():
    """Of the format's version that Prometheus asks for by default."""
    answer = ask("GET", "/metrics")
    assert (answer.status, answer.body) == (200, b"sos_connections 1.0\n")
    assert answer.headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"


def test_it_is_not_ready_where_something_else_keeps_uploads_away():
    """Such as a temporary directory that is full: no store is, and the server says which."""
    face = AdminServer(MemoryStore(), no_status, counted, obstacle=lambda: "/tmp is full")
    answer = Conversation(handler(face.app)).ask("GET", "/readyz")
    assert (answer.status, answer.json["error"]) == (503, "/tmp is full")


def test_alive():
    """Whatever is behind it."""
    answer = ask("GET", "/healthz", FailingStore())
    assert (answer.status, answer.body) == (200, b"alive")


def test_ready_when_an_upload_would_be_taken():
    """Else 503, and why."""
    answer = ask("GET", "/readyz")
    assert (answer.status, answer.body) == (200, b"ready")
    for store, reason in ((Full(), "there is no room"), (FailingStore(), "failing is down")):
        answer = ask("GET", "/readyz", store)
        assert (answer.status, answer.json) == (503, {"error": reason, "status": 503})
        assert b"retry-after" in answer.headers


def test_a_status_that_cannot_be_told():
    """503, like any other that is not to be had."""

    async def broken():
        raise Unavailable("not now")

    assert ask("GET", "/status", status=broken).json == {"error": "not now", "status": 503}


@pytest.mark.parametrize(
    "path", ["/x", "/status/", "/dashboard.html", "/fetch/", "/readyz/x", "/metrics/x"]
)
def test_nothing_else_is_there(path):
    """404, in JSON."""
    assert ask("GET", path).json["status"] == 404


@pytest.mark.parametrize(
    "path", ["/", "/status", "/metrics", "/alive", "/healthz", "/readyz", "/openapi.json"]
)
def test_nothing_can_be_changed(path):
    """405, in JSON, with what is allowed."""
    answer = ask("POST", path)
    assert (answer.json["status"], answer.headers[b"allow"]) == (405, b"GET, HEAD")


def test_the_status_is_not_kept():
    """It is another one a moment later."""
    assert ask("GET", "/status").headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize("path", ["/", "/upload", "/fetch/abc", "/openapi.json"])
def test_a_daemon_without_objects_has_no_page(path):
    """Nor what that needs: 404."""
    talk = Conversation(handler(AdminServer(MemoryStore(), no_status, counted).app))
    (answer,) = talk.answers(request("POST" if path == "/upload" else "GET", path))
    assert answer.json == {"error": f"there is nothing at {path}", "status": 404}


def test_what_the_page_uploads_can_be_fetched():
    """As at the ports for that, with what belongs to it."""
    store = MemoryStore()
    stored = send(store, "POST", "/upload", b"<script>", b"X-Mime-Type: text/html")
    assert stored.json == {"id": content_id(b"<script>"), "size": 8, "status": "OK", "copies": 1}
    answer = send(store, "GET", f"/fetch/{content_id(b'<script>')}.html")
    assert answer.body == b"<script>"
    assert answer.headers[b"content-type"] == b"text/html"
    assert answer.headers[b"content-security-policy"] == b"sandbox; default-src 'none'"
    assert send(store, "POST", "/upload", b"abcd", max_size=3).status == 413


def test_a_few_transfers_at_once():
    """More are refused, and taken again when one has ended or its client is gone."""
    store = MemoryStore()
    face = AdminServer(store, no_status, counted, UploadServer(store), DownloadServer(store))
    answers = handler(face.app)
    begun = [Conversation(answers) for _ in range(TRANSFERS)]
    for talk in begun:
        talk.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab")
    (refused,) = Conversation(answers).answers(request("POST", "/upload", b"abc"))
    assert (refused.status, refused.headers[b"retry-after"]) == (503, b"5")
    begun[0].transport.drop()
    (taken,) = Conversation(answers).answers(request("POST", "/upload", b"abc"))
    assert taken.status == 200
    (answer,) = begun[1].answers(b"c")
    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", "/upload", ("/upload", "POST", {"200": 1})),
        ("PUT", "/upload/a", ("/upload/<name>", "PUT", {"200": 1})),
        ("POST", "/form", ("/form", "POST", {"400": 1})),
        ("GET", "/fetch/abc.txt", ("/fetch/<name>", "GET", {"404": 1})),
        ("GET", "/%66etch/abc", ("/fetch/<name>", "GET", {"404": 1})),
        *(("GET", path, None) for path in ("/", "/status", "/metrics", "/readyz", "/nothing")),
        *(("GET", path, None) for path in ("/upload", "//fetch/abc", "/fetch/")),
    ],
)
def test_transfers_alone_are_counted_and_logged(method, path, found):
    """By the rule that they go by; whether they could be answered or not."""
    request_metrics, noted = RequestMetrics(), []
    store = MemoryStore()
    face = AdminServer(store, no_status, counted, UploadServer(store), DownloadServer(store))
    note = transfers_alone(
        request_metrics, lambda request, seconds: noted.append(request.uri.decode())
    )
    talk = Conversation(handler(face.app), note)
    talk.send(request(method, path, None if method == "GET" else b"abc"))
    lines = [
        (each["route"], each["method"], each["statuses"])
        for each in request_metrics.document()["routes"]
    ]
    assert lines == ([found] if found else [])
    assert noted == ([path] if found else [])
    assert request_metrics.document()["connections"] == 0
