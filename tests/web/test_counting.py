"""Requests are counted by the rule of their route, however they end."""

from __future__ import annotations

import pytest
from klein import Klein
from twisted.internet.defer import Deferred

from sos.stores.memory import MemoryStore
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation, request
from tests.support.doubles import BrokenBodyStore


class Talk(Conversation):
    """One whose server's timer is turned by hand."""

    def __init__(self, face):
        super().__init__(handler(face.app))
        self.time = 0.0
        self.site.timer = lambda: self.time

    def counted(self):
        return {
            (line["route"], line["method"], status): count
            for line in self.site.request_metrics.document()["routes"]
            for status, count in line["statuses"].items()
        }

    def line(self):
        (line,) = self.site.request_metrics.document()["routes"]
        return line


ID = content_id(b"hello")


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        ("POST", f"/blob/{ID}", ("/blob/<id>", "POST", "200")),
        ("PUT", "/blob/name", ("/blob/<id>", "PUT", "200")),
        ("POST", f"/blob/{ID[:-1]}0", ("/blob/<id>", "POST", "422")),
        ("GET", "/blob/nothing", ("/blob/<id>", "GET", "404")),
        ("HEAD", "/blob/nothing", ("/blob/<id>", "HEAD", "404")),
        ("GET", "/blob/NO", ("/blob/<id>", "GET", "400")),
        ("GET", "/blob/%6eothing", ("/blob/<id>", "GET", "404")),
        ("GET", "/blobs?limit=1", ("/blobs", "GET", "200")),
        ("GET", "/digests/abc", ("/digests/<partition>", "GET", "200")),
        ("DELETE", "/lease/secret", ("/lease/<token>", "DELETE", "200")),
        ("GET", "/nothing/here", ("other", "GET", "404")),
        ("POST", "/blobs", ("other", "POST", "405")),
        ("GET", "/%ff", ("other", "GET", "400")),
    ],
)
def test_what_is_counted(method, path, counted):
    """The rule, never the path: anybody can make up paths without end."""
    talk = Talk(BlobServer(MemoryStore()))
    talk.send(request(method, path, b"hello" if method in ("POST", "PUT") else None))
    assert talk.counted() == {counted: 1}


def test_a_stranger_makes_up_neither_routes_nor_methods():
    """What is counted apart is limited: a name that is none is counted as none."""
    counted = set()
    for n in range(20):
        for method, path in ((f"M{n}", "/blobs"), ("GET", f"/{n}"), (f'"{n}}} 1', "/blobs")):
            talk = Talk(BlobServer(MemoryStore()))
            talk.send(request(method, path))
            counted |= talk.counted().keys()
    assert counted == {("other", "none", "400"), ("other", "GET", "404")}


def test_a_file_extension_makes_no_other_route():
    """Nor does a route that is found by name find another."""
    talk = Talk(DownloadServer(MemoryStore()))
    for path in ("/fetch/abc", "/fetch/abc.jpg", "/fetch/a.b.c"):
        talk.send(request("GET", path))
    assert talk.counted() == {("/fetch/<name>", "GET", "404"): 3}


def test_what_is_no_request_is_counted():
    """It has neither route nor method."""
    talk = Talk(BlobServer(MemoryStore()))
    talk.send(b"GARBAGE\r\n\r\n")
    assert talk.counted() == {("other", "none", "400"): 1}


def test_bytes_and_seconds():
    """Of the bodies alone; from the head to the end of the answer."""
    talk = Talk(BlobServer(MemoryStore()))
    whole = request("POST", f"/blob/{ID}", b"hello")
    talk.send(whole[:-2])
    talk.time = 0.25
    (answer,) = talk.answers(whole[-2:])
    line = talk.line()
    assert (line["bytes_in"], line["bytes_out"]) == (5, len(answer.body))
    assert line["seconds"]["sum"] == 0.25
    chunked = (
        b"POST /blob/%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % ID.encode()
    )
    talk.send(chunked + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
    assert talk.line()["bytes_in"] == 10


class Slow:
    """Answers when it is told to."""

    app = Klein()

    def __init__(self):
        self.answer = Deferred()

    @app.route("/slow")
    async def slow(self, request):
        return await self.answer


def test_a_client_that_goes_away_is_counted():
    """As nginx does it, with 499; it is no failure of ours."""
    talk = Talk(Slow())
    talk.send(request("GET", "/slow"))
    assert talk.counted() == {}
    talk.transport.drop()
    assert talk.counted() == {("/slow", "GET", "499"): 1}
    talk = Talk(Slow())
    talk.transport.drop()
    assert talk.counted() == {}


def test_an_answer_that_is_broken_off_counts_as_what_went_wrong():
    """Not as the 200 that it began with."""
    talk = Talk(BlobServer(BrokenBodyStore()))
    talk.transport.abortConnection = lambda: None  # a real one tells of it later
    talk.send(request("POST", f"/blob/{ID}", b"hello"))
    assert talk.send(request("GET", f"/blob/{ID}")).startswith(b"HTTP/1.1 200")
    assert talk.counted()["/blob/<id>", "GET", "503"] == 1


def test_connections_are_counted_while_they_are_open():
    """From the first byte to the last."""
    talk = Talk(BlobServer(MemoryStore()))
    request_metrics = talk.site.request_metrics
    assert request_metrics.connections == 1
    talk.transport.drop()
    assert request_metrics.connections == 0
