"""The API server's faces, over a store in memory."""

from __future__ import annotations

import time

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from sos.errors import Unavailable
from sos.model.metadata import DELETED_AT, PART_AT, SET_AT, ticks
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, manifest_of, put, shown
from tests.support.conversation import Conversation, request
from tests.support.doubles import FailingStore, PlacingStore


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def upload(store):
    return Conversation(handler(UploadServer(store).app))


@pytest.fixture
def download(store):
    return Conversation(handler(DownloadServer(store).app))


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_an_upload_can_be_fetched_by_its_hash(upload, download, size):
    """The answer is the original's."""
    body = body_of(size)
    answer = upload.ask("POST", "/upload", body)
    id = content_id(body)
    assert answer.status == 200
    assert answer.body == f'{{"id":"{id}","size":{size},"status":"OK","copies":1}}'.encode()
    assert download.ask("GET", f"/fetch/{id}").body == body


def test_a_form_is_a_body_like_any_other(upload, download):
    """curl says application/x-www-form-urlencoded when it is not told otherwise."""
    type = b"Content-Type: application/x-www-form-urlencoded"
    answer = upload.ask("POST", "/upload", b"a=b", type)
    assert answer.json["id"] == content_id(b"a=b")


def test_a_chunked_upload(upload):
    """Its size is what came."""
    head = b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    (answer,) = upload.answers(head + b"3\r\nabc\r\n0\r\n\r\n")
    assert answer.json == {"id": content_id(b"abc"), "size": 3, "status": "OK", "copies": 1}


@pytest.mark.parametrize("extension", ["", ".jpg", ".tar.gz", "."])
def test_an_extension_is_passed_over(upload, download, extension):
    """So that a link can look like a file."""
    upload.ask("POST", "/upload", b"abc", b"X-Mime-Type: image/jpeg")
    answer = download.ask("GET", f"/fetch/{content_id(b'abc')}{extension}")
    assert answer.body == b"abc"
    assert answer.headers[b"content-type"] == b"image/jpeg"


def test_head(upload, download):
    """200 with the length, or 404; no body."""
    upload.ask("POST", "/upload", b"abc")
    data = download.send(request("HEAD", f"/fetch/{content_id(b'abc')}"))
    assert data.startswith(b"HTTP/1.1 200")
    assert b"Content-Length: 3" in data
    assert data.endswith(b"\r\n\r\n")
    assert download.send(request("HEAD", "/fetch/abc")).startswith(b"HTTP/1.1 404")


def test_uploads_and_fetches_have_ports_of_their_own(upload, download):
    """Neither serves what the other does."""
    assert upload.ask("GET", "/fetch/abc").status == 404
    assert download.ask("POST", "/upload", b"x").status == 404
    answer = upload.ask("GET", "/upload")
    assert (answer.status, answer.headers[b"allow"]) == (405, b"POST, PUT")
    assert download.ask("POST", "/fetch/abc", b"").status == 405


@pytest.mark.parametrize("name", ["ABC", "a%0a", "a%00.jpg", "..", ".jpg", "a" * 129])
def test_a_name_that_is_none(download, name):
    """400, in JSON."""
    assert download.ask("GET", f"/fetch/{name}").json["status"] == 400


def test_what_cannot_be_known_is_not_missing():
    """503 while a server that may have it does not answer."""
    download = Conversation(handler(DownloadServer(FailingStore(error=Unavailable("x"))).app))
    assert download.ask("GET", "/fetch/abc").status == 503


def test_an_upload_over_the_limit(store):
    """413, and nothing is stored."""
    upload = Conversation(handler(UploadServer(store, max_size=3).app))
    assert upload.ask("POST", "/upload", b"four").status == 413
    assert store.blobs == {}


def test_a_client_cannot_mark_a_manifest(upload, store):
    """What it sends is an object, whatever it says of it."""
    _, text, _ = manifest_of(body_of(5000), 1000)
    answer = upload.ask("POST", "/upload", text, b"x-sos-manifest: 5000", b"X-Name: n")
    assert answer.json["id"] == content_id(text)
    assert shown(store.blobs[content_id(text)].info.metadata) == {"X-Name": "n"}


# Claims of a client to have been the first, in any spelling.
_CLAIMS = (
    b"X-Sos-Set-At: 1",
    b"X-Sos-Set-At: 1",
    b"x-sos-set-at: 0",
    b"X-SOS-SET-AT: 0",
    b"X-Sos_Set_At: 1",
    b"X-sos-set_at: 1",
    b"X_Sos_Set_At: 1",
    b"X_Sos-Set-At: 1",
    b"Set-At: 1",
)


def test_a_client_neither_sets_nor_sees_when_metadata_was_set():
    """That is said by the server."""
    kept = PlacingStore()
    store = ChunkedStore(kept, 1000, maybeDeferred, now=lambda: 1.8e9)
    upload = Conversation(handler(UploadServer(store).app))
    id = upload.ask("POST", "/upload", b"x", *_CLAIMS, b"X-Name: n").json["id"]
    assert kept.blobs[id].info.metadata == {"X-Name": "n", "X-Sos-Set-At": "180000000000000"}
    download = Conversation(handler(DownloadServer(store).app))
    for asked in ([], [b"Range: bytes=0-0"]):
        answer = download.ask("GET", f"/fetch/{id}", None, *asked)
        assert answer.headers[b"x-name"] == b"n"
        assert b"x-sos-set-at" not in answer.headers


@pytest.mark.parametrize("metadata", [(), (b"X-Name: n",)])
def test_a_store_of_the_servers_own_is_told_a_time_as_well(upload, store, metadata):
    """Its directory can be that of a blob server tomorrow."""
    before = ticks(time.time())
    id = upload.ask("POST", "/upload", b"x", *_CLAIMS, *metadata).json["id"]
    assert before <= int(store.blobs[id].info.metadata["X-Sos-Set-At"]) <= ticks(time.time())
    assert len(store.blobs[id].info.metadata) == 1 + len(metadata)


def test_nothing_in_a_trailer_is_metadata():
    """Not ours, and not the client's."""
    kept = PlacingStore()
    store = ChunkedStore(kept, 1000, maybeDeferred, now=lambda: 1.8e9)
    upload = Conversation(handler(UploadServer(store).app))
    upload.send(
        b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Trailer: X-Sos-Set-At, X-Name\r\nX-A: 1\r\n\r\n"
        b"1\r\nx\r\n0\r\nX-Sos-Set-At: 1\r\nX-Name: n\r\n\r\n"
    )
    assert kept.blobs[content_id(b"x")].info.metadata == {
        "X-A": "1",
        "X-Sos-Set-At": "180000000000000",
    }


@pytest.mark.parametrize("size", [2, 5000])
def test_an_object_is_first_when_it_is_whole(size):
    """Who begins early, and sends the last byte late, comes after who was done before."""
    clock, kept = Clock(), PlacingStore()
    store = ChunkedStore(kept, 1000, maybeDeferred, now=clock.seconds)
    upload = Conversation(handler(UploadServer(store).app))
    body = body_of(size)
    whole = request("POST", "/upload", body, b"X-A: 1")
    clock.advance(10)
    upload.send(whole[:-1])
    clock.advance(10)
    upload.send(whole[-1:])
    assert kept.blobs[content_id(body)].info.metadata["X-Sos-Set-At"] == "2000000"


def test_that_nothing_is_said_of_an_object_is_said_as_well():
    """It has a time, and its chunks have none but that of the upload."""
    kept = PlacingStore()
    upload = Conversation(handler(UploadServer(ChunkedStore(kept, 1000, maybeDeferred)).app))
    for size in (0, 10, 5000):
        body = body_of(size)
        assert upload.ask("POST", "/upload", body).status == 200
        assert "X-Sos-Set-At" in kept.blobs[content_id(body)].info.metadata
    chunks = [each for each in kept.blobs.values() if len(each.body) == 1000]
    assert [list(each.info.metadata) for each in chunks] == [["X-Sos-Part-At"]] * 5


def test_an_object_in_chunks_looks_like_any_other():
    """Its headers, its parts and its size are those of the whole."""
    kept = PlacingStore()
    store = ChunkedStore(kept, 1000, maybeDeferred)
    upload = Conversation(handler(UploadServer(store).app))
    download = Conversation(handler(DownloadServer(store).app))
    body = body_of(100_000)
    answer = upload.ask("POST", "/upload", body, b"X-Sos-Manifest: 7", b"X-Name: n")
    assert answer.json == {
        "id": content_id(body),
        "size": 100_000,
        "status": "OK",
        "copies": 1,
        "ignored": ["X-Sos-Manifest"],
    }
    stored = kept.blobs[content_id(body)].info.metadata
    assert shown(stored) == {"X-Sos-Manifest": "100000", "X-Name": "n"}
    path = f"/fetch/{content_id(body)}"
    answer = download.ask("GET", path)
    assert answer.body == body
    assert answer.headers[b"content-length"] == b"100000"
    assert answer.headers[b"x-name"] == b"n"
    assert b"x-sos-manifest" not in answer.headers
    part = download.ask("GET", path, None, b"Range: bytes=1500-70000")
    assert (part.status, part.body) == (206, body[1500:70001])
    assert part.headers[b"content-range"] == b"bytes 1500-70000/100000"
    assert b"x-sos-manifest" not in part.headers
    head = download.send(request("HEAD", path)).lower()
    assert b"content-length: 100000" in head
    assert b"x-sos" not in head
    assert kept.open == set()


@pytest.mark.parametrize("range", [(), (b"Range: bytes=10-99999",)])
def test_a_body_that_fails_at_once_is_answered_as_an_error(range):
    """With nothing of what was to be said of the body; the next answer is where it belongs."""

    class Failing(MemoryStore):
        async def read(self, id, span=None):
            async def nothing():
                raise Unavailable("broke off")
                yield

            return evolve(await super().read(id, span), body=nothing())

    store = Failing()
    Conversation(handler(UploadServer(store).app)).ask("POST", "/upload", body_of(100_000))
    talk = Conversation(handler(DownloadServer(store).app))
    fetch = request("GET", f"/fetch/{content_id(body_of(100_000))}", None, *range)
    failed, missing = talk.answers(fetch + request("GET", "/fetch/abc"))
    assert (failed.status, failed.json["error"]) == (503, "broke off")
    assert not {b"etag", b"content-range"} & failed.headers.keys()
    assert failed.headers[b"cache-control"] == b"no-store"
    assert missing.status == 404


def run(work):
    """Return the result of *work*, which waits for nothing."""
    found = []
    Deferred.fromCoroutine(work).addCallback(found.append)
    return found[0]


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_chunk_whose_own_object_was_deleted_is_not_served(size):
    """Its bytes are part of another object; whoever asks for it by its id hears so."""
    kept, body = PlacingStore(), body_of(size)
    id = content_id(body)
    run(put(kept, body, id, {SET_AT: "179000000000000"}))
    run(put(kept, body, id, {PART_AT: "179000000000000"}))
    download = Conversation(handler(DownloadServer(kept).app))
    assert download.ask("GET", f"/fetch/{id}").body == body
    run(kept.reconcile(id, {DELETED_AT: "179000000000001"}))
    conditions = ([], [b"If-None-Match: *"], [b"Range: bytes=0-0"])
    for method, lines in [("HEAD", []), *(("GET", each) for each in conditions)]:
        answer = download.ask(method, f"/fetch/{id}", None, *lines)
        assert answer.status == 410, (method, lines)
        assert b"x-sos-metadata" not in answer.headers
