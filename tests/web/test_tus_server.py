"""Resumable uploads: what tus 1.0.0 asks of a server, and what a store does."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from base64 import b64encode

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from sos import resumable
from sos.errors import InvalidRequest, NoSpace, SOSError, Unavailable
from sos.resumable import ResumableUploads
from sos.stores.memory import MemoryStore
from sos.stores.unfinished_uploads import UnfinishedUploads
from sos.web import tus_headers
from sos.web.client_headers import KeptHeaders
from sos.web.public_api import UploadServer
from sos.web.routes import handler
from sos.web.tus_server import TusServer
from tests.support.blobs import body_of, content_id, shown
from tests.support.conversation import Conversation, parse_answers, request
from tests.support.doubles import FailingStore

LIMIT = 1_000_000
DAY = 86_400.0
VERSION = b"Tus-Resumable: 1.0.0"
PART = b"Content-Type: application/offset+octet-stream"
# Every answer has to say what is spoken.
SPOKEN = {b"tus-resumable": b"1.0.0"}


@define
class Server:
    """A server of tus over *store*, and its directory."""

    directory: object
    store: object
    clock: Clock
    face: ResumableUploads
    handler: object

    def ask(self, method, path, body=None, *lines, version=VERSION):
        return Conversation(self.handler).ask(method, path, body, version, *lines)

    def create(self, length, *lines, body=None):
        """Begin an upload, and return its path."""
        answer = self.ask("POST", "/tus", body, b"Upload-Length: %d" % length, *lines)
        assert answer.status == 201, answer
        return "/" + answer.headers[b"location"].decode()

    def patch(self, path, offset, body, *lines):
        return self.ask("PATCH", path, body, PART, b"Upload-Offset: %d" % offset, *lines)

    def offset(self, path):
        return int(self.ask("HEAD", path).headers[b"upload-offset"])

    def begin(self, path, offset, length, *lines):
        """Return a conversation in which a PATCH has begun."""
        begun = Conversation(self.handler)
        begun.send(
            request("PATCH", path, None, VERSION, PART, *lines, b"Upload-Offset: %d" % offset)[:-2]
            + b"Content-Length: %d\r\n\r\n" % length
        )
        return begun

    @property
    def names(self):
        return sorted(os.listdir(self.directory))


@pytest.fixture
def make(tmp_path):
    def make(store=None, run=maybeDeferred, now=lambda: os.stat(tmp_path).st_mtime, **options):
        store = store or MemoryStore()
        uploads = UnfinishedUploads(tmp_path / "unfinished", options.pop("limit", LIMIT), DAY, now)
        uploads.prepare()
        clock = Clock()
        face = ResumableUploads(uploads, store, run, clock, **options)
        answers = handler(UploadServer(store, resumable=TusServer(face, KeptHeaders())).app)
        return Server(tmp_path / "unfinished", store, clock, face, answers)

    return make


@pytest.fixture
def server(make):
    return make()


def encoded(**pairs):
    return b"Upload-Metadata: " + b",".join(
        name.encode() + b" " + b64encode(value) for name, value in pairs.items()
    )


def test_what_is_spoken_is_told_without_a_version(server):
    """tus, 5.2.4: the client asks before it knows."""
    for path in ("/tus", "/tus/whatever"):
        (answer,) = Conversation(server.handler).answers(request("OPTIONS", path))
        assert answer.status == 204
        assert answer.headers[b"tus-version"] == b"1.0.0"
        assert answer.headers[b"tus-max-size"] == b"%d" % LIMIT
        assert b"sha1" in answer.headers[b"tus-checksum-algorithm"].split(b",")
        assert set(answer.headers[b"tus-extension"].split(b",")) == {
            b"creation",
            b"creation-with-upload",
            b"expiration",
            b"checksum",
            b"termination",
        }


@pytest.mark.parametrize("cuts", [[], [1], [0, 50_000], [65_536, 99_999]])
def test_parts_become_the_object_that_the_whole_would_be(server, cuts):
    """The last answer tells its id, and everything after it does, while it is remembered."""
    body = body_of(100_000)
    path = server.create(len(body), encoded(filename="é.jpg".encode(), filetype=b"image/jpeg"))
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        assert server.offset(path) == start
        answer = server.patch(path, start, body[start:stop])
        assert answer.status == 204, answer
        assert answer.headers[b"upload-offset"] == b"%d" % stop
        assert (b"upload-expires" in answer.headers) == (stop < len(body))
    id = content_id(body)
    assert answer.headers[b"x-sos-id"] == id.encode()
    blob = server.store.blobs[id]
    assert b"".join(blob.body if isinstance(blob.body, list) else [blob.body]) == body
    metadata = {"X-Orig-Filename": "é.jpg", "X-Mime-Type": "image/jpeg"}
    assert shown(blob.info.metadata) == metadata
    assert server.names == ["stored"]
    for answer in (server.ask("HEAD", path), server.patch(path, len(body), b"")):
        assert answer.headers[b"x-sos-id"] == id.encode()
        assert answer.headers[b"upload-offset"] == b"%d" % len(body)
    assert server.ask("GET", path).json == {"offset": len(body), "length": len(body), "id": id}
    assert server.ask("DELETE", path).status == 204
    assert server.ask("HEAD", path).status == 404
    assert id in server.store.blobs


def test_what_a_client_asks_for_when_it_goes_on(server):
    """Length, offset and metadata, as it told them; and no cache keeps that."""
    metadata = encoded(filename=b"a", relativePath=b"b/c")
    path = server.create(10, metadata)
    server.patch(path, 0, b"abc")
    answer = server.ask("HEAD", path)
    assert answer.status == 200
    assert answer.headers[b"upload-length"] == b"10"
    assert answer.headers[b"upload-offset"] == b"3"
    assert b"Upload-Metadata: " + answer.headers[b"upload-metadata"] == metadata
    assert answer.headers[b"cache-control"] == b"no-store"
    assert answer.headers[b"tus-resumable"] == b"1.0.0"


def test_an_upload_of_nothing_is_stored_at_once(server):
    """No client sends a part of it."""
    answer = server.ask("POST", "/tus", None, b"Upload-Length: 0")
    assert answer.status == 201
    assert answer.headers[b"x-sos-id"] == content_id(b"").encode()
    assert content_id(b"") in server.store.blobs


@pytest.mark.parametrize("size", [3, 10])
def test_a_creation_brings_the_first_bytes(server, size):
    """All of them, or some."""
    body = body_of(10)
    answer = server.ask("POST", "/tus", body[:size], PART, b"Upload-Length: 10")
    assert answer.status == 201
    assert answer.headers[b"upload-offset"] == b"%d" % size
    assert (content_id(body) in server.store.blobs) == (size == 10)
    path = "/" + answer.headers[b"location"].decode()
    if size < 10:
        assert server.patch(path, size, body[size:]).status == 204
    assert content_id(body) in server.store.blobs


def test_a_creation_that_fails_creates_nothing(make):
    """The client has no URL by which it could go on."""
    server = make(FailingStore(error=Unavailable("down"), when="commit"))
    wrong = b"Upload-Checksum: sha1 " + b64encode(bytes(20))
    for length, body, lines, status in (
        (10, b"abc", (PART, wrong), 460),
        (3, b"abcd", (PART,), 413),
        (3, b"abc", (PART,), 503),
        (0, None, (), 503),
        (3, b"abc", (), 415),
    ):
        answer = server.ask("POST", "/tus", body, b"Upload-Length: %d" % length, *lines)
        assert answer.status == status
        assert answer.headers.items() >= SPOKEN.items()
        assert server.names == ["stored"]


AT_0 = (PART, b"Upload-Offset: 0")
REFUSED = [
    ("POST", "/tus", None, [b"Upload-Length: 3"], b"Tus-Resumable: 0.2.2", 412),
    ("POST", "/tus", None, [b"Upload-Length: 3"], b"X-None: 0", 412),
    ("POST", "/tus", None, [], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Defer-Length: 1"], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: -1"], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: 1, 1"], VERSION, 400),
    ("POST", "/tus", None, ["Upload-Length: ١".encode()], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: %d" % (LIMIT + 1)], VERSION, 413),
    ("POST", "/tus", None, [b"Upload-Length: 9223372036854775808"], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: 3", b"Upload-Metadata: a"], VERSION, 201),
    ("POST", "/tus", None, [b"Upload-Length: 3", b"Upload-Metadata: a *"], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: 3", b"Upload-Metadata: a YQ==,A YQ=="], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: 3", b"Upload-Metadata: a/b YQ=="], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: 3", b"Upload-Metadata: a YQ==,"], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: 3", encoded(filename=b"a\nb")], VERSION, 400),
    ("POST", "/tus", None, [b"Upload-Length: 3", encoded(filename=bytes(5000))], VERSION, 400),
    ("GET", "/tus", None, [], VERSION, 405),
    ("POST", "PATH", b"abc", [PART, b"Upload-Offset: 0"], VERSION, 405),
    ("PUT", "PATH", b"abc", [PART, b"Upload-Offset: 0"], VERSION, 405),
    ("PATCH", "PATH", b"abc", [PART, b"Upload-Offset: 0"], b"Tus-Resumable: 1", 412),
    ("HEAD", "PATH", None, [], b"Tus-Resumable: 2.0.0", 412),
    ("DELETE", "PATH", None, [], b"X-None: 0", 412),
    ("PATCH", "PATH", b"abc", [b"Upload-Offset: 0"], VERSION, 415),
    ("PATCH", "PATH", b"abc", [PART], VERSION, 400),
    ("PATCH", "PATH", b"abc", [PART, b"Upload-Offset: 0x0"], VERSION, 400),
    ("PATCH", "PATH", b"abc", [PART, b"Upload-Offset: 1"], VERSION, 409),
    ("PATCH", "PATH", b"four", [PART, b"Upload-Offset: 0"], VERSION, 413),
    ("PATCH", "PATH", b"a", [*AT_0, b"Upload-Checksum: crc32 aaaa"], VERSION, 400),
    ("PATCH", "PATH", b"a", [*AT_0, b"Upload-Checksum: sha1 YQ=="], VERSION, 400),
    ("PATCH", "PATH", b"a", [*AT_0, b"Upload-Checksum: sha1"], VERSION, 400),
]  # fmt: skip
UNKNOWN = ["A" * 32, "..", "%2e%2e", "stored", "A" * 31, "A" * 32 + "%0a", "%C3%A9", "a", "a.part"]
# Of an upload, but for its name.
FOREIGN = b'{"length": 3, "offset": 0, "metadata": {}, "told": "", "id": null}'


@pytest.mark.parametrize("parts", REFUSED, ids=lambda parts: f"{parts[0]}-{parts[3]}-{parts[5]}")
def test_what_is_refused_changes_nothing(server, parts):
    """It is told in JSON why, and which version is spoken."""
    method, path, body, lines, version, status = parts
    there = server.create(3)
    answer = server.ask(method, path.replace("PATH", there), body, *lines, version=version)
    assert answer.status == status
    assert answer.headers.items() >= SPOKEN.items()
    assert answer.headers[b"tus-version"] == b"1.0.0"
    if status != 201:
        assert len(server.names) == 3  # two files, and a directory
    assert server.patch(there, 0, b"abc").headers[b"x-sos-id"] == content_id(b"abc").encode()


@pytest.mark.parametrize("token", UNKNOWN)
def test_an_upload_that_is_not_there(server, token):
    """404, whatever it is called, and nothing outside the directory is looked at."""
    for name, data in (("a.part", b""), ("a.json", FOREIGN)):
        (server.directory / name).write_bytes(data)
    for method, body, *lines in (
        ("HEAD", None),
        ("GET", None),
        ("DELETE", None),
        ("PATCH", b"a", PART, b"Upload-Offset: 0"),
    ):
        answer = server.ask(method, f"/tus/{token}", body, *lines)
        assert answer.status == 404
        assert answer.headers.items() >= SPOKEN.items()
    assert server.names == ["a.json", "a.part", "stored"]


@pytest.mark.parametrize("name", ["sha1", "md5", "sha256", "sha512"])
def test_a_part_is_checked_by_its_checksum(server, name):
    """One that does not match leaves the upload as it was; nor does one that broke off count."""
    path = server.create(6)
    good = f"Upload-Checksum: {name} ".encode() + b64encode(hashlib.new(name, b"abc").digest())
    assert server.patch(path, 0, b"abd", good).status == 460
    assert server.offset(path) == 0
    begun = server.begin(path, 0, 3, good)
    begun.send(b"ab")
    begun.transport.drop()
    assert server.offset(path) == 0
    assert server.patch(path, 0, b"abc", good).status == 204
    assert server.offset(path) == 3
    server.patch(path, 3, b"def")
    assert content_id(b"abcdef") in server.store.blobs


def test_what_came_of_a_part_counts(server):
    """Its connection broke; the client goes on behind it."""
    path = server.create(6)
    begun = server.begin(path, 0, 6)
    begun.send(b"abcd")
    begun.transport.drop()
    assert server.offset(path) == 4
    assert server.patch(path, 4, b"ef").headers[b"x-sos-id"] == content_id(b"abcdef").encode()


def test_more_than_was_announced(server):
    """A chunked part does not say how long it is; what is over the length is not taken."""
    path = server.create(5)
    head = request("PATCH", path, None, VERSION, PART, b"Upload-Offset: 0")[:-2]
    for chunks, status in ((b"6\r\nabcdef\r\n0\r\n\r\n", 413), (b"5\r\nabcde\r\n0\r\n\r\n", 204)):
        data = Conversation(server.handler).send(
            head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        )
        assert parse_answers(data)[0].status == status
    assert list(server.store.blobs) == [content_id(b"abcde")]


def test_the_request_that_comes_later_gets_the_upload(server):
    """The earlier one can be of a connection that is lost, which only its client has noticed."""
    path = server.create(6)
    begun = server.begin(path, 0, 6)
    begun.send(b"abc")
    other = Conversation(server.handler)
    assert other.send(request("HEAD", path, None, VERSION)) == b""
    server.clock.pump([resumable.LOOK_SECONDS, resumable.ATTEMPT_SECONDS])
    (earlier,) = parse_answers(begun.transport.value())
    assert earlier.status == 423
    later = parse_answers(other.transport.value(), to_head=True)[0]
    assert (later.status, later.headers[b"upload-offset"]) == (200, b"3")
    assert server.patch(path, 3, b"def").status == 204


@pytest.mark.parametrize(("number", "status"), [(errno.EIO, 503), (errno.EDQUOT, 507)])
def test_a_disk_that_fails_while_a_part_arrives_is_named(server, monkeypatch, number, status):
    """A request looks once a second whether another one wants the upload.  The bytes count."""
    path = server.create(6)
    begun = server.begin(path, 0, 6)
    begun.send(b"abc")
    stat = os.stat

    def fail(name, *arguments, **options):
        if str(name).endswith(".wanted"):
            raise OSError(number, os.strerror(number))
        return stat(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", fail)
        server.clock.advance(resumable.LOOK_SECONDS)
    (answer,) = parse_answers(begun.transport.value())
    assert answer.status == status
    assert os.strerror(number) in answer.json["error"]
    assert server.offset(path) == 3
    assert server.patch(path, 3, b"def").status == 204


class Slow(MemoryStore):
    """Stores nothing before it is let."""

    def __init__(self):
        super().__init__()
        self.let = Deferred()

    def writer(self, *arguments):
        writer, let = super().writer(*arguments), self.let
        commit = writer.commit

        class Waiting:
            write, abort = writer.write, writer.abort

            async def commit(self):
                await let
                return await commit()

        return Waiting()


def test_a_client_that_goes_away_at_the_end_does_not_keep_it_from_being_stored(make):
    """Meanwhile others are told to come again; then that it is done."""
    server = make(Slow())
    path = server.create(3)
    begun = server.begin(path, 0, 3)
    begun.send(b"abc")
    begun.transport.drop()
    other = Conversation(server.handler)
    other.send(request("HEAD", path, None, VERSION))
    server.clock.pump([resumable.ATTEMPT_SECONDS] * resumable.ATTEMPTS)
    assert parse_answers(other.transport.value(), to_head=True)[0].status == 423
    server.face.settled().addErrback(lambda _: None).cancel()  # as when a daemon has to end
    settled = []
    server.face.settled().addCallback(settled.append)
    assert settled == []
    server.store.let.callback(None)
    assert settled
    answer = server.ask("HEAD", path)
    assert answer.headers[b"x-sos-id"] == content_id(b"abc").encode()
    assert content_id(b"abc") in server.store.blobs


@pytest.mark.parametrize("last", [b"c", b""])
@pytest.mark.parametrize(("error", "status"), [(NoSpace("full"), 507), (Unavailable("down"), 503)])
def test_a_store_that_fails_costs_the_client_one_byte(make, error, status, last):
    """Told of all bytes, clients take an upload for stored: the last counts when it is.

    The server has it all the same, so that an empty part is enough.
    """
    server = make(FailingStore(error=error, when="commit"))
    path = server.create(3)
    assert server.patch(path, 0, b"abc").status == status
    assert server.offset(path) == 2
    assert server.patch(path, 2, b"c").status == status
    server = make()
    assert server.offset(path) == 2
    assert server.patch(path, 2, last).headers[b"x-sos-id"] == content_id(b"abc").encode()


def test_no_more_than_fits(make):
    """What is unfinished counts with its length; what is stored or removed no longer does."""
    server = make(limit=10)
    path = server.create(6)
    assert server.ask("POST", "/tus", None, b"Upload-Length: 11").status == 413
    refused = server.ask("POST", "/tus", None, b"Upload-Length: 5")
    assert refused.status == 503
    server.create(4)
    server.ask("DELETE", path)
    path = server.create(6)
    server.patch(path, 0, b"abcdef")
    server.create(6)


def test_the_limit_of_an_object_holds(make):
    """At its creation."""
    server = make(max_size=10)
    assert server.ask("POST", "/tus", None, b"Upload-Length: 11").status == 413
    options = server.ask("OPTIONS", "/tus")
    assert options.headers[b"tus-max-size"] == b"10"


def test_headers_of_the_creation_are_metadata_as_well(server):
    """Those of POST /upload; what Upload-Metadata says goes before, and secrets are not kept."""
    path = server.create(
        1,
        b"X-Name: n",
        b"X-Mime-Type: a/b",
        b"X-Api-Key: secret",
        encoded(filetype=b"c/d", relativePath=b"e", empty=b"", filename=b"\xe9"),
    )
    server.ask("PATCH", path, b"a", PART, b"Upload-Offset: 0", b"X-Other: o")
    (blob,) = server.store.blobs.values()
    found = shown(blob.info.metadata)
    assert found.pop("X-Orig-Filename") in ("é", "\udce9")
    assert found == {"X-Name": "n", "X-Mime-Type": "c/d", "X-Meta-Relativepath": "e"}


@pytest.mark.parametrize("method", [b"PATCH", b"DELETE"])
def test_a_method_that_the_network_does_not_let_through(server, method):
    """tus, X-HTTP-Method-Override."""
    path = server.create(3)
    override = b"X-HTTP-Method-Override: " + method
    answer = server.ask("POST", path, b"abc", PART, b"Upload-Offset: 0", override)
    assert answer.status == 204
    assert (content_id(b"abc") in server.store.blobs) == (method == b"PATCH")


def test_without_a_directory_none_are_taken():
    """And the answer says what to do."""
    conversation = Conversation(handler(UploadServer(MemoryStore()).app))
    answer = conversation.ask("POST", "/tus", None, VERSION, b"Upload-Length: 1")
    assert answer.status == 404
    assert "--unfinished-dir" in answer.json["error"]


@given(st.binary(max_size=60) | st.from_regex(rb"([a-z]{1,3} [A-Za-z0-9+/=]{0,8},?){1,3}"))
def test_any_metadata_is_read_or_refused(metadata):
    """What is read comes back, key by key."""
    try:
        found = tus_headers.metadata_headers(metadata)
    except InvalidRequest:
        return
    again = b",".join(
        {b"X-Orig-Filename": b"filename", b"X-Mime-Type": b"filetype"}.get(name, name[7:])
        + b" "
        + b64encode(value)
        for name, value in found
    )
    assert tus_headers.metadata_headers(again) == found


def test_many_keys_take_no_longer_each_than_few():
    """A head has room for thousands, and one request must not hold up the others."""

    def calls(keys):
        metadata = b",".join(b"%x" % key for key in range(keys))
        counted = []
        sys.setprofile(lambda frame, event, argument: counted.append(event))
        try:
            tus_headers.metadata_headers(metadata)
        finally:
            sys.setprofile(None)
        return len(counted)

    assert calls(800) < 10 * calls(100)


@given(st.binary(max_size=40), st.binary(max_size=10))
def test_any_checksum_is_read_or_refused(value, body):
    """One that is read either matches or does not."""
    try:
        checksum = tus_headers.Checksum(value)
        checksum.update(body)
        checksum.verify()
    except SOSError:
        return
    assert b64encode(hashlib.new(value.split(b" ")[0].decode(), body).digest()) in value


def test_a_disk_that_is_full_loses_nothing(server, monkeypatch):
    """507; what was acknowledged stays, and the upload goes on when there is room."""
    path = server.create(6)
    server.patch(path, 0, b"abc")
    left = server.names

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("pwrite", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            assert server.patch(path, 3, b"def").status == 507
    assert [name for name in server.names if not name.endswith(".new")] == left
    assert server.offset(path) == 3
    assert server.patch(path, 3, b"def").headers[b"x-sos-id"] == content_id(b"abcdef").encode()
