"""The blob server's face, over a store in memory."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface import implementer

from sos.errors import NoSpace, ReadOnly, Unavailable
from sos.interfaces import SMALL_BODY, IPromptStore
from sos.model.digest import BlobDigest
from sos.model.ids import partition
from sos.model.metadata import ticks, version
from sos.stores.memory import MemoryStore
from sos.transfer import transfer
from sos.web.blob_api import MAX_PAGE, BlobServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, manifest_of, shown
from tests.support.conversation import Conversation, parse_answers, request
from tests.support.doubles import BrokenBodyStore, FailingStore


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def ask(store):
    """Ask a blob server of *store* one thing, and return its answer."""
    return asker(store)


def asker(store, **options):
    return Conversation(handler(BlobServer(store, **options).app)).ask


def test_alive(ask):
    """The body is exactly ``alive``."""
    answer = ask("GET", "/alive")
    assert (answer.status, answer.body) == (200, b"alive")


@implementer(IPromptStore)
class OneStep(MemoryStore):
    """Takes small bodies in one step, and says which."""

    def __init__(self):
        super().__init__()
        self.taken = []

    def peek(self, id):
        return None

    async def put(self, id, metadata, body):
        self.taken.append(len(body))
        return await transfer(body, self.writer(id, metadata, len(body)))


def test_only_a_small_body_of_known_length_is_stored_in_one_step():
    """A larger one would hold up the reactor; so would a chunked one, which may be larger."""
    store = OneStep()
    talk = Conversation(handler(BlobServer(store).app))
    sizes = [0, 1, SMALL_BODY, SMALL_BODY + 1]
    for size in sizes:
        answer = talk.ask("PUT", f"/blob/n{size}", body_of(size))
        assert (answer.status, store.blobs[f"n{size}"].body) == (200, body_of(size))
    assert store.taken == sizes[:3]
    for size in sizes:
        chunks = b"%x\r\n%s\r\n" % (size, body_of(size)) if size else b""
        head = request("PUT", f"/blob/c{size}", None, b"Transfer-Encoding: chunked")
        (answer,) = talk.answers(head + chunks + b"0\r\n\r\n")
        assert (answer.status, store.blobs[f"c{size}"].body) == (200, body_of(size))
    assert store.taken == sizes[:3]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_blob_is_stored_and_read(ask, method):
    """The answer of the original, and the bytes back."""
    body = b"some bytes"
    answer = ask(method, f"/blob/{content_id(body)}", body)
    assert answer.status == 200
    assert answer.body == b'{"id":"%s","size":10,"status":"OK"}' % content_id(body).encode()
    answer = ask("GET", f"/blob/{content_id(body)}")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers[b"content-type"] == b"application/octet-stream"


def test_a_large_blob_is_sent_in_pieces(ask):
    """With its length, in order."""
    body = body_of(300_000)
    ask("POST", "/blob/large", body)
    answer = ask("GET", "/blob/large")
    assert answer.headers[b"content-length"] == b"300000"
    assert answer.body == body


def test_metadata_comes_back_as_headers(ask):
    """X-* are kept with the blob, and X-Mime-Type is its Content-Type."""
    ask("POST", "/blob/a", b"<p>", b"X-Mime-Type: text/html", b"X-Name: n \t", b"X-Real-IP: 1")
    answer = ask("GET", "/blob/a")
    assert answer.headers[b"x-mime-type"] == b"text/html"
    assert answer.headers[b"content-type"] == b"text/html"
    assert answer.headers[b"x-name"] == b"n"
    assert b"x-real-ip" not in answer.headers


SANDBOX = b"sandbox; default-src 'none'"
#: Types, and what the policy of a stored object has to say for a browser to show it.
SHOWN = {
    "video/webm": b"media-src 'self'",
    'Video/MP4 ; codecs="avc1.4d401e, mp4a.40.2"': b"media-src 'self'",
    "audio/mpeg": b"media-src 'self'",
    "IMAGE/PNG": b"style-src 'unsafe-inline'",
    "image/svg+xml;charset=utf-8": b"sandbox; default-src 'none'; img-src data:",
    "application/pdf": b"object-src 'self'",
    "text/plain; charset=utf-8": SANDBOX,
}
#: What can run script, is no media type, or begins or ends like something that is inert.
NOT_SHOWN = [
    "text/html",
    "application/xhtml+xml",
    "text/xml",
    "application/xml",
    "text/javascript",
    "multipart/x-mixed-replace; boundary=x",
    "application/octet-stream",
    "video/x-unheard-of",
    "image/png+xml",
    "ximage/png",
    "text/html; x=image/png",
    'text/html; x="image/png"',
    "image/png, text/html",
    "image/png text/html",
    "nonsense",
]


@pytest.mark.parametrize("type", [*SHOWN, *NOT_SHOWN])
@pytest.mark.parametrize("part", [(), (b"Range: bytes=0-1",)], ids=["whole", "part"])
def test_a_browser_may_do_with_an_object_what_its_type_needs(ask, type, part):
    """It is not sniffed, loads nothing from elsewhere, and is in a sandbox if it is not inert."""
    ask("POST", "/blob/a", b"<script>", f"X-Mime-Type: {type}".encode())
    answer = ask("GET", "/blob/a", None, *part)
    policy = answer.headers[b"content-security-policy"]
    assert answer.headers[b"x-content-type-options"] == b"nosniff"
    assert b"default-src 'none'" in policy
    assert b"script-src" not in policy
    if type in SHOWN:
        assert SHOWN[type] in policy
    else:
        assert policy == SANDBOX


def test_what_has_no_type_is_in_a_sandbox(ask):
    """A browser may guess what it is."""
    ask("POST", "/blob/a", b"<script>")
    assert ask("GET", "/blob/a").headers[b"content-security-policy"] == SANDBOX


def test_a_stored_body_is_not_interpreted(ask, store):
    """Whatever its type and coding are said to be."""
    form = b"a=b&c=d"
    for type in (b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x"):
        ask("POST", "/blob/form", form, b"Content-Type: " + type, b"Content-Encoding: gzip")
        assert ask("GET", "/blob/form").body == form


def test_head_tells_of_a_blob_without_its_body(ask):
    """The headers are those of a GET."""
    ask("POST", "/blob/a", b"abc", b"X-Name: n")
    data = ask.__self__.send(request("HEAD", "/blob/a"))
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 3\r\n" in data
    assert b"\r\nX-Name: n\r\n" in data
    assert data.endswith(b"\r\n\r\n")
    data = ask.__self__.send(request("HEAD", "/blob/b"))
    assert data.startswith(b"HTTP/1.1 404 ")
    assert data.endswith(b"\r\n\r\n")


BODY = body_of(100_000)


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        (b"bytes=0-0", 0, 1),
        (b"bytes=10-19", 10, 20),
        (b"bytes=900-", 900, None),
        (b"bytes=-5", -5, None),
        (b"bytes=-999999", 0, None),
        (b"bytes=10-999999", 10, None),
        (b"BYTES=1-2", 1, 3),
    ],
)
def test_a_part_of_a_blob(ask, size, asked, start, stop):
    """206 with just that part, and where it lies."""
    body = BODY[:size]
    ask("POST", "/blob/a", body, b"X-Mime-Type: video/mp4")
    answer = ask("GET", "/blob/a", None, b"Range: " + asked)
    first, behind, _ = slice(start, stop).indices(size)
    assert (answer.status, answer.body) == (206, body[start:stop])
    assert answer.headers[b"content-range"] == b"bytes %d-%d/%d" % (first, behind - 1, size)
    assert answer.headers[b"content-type"] == b"video/mp4"
    assert answer.headers[b"accept-ranges"] == b"bytes"


@pytest.mark.parametrize(
    "asked",
    [b"bytes=5-2", b"bytes=a-b", b"lines=0-1", b"bytes=0-1,5-6", b"bytes", b"bytes=", b"bytes=-"],
)
def test_a_range_that_is_not_served_is_passed_over(ask, asked):
    """RFC 9110, 14.2: the whole is a good answer."""
    ask("POST", "/blob/a", b"0123456789")
    answer = ask("GET", "/blob/a", None, b"Range: " + asked)
    assert (answer.status, answer.body) == (200, b"0123456789")


@pytest.mark.parametrize("asked", [b"bytes=10-", b"bytes=10-20", b"bytes=99-100"])
def test_a_range_outside_the_blob(ask, asked):
    """416, with the size that it has."""
    ask("POST", "/blob/a", b"0123456789")
    answer = ask("GET", "/blob/a", None, b"Range: " + asked)
    assert answer.status == 416
    assert answer.headers[b"content-range"] == b"bytes */10"
    assert ask("GET", "/blob/none", None, b"Range: " + asked).status == 404


def test_a_range_if_it_is_still_that_blob(ask):
    """If-Range takes the ETag, and nothing weaker."""
    ask("POST", "/blob/a", b"0123456789")
    for condition, status in ((b'"a"', 206), (b'"b"', 200), (b'W/"a"', 200), (b"yesterday", 200)):
        headers = b"Range: bytes=1-2", b"If-Range: " + condition
        assert ask("GET", "/blob/a", None, *headers).status == status


@pytest.mark.parametrize("known", [b'"a"', b'W/"a"', b'"x", "a"', b"*"])
def test_a_blob_that_is_known_is_not_sent_again(ask, known):
    """304, with its validator, for GET and for HEAD."""
    ask("POST", "/blob/a", b"0123456789")
    answer = ask("GET", "/blob/a", None, b"If-None-Match: " + known, b"Range: bytes=0-1")
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers[b"etag"] == b'"a"'
    assert b"immutable" in answer.headers[b"cache-control"]
    assert ask("HEAD", "/blob/a", None, b"If-None-Match: " + known).status == 304
    assert ask("GET", "/blob/a", None, b'If-None-Match: "b"').status == 200
    assert ask("GET", "/blob/b", None, b"If-None-Match: *").status == 404


@pytest.mark.parametrize("path", ["/blobs", "/blob"])
def test_the_listing_is_a_json_array(ask, path):
    """Of nothing, and of something."""
    assert ask("GET", path).body == b"[]"
    for n in range(3):
        ask("POST", f"/blob/name{n}", b"")
    answer = ask("GET", path)
    assert answer.headers[b"content-type"] == b"application/json"
    assert sorted(answer.json) == ["name0", "name1", "name2"]


def test_a_long_listing_is_put_together_from_pages(ask, store):
    """Whole, and each id once."""
    ask("POST", "/blob/a", b"")
    wanted = {f"n{n}" for n in range(2 * MAX_PAGE + 5)}
    store.blobs = dict.fromkeys(wanted, store.blobs["a"])
    listed = ask("GET", "/blobs").json
    assert len(listed) == len(wanted)
    assert set(listed) == wanted


def test_a_page_of_the_listing(ask):
    """From behind an id, so many."""
    for n in range(10):
        ask("POST", f"/blob/{n}", b"")
    whole = ask("GET", "/blobs").json
    assert ask("GET", f"/blobs?after={whole[3]}&limit=2").json == whole[4:6]
    for query in (
        "partition=AB",
        "partition=abcd",
        "limit=0",
        "limit=10001",
        "limit=x",
        "limit=" + "1" * 5000,
        "limit=+1",
        "limit=1&limit=1",
        "after=A",
    ):
        assert ask("GET", f"/blobs?{query}").status == 400


def test_a_page_tells_where_the_next_one_is(ask):
    """In a Link header (RFC 8288), as long as there may be one."""
    for n in range(5):
        ask("POST", f"/blob/{n}", b"")
    path, listed = "/blobs?limit=2", []
    while path:
        answer = ask("GET", path)
        listed += answer.json
        link = answer.headers.get(b"link", b"").decode()
        path = link.partition("<")[2].partition(">")[0]
        assert not link or link.endswith('; rel="next"')
    assert listed == ask("GET", "/blobs").json


def test_digests(ask):
    """By partition: count, bytes, and the sum as 32 hex digits."""
    assert ask("GET", "/digests").json == {}
    ask("POST", "/blob/" + content_id(b"abc"), b"abc")
    ((name, (count, size, sum)),) = ask("GET", "/digests").json.items()
    assert (name, count, size, len(sum)) == (content_id(b"abc")[:3], 1, 3, 32)


def test_digests_are_told_again_when_something_has_changed(ask):
    """Who has them already is told so, by 304, until then."""
    ask("POST", "/blob/a", b"abc")
    first = ask("GET", "/digests")
    known = b"If-None-Match: " + first.headers[b"etag"]
    again = ask("GET", "/digests", None, known)
    assert (again.status, again.body) == (304, b"")
    ask("POST", "/blob/b", b"abc")
    changed = ask("GET", "/digests", None, known)
    assert (changed.status, changed.headers[b"etag"] != first.headers[b"etag"]) == (200, True)
    assert len(changed.json) == 2


def test_status(ask):
    """How the store is doing."""
    ask("POST", "/blob/a", b"abc")
    found = ask("GET", "/status").json
    assert (found["writable"], found["blobs"], found["size"]) == (True, 1, 3)


@pytest.mark.parametrize(
    "path",
    [
        "/blob/ABC",
        "/blob/a%0a",
        "/blob/a%00",
        "/blob/..",
        "/blob/a%20b",
        "/blob/a-b",
        "/blob/%ff",
        "/blob/" + "a" * 129,
        "/blob/%EF%BC%91",
        "/blob/a.b",
    ],
)
def test_an_id_that_is_none(ask, store, path):
    """400, in JSON, and nothing is stored."""
    for method, body in (("POST", b"x"), ("PUT", b"x"), ("GET", None)):
        answer = ask(method, path, body)
        assert answer.status == 400
        assert answer.json["status"] == 400
    assert store.blobs == {}


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/blob/", "/blob/a%2fb", "/blob//a", "/blob/a/b", "/blobs/"]
)
def test_a_path_that_is_none(ask, path):
    """404, in JSON, without a redirect."""
    answer = ask("GET", path)
    assert answer.status == 404
    assert "error" in answer.json


def test_a_method_that_is_none(ask):
    """405, and the ones that are."""
    answer = ask("TRACE", "/blob/abc")
    assert answer.status == 405
    allowed = {b"DELETE", b"GET", b"HEAD", b"PATCH", b"POST", b"PUT"}
    assert set(answer.headers[b"allow"].split(b", ")) == allowed


def test_the_blobs_of_a_partition_are_told(ask, store):
    """By id, the size and the version of each."""
    body = body_of(100)
    id = content_id(body)
    ask("POST", f"/blob/{id}", body, b"X-A: 1")
    rows = ask("GET", f"/digests/{partition(id)}").json
    assert rows == {id: [100, version({"X-A": "1"})]}
    assert ask("GET", "/digests/nil").status == 400


def test_a_large_partition_is_told_a_bit_at_a_time():
    """It waits for the client to take what was written; none of it is written twice."""

    class Crowded(MemoryStore):
        async def blob_digests(self, partition):
            return {f"{partition}{n}": BlobDigest(n, "0" * 65, "a" * (n % 2)) for n in range(5000)}

    talk = Conversation(handler(BlobServer(Crowded()).app))
    talk.transport.room = 1000
    talk.send(request("GET", "/digests/abc"))
    written = [len(talk.transport.value())]
    while talk.transport.waiting:
        talk.transport.take()
        written.append(len(talk.transport.value()))
    assert max(after - before for before, after in pairwise([0, *written])) < 200_000
    (answer,) = parse_answers(talk.transport.value())
    assert answer.json == {
        f"abc{n}": [n, "0" * 65, "a"] if n % 2 else [n, "0" * 65] for n in range(5000)
    }
    assert asker(Crowded())("GET", "/digests/abc").headers[b"content-type"] == b"application/json"


def test_a_partition_of_which_nothing_is_held(ask):
    """It is an object all the same."""
    assert ask("GET", "/digests/abc").json == {}


def test_a_page_is_bounded_in_bytes(store):
    """By the longest ids that there are, and the most of them."""

    class Long(MemoryStore):
        async def listing(self, after=None, limit=None, partition=None):
            return [f"{n:0128}" for n in range(limit)]

    page = asker(Long())("GET", f"/blobs?limit={MAX_PAGE}").body
    assert len(page) < 1_400_000
    assert asker(Long())("GET", f"/blobs?limit={MAX_PAGE + 1}").status == 400


@pytest.mark.parametrize(
    "value",
    [
        b"text/plain",
        b"image/svg+xml",
        b"text/html;charset=utf-8",
        b'text/html ; charset="a \\" b";',
        b'multipart/form-data; boundary="; x"; q=1',
    ],
)
def test_a_media_type_is_the_content_type(ask, value):
    """RFC 9110, 8.3.1."""
    ask("POST", "/blob/a", b"x", b"X-Mime-Type: " + value)
    assert ask("GET", "/blob/a").headers[b"content-type"] == value


@pytest.mark.parametrize(
    "value",
    [b"", b"text", b"/", b"text/", b"a>", b"a/b c", b"a/b; c", b"a/b; c=", b'a/b;c="', b"\xff/b"],
)
def test_what_is_no_media_type_is_no_content_type(ask, value):
    """It is told as it was stored."""
    ask("POST", "/blob/a", b"x", b"X-Mime-Type: " + value)
    answer = ask("GET", "/blob/a")
    assert answer.headers[b"content-type"] == b"application/octet-stream"
    assert answer.headers[b"x-mime-type"] == value


def test_an_object_is_deleted_by_its_tombstone(ask, store):
    """A read is answered 410, with the time; a later upload counts, and an earlier one does not."""
    now = ticks(time.time())
    id = content_id(b"x")
    old, stone = b"X-Sos-Set-At: %d" % (now - 5), b"X-Sos-Deleted-At: %d" % now
    assert ask("POST", f"/blob/{id}", b"x", old).status == 200
    assert ask("PATCH", f"/blob/{id}", b"", stone).status == 200
    for method in ("GET", "HEAD"):
        answer = ask(method, f"/blob/{id}")
        assert answer.status == 410
        assert answer.headers[b"cache-control"] == b"no-store"
        assert answer.headers[b"x-sos-metadata"] == b'{"X-Sos-Deleted-At":"%d"}' % now
    assert ask("GET", "/blobs").json == []
    assert ask("POST", f"/blob/{id}", b"x", old).status == 410
    assert ask("POST", f"/blob/{id}", b"x", b"X-Sos-Set-At: %d" % (now + 5)).status == 200
    assert ask("GET", f"/blob/{id}").body == b"x"
    for status, change in [(200, 60), (400, 600)]:
        later = b"X-Sos-Deleted-At: %d" % (now + ticks(change))
        answer = ask("PATCH", f"/blob/{id}", b"", later)
        assert answer.status == status
        assert status == 200 or "compare the clocks" in answer.json["error"]
    assert ask("POST", "/blob/name", b"x", stone).status == 400
    assert "name" not in store.blobs


def test_metadata_is_settled(ask, store):
    """By those of the headers that were set first; who does not say when does not count."""
    ask("POST", "/blob/a", b"", b"X-A: 1", b"X-Sos-Set-At: 500")
    for headers in ([b"X-A: 2", b"X-Sos-Set-At: 501"], [b"X-A: 3"], []):
        answer = ask("PATCH", "/blob/a", b"", *headers)
        assert (answer.status, answer.json) == (200, {"id": "a", "status": "OK"})
        kept = store.blobs["a"].info.metadata
        assert (kept["X-A"], kept["X-Sos-Set-At"]) == ("1", "500")
    ask("PATCH", "/blob/a", b"", b"X-A: 2", b"X-Sos-Set-At: 499")
    kept = store.blobs["a"].info.metadata
    assert (kept["X-A"], kept["X-Sos-Set-At"]) == ("2", "499")
    for wrong in (b"-1", b"1.5", b"soon", b"1" * 16, b"", "\u0661".encode()):
        assert ask("PATCH", "/blob/a", b"", b"X-A: 0", b"X-Sos-Set-At: " + wrong).status == 400
    assert ask("PATCH", "/blob/b", b"").status == 404
    assert ask("PATCH", "/blob/a", b"", b"X-Sos-Manifest: 1").status == 409
    assert ask("PATCH", "/blob/a", b"", b"X-A: " + b"a" * 5000).status == 400


def test_it_is_noted_when_metadata_was_set(ask, store):
    """Unless the server that sends it says when; of none there is nothing to note."""
    before = ticks(time.time())
    ask("POST", "/blob/a", b"", b"X-A: 1")
    ask("POST", "/blob/b", b"", b"X-A: 1", b"X-Sos-Set-At: 7")
    ask("POST", "/blob/c", b"")
    noted = int(store.blobs["a"].info.metadata["X-Sos-Set-At"])
    assert before <= noted <= ticks(time.time())
    assert store.blobs["b"].info.metadata == {"X-A": "1", "X-Sos-Set-At": "7"}
    assert store.blobs["c"].info.metadata == {}
    assert ask("GET", "/blob/b").headers[b"x-sos-set-at"] == b"7"


def test_digests_tell_times_to_who_asks_for_them(ask):
    """Older servers take no more than they know; of no metadata there is none to tell."""
    ask("POST", "/blob/a", b"", b"X-A: 1", b"X-Sos-Set-At: 7")
    id = content_id(b"x")
    ask("POST", f"/blob/{id}", b"x")
    (row,) = ask("GET", f"/digests/{partition('a')}").json.values()
    assert len(row) == 3
    (timed,) = ask("GET", f"/digests/{partition('a')}?times=yes").json.values()
    assert timed == [*row, 7]
    (row,) = ask("GET", f"/digests/{id[:3]}").json.values()
    assert len(row) == 2
    (timed,) = ask("GET", f"/digests/{id[:3]}?times=yes").json.values()
    assert timed == row


def test_a_copy_is_dropped_for_who_has_the_lease(ask, store):
    """400 for who shows none, 409 for one that is not valid."""
    ask("POST", "/blob/a", b"abc")
    token = ask("POST", "/lease?seconds=60").json["lease"]
    assert ask("POST", "/lease?seconds=60").status == 409
    assert ask("DELETE", "/blob/a").status == 400
    assert ask("DELETE", "/blob/a", None, b"X-Sos-Lease: other").status == 409
    assert "a" in store.blobs
    assert ask("DELETE", "/blob/a", None, b"X-Sos-Lease: " + token.encode()).status == 200
    assert store.blobs == {}
    assert ask("DELETE", f"/lease/{token}").status == 200
    assert ask("POST", "/lease?seconds=300").json["seconds"] == 300


@pytest.mark.parametrize("query", ["", "?seconds=", "?seconds=0", "?seconds=301", "?seconds=-1"])
def test_a_lease_for_a_time_that_is_none(ask, query):
    """400, and nobody has it."""
    assert ask("POST", f"/lease{query}").status == 400
    assert ask("POST", "/lease?seconds=1").status == 200


def test_a_body_that_does_not_hash_to_its_id(ask, store):
    """422, and nothing is stored."""
    assert ask("POST", f"/blob/{content_id(b'a')}", b"b").status == 422
    assert store.blobs == {}


def test_other_bytes_under_an_opaque_name(ask):
    """409, and the first stay."""
    ask("POST", "/blob/name", b"first")
    assert ask("POST", "/blob/name", b"second").status == 409
    assert ask("GET", "/blob/name").body == b"first"


def test_a_body_that_ends_early(ask, store):
    """Nothing is stored."""
    ask.__self__.send(
        request("POST", "/blob/name", b"").replace(b"Length: 0", b"Length: 9") + b"part"
    )
    ask.__self__.transport.drop()
    assert store.blobs == {}


def test_a_body_over_the_limit(store):
    """413, by its length before any of it is read, by its bytes when it is chunked."""
    ask = asker(store, max_size=10)
    assert ask("POST", "/blob/fits", b"0123456789").status == 200
    assert ask("POST", "/blob/large", b"0123456789a").status == 413
    head = b"POST /blob/chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    (answer,) = ask.__self__.answers(head + b"6\r\n012345\r\n6\r\n012345\r\n")
    assert answer.status == 413
    assert list(store.blobs) == ["fits"]


def test_too_much_metadata(ask, store):
    """400, and nothing is stored."""
    assert ask("POST", "/blob/a", b"", *(b"X-%d: y" % n for n in range(91))).status == 400
    assert ask("POST", "/blob/a", b"", b"X-Long: " + b"y" * 4096).status == 400
    assert store.blobs == {}


@pytest.mark.parametrize(
    ("error", "status"),
    [(NoSpace("full"), 507), (ReadOnly("since"), 503), (Unavailable("down"), 503)],
)
def test_a_store_in_trouble(error, status):
    """Its errors have statuses; with 503 goes when to try again."""
    ask = asker(FailingStore(error=error))
    for method, body in (("POST", b"x"), ("GET", None)):
        answer = ask(method, "/blob/abc", body)
        assert answer.status == status
        assert answer.json == {"error": str(error), "status": status}
        assert (b"retry-after" in answer.headers) == (status == 503)


def test_a_mistake_of_ours_is_500_without_its_text(store):
    """The log has the traceback, the client a sentence."""
    ask = asker(FailingStore(error=ZeroDivisionError("secret")))
    answer = ask("GET", "/blob/abc")
    assert answer.status == 500
    assert b"secret" not in answer.body


def test_a_body_that_breaks_off_is_never_whole():
    """The connection is broken, so that the client notices."""
    store = BrokenBodyStore()
    ask = asker(store)
    ask("POST", "/blob/large", body_of(100_000))
    data = ask.__self__.send(request("GET", "/blob/large"))
    assert data.startswith(b"HTTP/1.1 200")
    assert len(data) < 1000
    assert ask.__self__.transport.aborted


@given(st.text(min_size=1, max_size=140))
def test_any_name_is_stored_under_itself_or_refused(name):
    """Whatever stands in the path, there is no 500 and no other name."""
    store = MemoryStore()
    answer = asker(store)("POST", f"/blob/{quote(name, safe='')}", b"x")
    assert answer.status in (200, 400, 404, 422)
    assert list(store.blobs) == ([name] if answer.status == 200 else [])
    assert json.loads(answer.body)


class TestWhatABrowserIsTold:
    def get(self, ask, *headers):
        return ask("GET", "/blob/abc", b"", *headers)

    @pytest.mark.parametrize(
        ("name", "disposition"),
        [
            ("holiday.jpg", b"inline; filename=holiday.jpg"),
            ("my holiday.jpg", b'inline; filename="my holiday.jpg"'),
            ('a"b.txt', b'inline; filename="a\\"b.txt"'),
            ("../../etc/passwd", b"inline; filename=passwd"),
            ("C:\\Temp\\x.txt", b"inline; filename=x.txt"),
        ],
    )
    def test_the_name_of_the_file(self, ask, name, disposition):
        """To save it under, in no directory but the reader's own."""
        ask("POST", "/blob/abc", b"x", f"X-Orig-Filename: {name}".encode())
        assert self.get(ask).headers[b"content-disposition"] == disposition

    def test_a_name_that_is_not_ascii(self, ask):
        """RFC 6266, 4.3: in UTF-8, percent-encoded."""
        ask("POST", "/blob/abc", b"x", "X-Orig-Filename: r\u00e9sum\u00e9.pdf".encode())
        disposition = self.get(ask).headers[b"content-disposition"]
        assert b"filename*=UTF-8''r%C3%A9sum%C3%A9.pdf" in disposition

    @pytest.mark.parametrize(
        ("lines", "disposition"),
        [
            # As requests, fetch and Java send it.
            ([b"X-Orig-Filename: r\xe9sum\xe9.pdf"], b"r%C3%A9sum%C3%A9.pdf"),
            ([b"X-Orig-Filename: \xc3\xa9 and \xe9"], b"%C3%83%C2%A9%20and%20%C3%A9"),
            (
                [b"X-Orig-Filename*: UTF-8''na%C3%AFve%20%e2%82%ac.txt"],
                b"na%C3%AFve%20%E2%82%AC.txt",
            ),
            ([b"x-orig-filename*: utf-8'de'%C3%A4"], b"%C3%A4"),
            ([b"X-Orig-Filename*: iso-8859-1''%E4"], b"%C3%A4"),
            ([b"X-Orig-Filename: UTF-8''%C3%A4.txt"], b"%C3%A4.txt"),
            ([b"X-Orig-Filename: a", b"X-Orig-Filename*: UTF-8''%C3%A4"], b"%C3%A4"),
            ([b"X-Orig-Filename*: UTF-8''%2Fetc%2F%C3%A4%5C%C3%B6"], b"%C3%B6"),
            ([b"X-Orig-Filename*: UTF-8''%C3%A4%0D%0AX:%20y"], None),
            ([b"X-Orig-Filename*: UTF-8''%C3%A4%0D%0A%00%C2%85y"], b"%C3%A4____y"),
        ],
    )
    def test_a_name_in_the_encodings_of_clients(self, ask, lines, disposition):
        """Latin-1 where it is no UTF-8, and the extended form of RFC 8187."""
        ask("POST", "/blob/abc", b"x", *lines)
        headers = self.get(ask).headers
        if disposition is None:
            assert b"content-disposition" not in headers
        else:
            value = headers[b"content-disposition"]
            assert value.endswith(b"filename*=UTF-8''" + disposition), value
            assert b'filename=""' not in value

    @pytest.mark.parametrize(
        ("lines", "disposition"),
        [
            ([b"X-Orig-Filename: photos/"], b"inline; filename=photos"),
            ([b"X-Orig-Filename: a/b//\\"], b"inline; filename=b"),
            ([b"X-Orig-Filename: /"], None),
            ([b"X-Orig-Filename:"], None),
            ([b"X-Orig-Filename: a/.."], None),
            ([b"X-Orig-Filename: ./"], None),
            ([b"X-Orig-Filename*: UTF-8''"], None),
            ([b"X-Orig-Filename*: UTF-8''%2F%20%2f"], None),
            # What is not of that form says nothing; the plain name does.
            ([b"X-Orig-Filename*: UTF-8''%ff", b"X-Orig-Filename: a"], b"inline; filename=a"),
            ([b"X-Orig-Filename*: KOI8-R''%C1", b"X-Orig-Filename: a"], b"inline; filename=a"),
            ([b"X-Orig-Filename*: %41", b"X-Orig-Filename: a"], b"inline; filename=a"),
            ([b"X-Orig-Filename: 100%25.txt"], b"inline; filename=100%25.txt"),
        ],
    )
    def test_there_is_no_empty_name(self, ask, lines, disposition):
        """The last part of it that names a file, or none at all."""
        ask("POST", "/blob/abc", b"x", *lines)
        assert self.get(ask).headers.get(b"content-disposition") == disposition

    def test_a_name_comes_back_in_the_bytes_that_it_was_sent_in(self, ask):
        """Whatever is made of it for browsers."""
        ask("POST", "/blob/abc", b"x", b"X-Orig-Filename: \xe9")
        assert self.get(ask).headers[b"x-orig-filename"] == b"\xe9"

    def test_when_it_was_stored(self, ask):
        """And nothing again if that is what the client has."""
        ask("POST", "/blob/abc", b"x")
        stored = self.get(ask).headers[b"last-modified"]
        assert self.get(ask, b"If-Modified-Since: " + stored).status == 304
        assert self.get(ask, b"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT").status == 200
        assert self.get(ask, b"If-Modified-Since: yesterday").status == 200

    def test_the_tag_counts_more_than_the_time(self, ask):
        """RFC 9110, 13.1.3."""
        ask("POST", "/blob/abc", b"x")
        stored = b"If-Modified-Since: " + self.get(ask).headers[b"last-modified"]
        assert self.get(ask, stored, b'If-None-Match: "other"').status == 200


def test_a_manifest_is_kept_as_one(ask, store):
    """Servers ask for it by its mark, which a GET and a HEAD show."""
    id, text, metadata = manifest_of(body_of(5000), 1000)
    mark = b"X-Sos-Manifest: 5000"
    assert ask("POST", f"/blob/{id}", text, mark, b"X-Name: n", b"X-Sos-Other: 1").status == 200
    assert shown(store.blobs[id].info.metadata) == metadata
    answer = ask("GET", f"/blob/{id}")
    assert (answer.body, answer.headers[b"x-sos-manifest"]) == (text, b"5000")
    assert b"x-sos-other" not in answer.headers
    assert mark + b"\r\n" in ask.__self__.send(request("HEAD", f"/blob/{id}"))


@pytest.mark.parametrize(
    ("id", "mark"),
    [
        (content_id(body_of(5000)), b"X-Sos-Manifest: 5001"),
        (content_id(body_of(5000)), b"X-Sos-Manifest:"),
        (content_id(body_of(5000)), b"X-Sos-Manifest: 5000\r\nX-Sos-Manifest: 5000"),
        (content_id(body_of(5000)), b"X-Name: n"),
        (content_id(b"another"), b"X-Sos-Manifest: 5000"),
        ("name", b"X-Sos-Manifest: 5000"),
    ],
)
def test_what_is_no_manifest_of_its_object_is_refused(ask, store, id, mark):
    """422, and nothing is stored."""
    _, text, _ = manifest_of(body_of(5000), 1000)
    assert ask("POST", f"/blob/{id}", text, mark).status == 422
    assert store.blobs == {}
