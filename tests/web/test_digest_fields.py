"""Digests that come with a body, over a store in memory."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import InvalidRequest
from sos.interfaces import SMALL_BODY
from sos.stores.memory import MemoryStore
from sos.web import digest_fields
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, shown
from tests.support.conversation import Conversation, parse_answers, request

BODY = b"some bytes"
ANSWER = b'{"id":"%s","size":10,"status":"OK","copies":1}' % content_id(BODY).encode()
FACES = [("POST", "/upload"), ("POST", "/blob/abc"), ("PUT", "/blob/abc")]
DICTIONARIES = ["Repr-Digest", "Content-Digest"]


def base64_of(algorithm, body):
    return b64encode(hashlib.new(algorithm.replace("-", ""), body).digest()).decode()


def member(algorithm, body):
    return f"{algorithm}=:{base64_of(algorithm, body)}:"


def header(name, value):
    return f"{name}: {value}".encode("latin-1")


class Server:
    """An upload server and a blob server of one store, by the path that is asked for."""

    def __init__(self, max_size=None):
        self.store = MemoryStore()
        self.upload = Conversation(handler(UploadServer(self.store, max_size).app))
        self.blob = Conversation(handler(BlobServer(self.store, max_size).app))

    def ask(self, method, path, body, *headers):
        return self.talk(path).ask(method, path, body, *headers)

    def talk(self, path):
        return self.upload if path == "/upload" else self.blob


@pytest.fixture
def server():
    return Server()


RIGHT = [
    header(name, member(algorithm, BODY))
    for name in DICTIONARIES
    for algorithm in ("sha-256", "sha-512")
] + [
    header("Content-MD5", base64_of("md5", BODY)),
    header("Repr-Digest", f"{member('sha-256', BODY)}, {member('sha-512', BODY)}"),
    header("rEPR-dIGEST", f"{member('sha-256', BODY)};note=1"),
]


@pytest.mark.parametrize(("method", "path"), FACES)
@pytest.mark.parametrize("line", RIGHT)
def test_a_body_that_matches_is_stored(server, method, path, line):
    """The answer is as without the header, which is not kept."""
    answer = server.ask(method, path, BODY, line, b"X-Name: n")
    assert answer.status == 200, answer.body
    (stored,) = server.store.blobs.values()
    assert stored.body == BODY
    assert shown(stored.info.metadata) == {"X-Name": "n"}
    if path == "/upload":
        assert answer.body == ANSWER


WRONG = [
    header(name, member(algorithm, b"other bytes"))
    for name in DICTIONARIES
    for algorithm in ("sha-256", "sha-512")
] + [
    header("Content-MD5", base64_of("md5", b"other bytes")),
    header("Repr-Digest", f"{member('sha-256', BODY)}, {member('sha-512', b'other bytes')}"),
    header("Repr-Digest", f"{member('sha-256', b'other bytes')}, {member('sha-512', BODY)}"),
]


@pytest.mark.parametrize(("method", "path"), FACES)
@pytest.mark.parametrize("line", WRONG)
def test_a_body_that_does_not_match_is_refused(server, method, path, line):
    """400, nothing is stored, and the connection goes on."""
    answer = server.ask(method, path, BODY, line)
    assert answer.json["status"] == answer.status == 400
    assert "corrupted on the way" in answer.json["error"]
    assert server.store.blobs == {}
    assert server.ask(method, path, BODY).status == 200


def test_both_fields_have_to_match(server):
    """One that is right does not excuse the other."""
    lines = [header("Repr-Digest", member("sha-256", BODY))]
    lines.append(header("Content-Digest", member("sha-256", b"other bytes")))
    assert server.ask("POST", "/upload", BODY, *lines).status == 400
    assert server.ask("POST", "/upload", BODY, *reversed(lines)).status == 400
    assert server.store.blobs == {}


def test_a_field_sent_twice_is_one_dictionary(server):
    """RFC 9110, 5.3: each line adds members to it."""
    lines = [header("Repr-Digest", member("sha-256", BODY))]
    lines.append(header("Repr-Digest", member("sha-512", b"other bytes")))
    assert server.ask("POST", "/upload", BODY, *lines).status == 400
    assert server.store.blobs == {}


def test_a_digest_tells_of_a_wrong_body_before_the_id_does(server):
    """400: what was sent is not what was meant to be sent."""
    path = f"/blob/{content_id(b'other bytes')}"
    assert server.ask("POST", path, BODY).status == 422
    assert server.ask("POST", path, BODY, WRONG[0]).status == 400
    assert server.ask("POST", path, BODY, RIGHT[0]).status == 422
    assert server.store.blobs == {}


MALFORMED = [
    header(name, value)
    for name in DICTIONARIES
    for value in (
        "sha-256",
        "sha-256=",
        "sha-256=:",
        "sha-256=::",
        "sha-256=:YWJj:",
        "sha-256=1",
        'sha-256="' + base64_of("sha-256", BODY) + '"',
        "sha-256=" + base64_of("sha-256", BODY),
        "sha-256=(" + member("sha-256", BODY).partition("=")[2] + ")",
        "SHA-256=:" + base64_of("sha-256", BODY) + ":",
        member("sha-256", BODY)[:-1],
        member("sha-256", BODY) + ",",
        member("sha-256", BODY) + " x",
        member("sha-256", BODY).replace("=:", "=:-"),
        "sha-512=" + member("sha-256", BODY).partition("=")[2],
        "unknown=?2, " + member("sha-256", BODY),
        "\xff",
    )
] + [
    header("Content-MD5", value)
    for value in (
        "",
        "x",
        "====",
        "YWJj",
        "-" * 22 + "==",
        hashlib.md5(BODY).hexdigest(),
        base64_of("sha1", BODY),
        base64_of("md5", BODY)[:-2],
        base64_of("md5", BODY) + "=",
        f"{base64_of('md5', BODY)}, {base64_of('md5', BODY)}",
    )
]


@pytest.mark.parametrize("line", MALFORMED)
def test_a_malformed_value_is_refused_before_the_body(server, line):
    """400 to the headers alone; the body that follows is not asked for."""
    head = request("POST", "/upload", None, b"Content-Length: 10", b"Expect: 100-continue", line)
    data = server.upload.send(head)
    assert data.startswith(b"HTTP/1.1 400 ")
    (answer,) = parse_answers(data)
    assert answer.json["error"].startswith(line.partition(b":")[0].decode().lower() + ":")
    assert server.store.blobs == {}


@pytest.mark.parametrize("value", ["", "md5=:YWJj:", "crc32c=:AAAAAA==:, x, y=(1 2);z", "sha=1"])
def test_algorithms_that_are_not_known_are_passed_over(server, value):
    """RFC 9530, 2; with a known one beside them, that is checked."""
    assert server.ask("POST", "/upload", BODY, header("Repr-Digest", value)).body == ANSWER
    if value:
        line = header("Repr-Digest", f"{value}, {member('sha-256', b'other bytes')}")
        assert server.ask("POST", "/blob/abc", BODY, line).status == 400
    assert len(server.store.blobs) == 1


def test_an_empty_body(server):
    """It has digests like any other."""
    for line in (
        header("Repr-Digest", member("sha-256", b"")),
        header("Content-MD5", base64_of("md5", b"")),
    ):
        assert server.ask("POST", "/upload", b"", line).status == 200
    server.store.blobs.clear()
    for line in WRONG:
        assert server.ask("POST", "/upload", b"", line).status == 400
    assert server.store.blobs == {}


@pytest.mark.parametrize(("meant", "status"), [(BODY, 200), (b"other bytes", 400)])
@pytest.mark.parametrize("max_size", [None, 10])
def test_a_chunked_body(meant, status, max_size):
    """The digest is of the body without the chunks' framing."""
    server = Server(max_size)
    line = header("Repr-Digest", member("sha-512", meant))
    head = request("POST", "/upload", None, b"Transfer-Encoding: chunked", line)
    (answer,) = server.upload.answers(head + b"4\r\nsome\r\n6\r\n bytes\r\n0\r\n\r\n")
    assert answer.status == status
    assert len(server.store.blobs) == (status == 200)


def test_the_limit_holds_with_a_digest(server):
    """A chunked body that passes it is 413 as without one."""
    server = Server(max_size=9)
    line = header("Repr-Digest", member("sha-256", BODY))
    head = request("POST", "/upload", None, b"Transfer-Encoding: chunked", line)
    (answer,) = server.upload.answers(head + b"a\r\nsome bytes\r\n0\r\n\r\n")
    assert answer.status == 413
    assert server.store.blobs == {}


@pytest.mark.parametrize("size", [1000, SMALL_BODY, SMALL_BODY + 1, 3_000_000])
@pytest.mark.parametrize("right", [True, False])
def test_a_body_in_many_pieces(server, size, right):
    """Every byte counts, the last one as well."""
    body = body_of(size)
    meant = body if right else body[:-1] + bytes([body[-1] ^ 1])
    lines = [header("Repr-Digest", f"{member('sha-256', meant)}, {member('sha-512', meant)}")]
    lines += [header("Content-MD5", base64_of("md5", meant))]
    data = request("POST", "/upload", body, *lines)
    step = size // 50
    answers = b"".join(server.upload.send(data[n : n + step]) for n in range(0, len(data), step))
    (answer,) = parse_answers(answers)
    assert answer.status == (200 if right else 400)
    assert list(server.store.blobs) == ([content_id(body)] if right else [])


@pytest.mark.parametrize("line", [*RIGHT, *WRONG])
def test_a_body_that_breaks_off(server, line):
    """Nothing is stored, whatever its digest."""
    server.upload.send(request("POST", "/upload", BODY, line)[:-1])
    server.upload.transport.drop()
    assert server.store.blobs == {}


@given(st.text(st.characters(max_codepoint=255)) | st.from_regex(r"\A[a-z=:,;()?@%0-9 \"-]*\Z"))
def test_no_value_is_a_fault_of_ours(value):
    """It is understood, or it is the client's."""
    for name in (b"repr-digest", b"content-digest", b"content-md5"):
        with suppress(InvalidRequest):
            digest_fields.claims({name: value.encode("latin-1")})
    digest_fields.answer(value.encode("latin-1"), "0" * 64)


class TestDigestOfWhatIsFetched:
    """``Repr-Digest`` in answers."""

    @pytest.fixture
    def fetch(self):
        store = MemoryStore()
        upload = Conversation(handler(BlobServer(store).app))
        for id in (content_id(BODY), hashlib.sha256(BODY).hexdigest(), "name"):
            upload.answers(request("POST", f"/blob/{id}", BODY))
        download = Conversation(handler(DownloadServer(store).app))

        return lambda method, id, *lines: download.ask(method, f"/fetch/{id}", None, *lines)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        "wish", [b"sha-256=1", b"md5=3, sha-256=10;x", b"sha-256=0, sha-256=5"]
    )
    def test_it_is_sent_to_who_asks(self, fetch, method, wish):
        """The id says it, so it costs nothing."""
        id = hashlib.sha256(BODY).hexdigest()
        answer = fetch(method, id, b"Want-Repr-Digest: " + wish)
        assert answer.headers[b"repr-digest"] == member("sha-256", BODY).encode()
        assert b"repr-digest" not in fetch(method, id).headers

    def test_with_a_part_it_is_that_of_the_whole(self, fetch):
        """RFC 9530, 3."""
        id = hashlib.sha256(BODY).hexdigest()
        answer = fetch("GET", id, b"Want-Repr-Digest: sha-256=1", b"Range: bytes=1-2")
        assert (answer.status, answer.body) == (206, BODY[1:3])
        assert answer.headers[b"repr-digest"] == member("sha-256", BODY).encode()

    @pytest.mark.parametrize(
        "wish",
        [
            "",
            "?",
            "sha-512=1",
            "sha-256",
            "sha-256=0",
            "sha-256=11",
            "sha-256=-1",
            "sha-256=1.0",
            "sha-256=(1)",
            "sha-256=1,",
        ],
    )
    def test_a_wish_that_cannot_be_met_is_passed_over(self, fetch, wish):
        """Malformed ones as well: it is no more than a wish."""
        line = header("Want-Repr-Digest", wish)
        answer = fetch("GET", hashlib.sha256(BODY).hexdigest(), line)
        assert (answer.status, answer.body) == (200, BODY)
        assert b"repr-digest" not in answer.headers

    @pytest.mark.parametrize("id", [content_id(BODY), "name"])
    def test_an_id_that_is_no_sha256_tells_none(self, fetch, id):
        """It would have to be computed, from the whole body, before the first byte of it."""
        answer = fetch("GET", id, b"Want-Repr-Digest: sha-256=1")
        assert (answer.status, answer.body) == (200, BODY)
        assert b"repr-digest" not in answer.headers
