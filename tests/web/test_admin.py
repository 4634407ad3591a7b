"""The API server's face for those who look after it."""

from __future__ import annotations

import pytest

from sos.errors import Unavailable
from sos.interfaces import StoreStatus
from sos.stores.memory import MemoryStore
from sos.web.admin import AdminServer
from sos.web.routes import handler
from tests.doubles import FailingStore
from tests.web.test_blob import request
from tests.wire.talking import Conversation


class Full(MemoryStore):
    """Takes no blobs."""

    async def status(self):
        return StoreStatus(False, "there is no room")


async def told():
    return {"groups": {}}


async def counted():
    return b"sos_workers 1.0\n"


def ask(method, path, store=None, status=told):
    talk = Conversation(handler(AdminServer(store or MemoryStore(), status, counted).app))
    (answer,) = talk.answers(request(method, path))
    return answer


def test_the_status_is_a_document():
    """What it tells is not this face's business."""
    answer = ask("GET", "/status")
    assert (answer.status, answer.json) == (200, {"groups": {}})
    assert answer.headers[b"content-type"] == b"application/json"


def test_the_metrics_are_a_text():
    """Of the format's version that Prometheus asks for by default."""
    answer = ask("GET", "/metrics")
    assert (answer.status, answer.body) == (200, b"sos_workers 1.0\n")
    assert answer.headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"


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


@pytest.mark.parametrize("path", ["/", "/status/", "/upload", "/readyz/x"])
def test_nothing_else_is_there(path):
    """404, in JSON."""
    assert ask("GET", path).json["status"] == 404


@pytest.mark.parametrize("path", ["/status", "/metrics", "/healthz", "/readyz"])
def test_nothing_can_be_changed(path):
    """405, in JSON, with what is allowed."""
    answer = ask("POST", path)
    assert (answer.json["status"], answer.headers[b"allow"]) == (405, b"GET, HEAD")
