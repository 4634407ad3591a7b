"""What the headers of an upload say of the object."""

from __future__ import annotations

import gzip

import pytest
from twisted.internet.defer import ensureDeferred

from sos.errors import InvalidMetadata, UnsupportedCoding
from sos.model.metadata import MAX_BYTES
from sos.model.settings import header_patterns
from sos.stores.memory import MemoryStore
from sos.web.client_headers import KeptHeaders, UploadMetadata
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation

BODY = b"abc"
FETCH = f"/fetch/{content_id(BODY)}"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def upload(store):
    return Conversation(handler(UploadServer(store).app))


@pytest.fixture
def download(store):
    return Conversation(handler(DownloadServer(store).app))


def read(*headers, patterns=None):
    return KeptHeaders(patterns).read(headers)


def test_what_is_not_kept_is_named_once_in_its_canonical_spelling():
    """Other headers than X-* are no matter."""
    assert read(
        (b"x-name", b"n"),
        (b"x-csrfTOKEN", b"1"),
        (b"X-CSRFToken", b"2"),
        (b"X-Sos_Set_At", b"1"),
        (b"Authorization", b"secret"),
    ) == UploadMetadata({"X-Name": "n"}, ("X-Csrftoken", "X-Sos_set_at"))


def test_the_answer_names_what_is_not_kept(upload, download):
    """And only then; what is kept comes back."""
    answer = upload.ask("POST", "/upload", BODY, X_Xsrf_Token="t", X_Name="n", X_Real_IP="::1")
    assert answer.json["ignored"] == ["X-Xsrf-Token", "X-Real-Ip"]
    assert "ignored" not in upload.ask("POST", "/upload", b"other", X_Name="n").json
    headers = download.ask("GET", FETCH).headers
    assert headers[b"x-name"] == b"n"
    assert not {b"x-xsrf-token", b"x-real-ip"} & headers.keys()


async def _stored(store, metadata):
    writer = store.writer(content_id(BODY), metadata)
    await writer.write(BODY)
    await writer.commit()


def test_what_was_stored_before_comes_back_as_before(store, download):
    """Under names that are not kept any more; but for those that were never served."""
    before = {"X-Csrftoken": "t", "X-Served-By": "p", "X-Envoy-Overloaded": "true"}
    done = []
    ensureDeferred(_stored(store, before)).addCallback(done.append)
    assert done
    headers = download.ask("GET", FETCH).headers
    assert (headers[b"x-csrftoken"], headers[b"x-served-by"]) == (b"t", b"p")
    assert b"x-envoy-overloaded" not in headers


def test_a_list_of_what_is_kept():
    """Then it is those names alone, whatever is in them; and never what servers cannot tell."""
    patterns = header_patterns("x-meta-*, X-Orig-Filename,X-Mime-Type, X-Shop-Token, X-A*")
    headers = [
        (b"X-Meta-A", b"1"),
        (b"x-orig-filename", b"f"),
        (b"X-Orig-Filename*", b"UTF-8''f"),
        (b"X-Shop-Token", b"t"),
        (b"X-Name", b"n"),
        (b"X-Metal", b"m"),
        (b"X-Api-Key", b"k"),
        (b"X-Accel_Redirect", b"/"),
    ]
    found = read(*headers, patterns=patterns)
    assert list(found.metadata) == [
        "X-Meta-A",
        "X-Orig-Filename",
        "X-Orig-Filename*",
        "X-Shop-Token",
    ]
    assert found.ignored == ("X-Name", "X-Metal", "X-Api-Key", "X-Accel_redirect")


@pytest.mark.parametrize("text", ["", "Name", "X-", "X-A,", "X-*-A", "X-A B", "X-A\u00e9", "X-A**"])
def test_a_pattern_that_is_none(text):
    """It is an error where it is configured."""
    with pytest.raises(ValueError, match="is not an X-"):
        header_patterns(text)


@pytest.mark.parametrize("text", ["X-Api-Key", "x-sos-*", "X-Accel-Redirect", "X-Envoy-*"])
def test_a_pattern_of_what_is_never_kept(text):
    """Servers do not tell each other these."""
    with pytest.raises(ValueError, match="servers do not store"):
        header_patterns(text)


def test_there_is_a_limit():
    """90 headers, 4 KiB of them; a type is left out where it would be too much."""
    with pytest.raises(InvalidMetadata, match="at most 90"):
        read(*((b"X-%d" % n, b"") for n in range(91)))
    full = (b"X-A", b"v" * (MAX_BYTES - 3))
    assert read(full, (b"Content-Type", b"image/png")).metadata.keys() == {"X-A"}
    with pytest.raises(InvalidMetadata, match="at most 4096"):
        read(full, (b"X-B", b""))


@pytest.mark.parametrize(
    ("lines", "type"),
    [
        ([b"Content-Type: image/png"], b"image/png"),
        ([b"CONTENT-TYPE: text/plain;charset=UTF-8"], b"text/plain;charset=UTF-8"),
        ([b"Content-Type: image/png", b"X-Mime-Type: image/webp"], b"image/webp"),
        ([b"Content-Type: multipart/form-data; boundary=x"], b"multipart/form-data; boundary=x"),
        ([b"Content-Type: application/x-www-form-urlencoded"], None),
        ([b"Content-Type: Application/X-WWW-Form-urlencoded; charset=UTF-8"], None),
        ([b"Content-Type: application/octet-stream"], None),
        ([b"Content-Type: binary/octet-stream"], None),
        ([b"Content-Type: */*"], None),
        ([b"Content-Type: image/*"], None),
        ([b"Content-Type: png"], None),
        ([b"Content-Type: a/b, c/d"], None),
        ([b"Content-Type: a/" + b"b" * 600], None),
        ([b"Content-Type:"], None),
    ],
)
def test_the_type_of_an_upload_is_kept_where_it_says_anything(upload, download, lines, type):
    """Every client sends some type, and many have one for what they know nothing of."""
    assert upload.ask("POST", "/upload", BODY, *lines).status == 200
    headers = download.ask("GET", FETCH).headers
    assert headers[b"content-type"] == (type or b"application/octet-stream")
    assert headers.get(b"x-mime-type") == type


@pytest.mark.parametrize(
    ("coding", "served"),
    [
        ("gzip", b"gzip"),
        ("GZIP", b"gzip"),
        ("x-gzip", b"gzip"),
        ("br", b"br"),
        ("zstd", b"zstd"),
        ("deflate", b"deflate"),
        ("deflate, , gzip", b"deflate, gzip"),
        ("identity", None),
        ("", None),
    ],
)
def test_a_body_in_a_coding_is_served_in_it(upload, download, coding, served):
    """As it came: nothing is decoded, and its id is the hash of what was sent."""
    assert upload.ask("POST", "/upload", BODY, Content_Encoding=coding).status == 200
    for method in ("GET", "HEAD"):
        answer = download.ask(method, FETCH, None)
        assert answer.headers.get(b"content-encoding") == served
    assert download.ask("GET", FETCH).body == BODY
    assert (
        download.ask("GET", FETCH, None, Range="bytes=1-").headers.get(b"content-encoding")
        == served
    )


@pytest.mark.parametrize(
    "coding", ["compress", "aws-chunked", "gzip, exi", "gzip;q=1", "dcb", "\xe9"]
)
def test_a_body_in_another_coding_is_refused(upload, download, coding):
    """415, with what is understood (RFC 9110, 15.5.16); nothing is stored."""
    answer = upload.ask("POST", "/upload", BODY, Content_Encoding=coding)
    assert answer.status == 415
    assert answer.headers[b"accept-encoding"] == b"gzip, deflate, br, zstd"
    assert "Content-Encoding" in answer.json["error"]
    assert download.ask("GET", FETCH).status == 404


def test_two_codings_in_two_headers_are_both(upload, download):
    """RFC 9110, 5.3."""
    lines = b"Content-Encoding: deflate", b"content-encoding: gzip"
    assert upload.ask("POST", "/upload", BODY, *lines).status == 200
    assert download.ask("GET", FETCH).headers[b"content-encoding"] == b"deflate, gzip"


def test_a_coding_that_a_client_made_up_is_not_served(upload, download):
    """X-Mime-Encoding can be anything, as X-Mime-Type."""
    upload.ask("POST", "/upload", BODY, X_Mime_Encoding="rot13")
    headers = download.ask("GET", FETCH).headers
    assert headers[b"x-mime-encoding"] == b"rot13"
    assert b"content-encoding" not in headers


def test_an_unknown_coding_has_a_name_of_its_own_in_the_error():
    """The part of a form is told the same as an upload."""
    with pytest.raises(UnsupportedCoding, match="'exi'"):
        read((b"Content-Encoding", b"gzip, exi"))
    part = read((b"content-disposition", b"form-data; name=f"), (b"content-type", b"text/css"))
    assert part == UploadMetadata({"X-Mime-Type": "text/css"}, ())


def test_a_gzip_body_is_what_a_client_gets_that_knows_no_coding(upload, download):
    """The bytes of the upload, by which the id can be checked."""
    body = gzip.compress(b"text " * 100, mtime=0)
    id = upload.ask("POST", "/upload", body, Content_Encoding="gzip").json["id"]
    assert id == content_id(body)
    assert download.ask("GET", f"/fetch/{id}", None, Accept_Encoding="identity").body == body
