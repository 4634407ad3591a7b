"""Files in forms, and files that are put under their names, at an API server's upload port."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from sos.errors import NoSpace
from sos.stores.memory import MemoryStore
from sos.web.forms import MOST_PARTS
from sos.web.public_api import UploadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id
from tests.support.conversation import Conversation, request
from tests.support.doubles import FailingStore

BOUNDARY = "------------------------d74496d66958873e"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}".encode()


def part(disposition, body=b"", *lines):
    """Return one part of a form, whose Content-Disposition ends with *disposition*."""
    head = f"Content-Disposition: form-data; {disposition}".encode("utf-8", "surrogateescape")
    return b"\r\n".join([b"--" + BOUNDARY.encode(), head, *lines, b"", body, b""])


def form(*parts):
    return b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"


def file(body=b"abc", name='filename="a.txt"', *lines):
    return part(f'name="file"; {name}', body, *lines)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def upload(store):
    return Conversation(handler(UploadServer(store, max_size=200_000).app))


def metadata_in(store, body=b"abc"):
    """Return what is kept of an object, but for the time."""
    metadata = store.blobs[content_id(body)].info.metadata
    return {name: value for name, value in metadata.items() if not name.startswith("X-Sos-")}


@pytest.mark.parametrize("size", [0, 1, 100_000, 200_000])
def test_the_file_in_a_form_is_stored(upload, store, size):
    """With its name and type, and is told of as any upload; fields beside it are passed over."""
    body = body_of(size)
    sent = form(
        part('name="before"', b"x" * 1000),
        file(body, 'filename="photo.jpg"', b"Content-Type: image/jpeg"),
        part('name="behind"', b"--" + BOUNDARY.encode()[:-1]),
    )
    answer = upload.ask("POST", "/form", sent, FORM)
    id = content_id(body)
    assert answer.json == {"id": id, "size": size, "status": "OK", "copies": 1}
    assert store.blobs.keys() == {id}
    assert store.blobs[id].body == body
    assert metadata_in(store, body) == {"X-Orig-Filename": "photo.jpg", "X-Mime-Type": "image/jpeg"}


@pytest.mark.parametrize("step", [1, 2, 7, 100])
def test_a_form_can_come_in_any_pieces(store, step):
    """Delimiters are found across them, and what is nearly one is content."""
    body = b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n\r\n--\r" + bytes(range(256))
    whole = request("POST", "/form", form(file(body), file(b"2")), FORM)
    upload = Conversation(handler(UploadServer(store).app))
    for start in range(0, len(whole), step):
        upload.send(whole[start : start + step])
    assert store.blobs[content_id(body)].body == body
    assert store.blobs[content_id(b"2")].body == b"2"


def test_several_files_are_told_of_in_a_list(upload, store):
    """In their order, each with its own name; one can come twice."""
    names = ("a", "b", "c")
    bodies = (b"1", b"2", b"1")
    files = [file(body, f'filename="{name}"') for name, body in zip(names, bodies, strict=True)]
    answer = upload.ask("POST", "/form", form(*files), FORM)
    assert [each["id"] for each in answer.json] == [content_id(body) for body in bodies]
    assert metadata_in(store, b"2") == {"X-Orig-Filename": "b"}


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="a b.txt"', "a b.txt"),
        ("filename=a.txt", "a.txt"),
        ('filename="%22quoted%22.txt"', '"quoted".txt'),
        ('filename="\\"quoted\\".txt"', '"quoted".txt'),
        ('filename="100%25.txt"', "100%25.txt"),
        ('filename="f\u00fcr \u65e5\u672c.txt"', "f\u00fcr \u65e5\u672c.txt"),
        ('filename="f\udcfcr.txt"', "f\u00fcr.txt"),
        ("filename*=UTF-8''f%C3%BCr%20%E6%97%A5.txt", "f\u00fcr \u65e5.txt"),
        ("filename=\"fr.txt\"; filename*=utf-8''f%C3%BCr.txt", "f\u00fcr.txt"),
        ('filename="blob"', "blob"),
    ],
)
def test_the_name_of_a_file(upload, store, disposition, name):
    """As browsers, curl, requests, aiohttp and older clients write it: UTF-8, or else Latin-1."""
    assert upload.ask("POST", "/form", form(file(b"abc", disposition)), FORM).status == 200
    assert metadata_in(store) == {"X-Orig-Filename": name}


@pytest.mark.parametrize(
    ("type", "kept"),
    [
        ("image/png", "image/png"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("application/octet-stream", None),
        ("Application/Octet-Stream", None),
        ("nonsense", None),
        ("", None),
    ],
)
def test_the_type_of_a_file(upload, store, type, kept):
    """It is kept where it says something."""
    sent = form(file(b"abc", 'filename="a"', b"Content-Type: " + type.encode()))
    assert upload.ask("POST", "/form", sent, FORM).status == 200
    assert metadata_in(store).get("X-Mime-Type") == kept


def test_headers_of_the_request_go_before_what_the_form_says(upload, store):
    """Whoever sets them has thought of it, where clients guess names and types."""
    sent = form(file(b"abc", 'filename="guessed"', b"Content-Type: image/png"))
    lines = (b"X-Orig-Filename: told", b"X-Mime-Type: image/jpeg", b"X-Album: 7")
    assert upload.ask("POST", "/form", sent, FORM, *lines).status == 200
    assert metadata_in(store) == {
        "X-Orig-Filename": "told",
        "X-Mime-Type": "image/jpeg",
        "X-Album": "7",
    }


def test_a_field_for_a_file_that_was_left_empty_is_no_file(upload, store):
    """A browser sends it without a name and content; with content it is a file without a name."""
    empty = file(b"", 'filename=""', b"Content-Type: application/octet-stream")
    answer = upload.ask("POST", "/form", form(empty, file(), empty), FORM)
    assert answer.json["id"] == content_id(b"abc")
    assert store.blobs.keys() == {content_id(b"abc")}
    assert upload.ask("POST", "/form", form(file(b"x", 'filename=""')), FORM).status == 200
    assert metadata_in(store, b"x") == {}


BROKEN = {
    "no file": form(part('name="a"', b"b"), file(b"", 'filename=""')),
    "no part": form(),
    "nothing": b"",
    "no form": b"abc",
    "another boundary": form(file()).replace(b"d744", b"d745"),
    "no end": form(file())[:-4],
    "no end of the file": file()[:-2],
    "no disposition": form(b"--" + BOUNDARY.encode() + b"\r\nX: y\r\n\r\nabc\r\n"),
    "another disposition": form(file().replace(b"form-data", b"attachment")),
    "a line without a colon": form(file(b"abc", 'filename="a"', b"nonsense")),
    "base64": form(file(b"YWJj", 'filename="a"', b"Content-Transfer-Encoding: base64")),
    "a long header": form(file(b"abc", f'filename="{"a" * 5000}"')),
    "a name of two lines": form(file(b"abc", 'filename="a%0D%0Ab"')),
    "another length": form(file(b"abc", 'filename="a"', b"Content-Length: 4")),
    "too many parts": form(*[part('name="a"')] * (MOST_PARTS + 1)),
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_what_is_no_form_is_refused(upload, store, sent):
    """Nothing of it is stored."""
    assert upload.ask("POST", "/form", sent, FORM).status == 400
    assert not store.blobs


@pytest.mark.parametrize(
    "type",
    [
        None,
        "image/png",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=x",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'x' * 71}",
        "multipart/form-data\xff; boundary=x",
    ],
)
def test_a_body_that_is_not_said_to_be_a_form_is_refused(upload, store, type):
    """The error says what takes it."""
    lines = () if type is None else (b"Content-Type: " + type.encode("latin-1"),)
    assert upload.ask("POST", "/form", form(file()), *lines).status == 400
    assert not store.blobs


def test_a_form_that_breaks_off_is_not_acknowledged(upload, store):
    """However much of it has come; the last file that came is not stored."""
    whole = request("POST", "/form", form(file(b"1"), file(b"2")), FORM)
    for end in range(len(whole) - 1, len(whole) - len(form(file(b"2"))), -7):
        talk = Conversation(handler(UploadServer(store).app))
        assert talk.send(whole[:end]) == b""
        talk.transport.drop()
        assert content_id(b"2") not in store.blobs


def test_a_file_that_is_too_large_is_refused(upload, store):
    """However large the form around it is, and whatever came before."""
    large = form(part('name="a"', bytes(200_001)), file(bytes(200_001)))
    assert upload.ask("POST", "/form", large, FORM).status == 413
    assert upload.ask("POST", "/form", form(file(), file(bytes(200_001))), FORM).status == 413
    assert content_id(bytes(200_001)) not in store.blobs


@pytest.mark.parametrize("when", ["write", "commit"])
def test_a_store_that_fails(when):
    """The answer is the store's error, and no id is told."""
    store = FailingStore(error=NoSpace("full"), when=when)
    upload = Conversation(handler(UploadServer(store).app))
    answer = upload.ask("POST", "/form", form(file(), file()), FORM)
    assert (answer.status, "id" in answer.json) == (507, False)


def test_a_digest_is_that_of_the_form(upload, store):
    """Of the body of the request, as everywhere; what does not match is not stored."""
    sent = form(file())
    for claimed, status in ((sent, 200), (b"abc", 400)):
        store.blobs.clear()
        digest = b64encode(hashlib.sha256(claimed).digest())
        answer = upload.ask("POST", "/form", sent, FORM, b"Content-Digest: sha-256=:%s:" % digest)
        assert (answer.status, len(store.blobs)) == (status, status == 200)


def test_what_waits_of_a_form_is_bounded():
    """A store that is slow holds up the sender; the pieces reach it as they come."""
    written = []

    class Watching(MemoryStore):
        def writer(self, *arguments):
            writer = super().writer(*arguments)
            write = writer.write

            async def watched(piece):
                written.append(len(piece))
                await write(piece)

            writer.write = watched
            return writer

    upload = Conversation(handler(UploadServer(Watching()).app))
    whole = request("POST", "/form", form(file(bytes(1_000_000))), FORM)
    for start in range(0, 900_000, 50_000):
        upload.send(whole[start : start + 50_000])
        assert sum(written) >= start + 50_000 - 1000
    assert max(written) <= 50_100
    upload.transport.drop()


def test_a_form_that_is_uploaded_as_a_body_is_kept_with_a_hint(upload, store):
    """As ever; the answer says what takes the file out of it."""
    for method in ("POST", "PUT"):
        for type in (FORM, FORM.replace(b"multipart/form", b"Multipart/Form")):
            answer = upload.ask(method, "/upload", form(file()), type)
            assert answer.json["id"] == content_id(form(file()))
            assert "POST /form" in answer.json["hint"]
    for type in (b"Content-Type: application/x-www-form-urlencoded", b"Content-Type: text/plain"):
        assert "hint" not in upload.ask("POST", "/upload", form(file()), type).json


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/upload", None),
        ("/upload/photo.jpg", "photo.jpg"),
        ("/upload/f%C3%BCr%20%E6%97%A5%22.txt", 'f\u00fcr \u65e5".txt'),
        ("/upload/100%25", "100%"),
        ("/upload/a+b", "a+b"),
    ],
)
def test_a_file_can_be_put(upload, store, path, name):
    """Under its name, as curl -T does: the id is told, and the name kept."""
    answer = upload.ask("PUT", path, b"abc")
    assert answer.json == {"id": content_id(b"abc"), "size": 3, "status": "OK", "copies": 1}
    assert metadata_in(store) == ({} if name is None else {"X-Orig-Filename": name})


def test_a_header_goes_before_the_name_that_a_file_is_put_under(upload, store):
    """As before that of a form."""
    assert upload.ask("PUT", "/upload/guessed", b"abc", b"X-Orig-Filename: told").status == 200
    assert metadata_in(store) == {"X-Orig-Filename": "told"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/upload/%FF", 400),
        ("/upload/a%0Ab", 400),
        ("/upload/a%00b", 400),
        (f"/upload/{'a' * 5000}", 400),
        ("/upload/a/b", 404),
        ("/upload/a%2Fb", 404),
    ],
)
def test_what_can_be_no_name_is_refused(upload, store, path, status):
    """Nothing is stored."""
    assert upload.ask("PUT", path, b"abc").status == status
    assert not store.blobs
