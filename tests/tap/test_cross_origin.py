"""Pages of other origins at an API server: which may upload, and which may read answers."""

from __future__ import annotations

import time

import pytest

from sos.auth.tokens import format_tokens, make_token
from sos.errors import ConfigError
from sos.model import conf_parser
from sos.stores.memory import MemoryStore
from sos.tap import api
from sos.tap.admission import ClientGuards
from sos.web.admin_api import AdminServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id
from tests.support.conversation import Conversation
from tests.support.options import parsed, refusal
from tests.web.test_admin_api import counted, no_status

APP = "https://app.example"
EVIL = "https://evil.example"
ID = content_id(b"abc")


class Servers:
    """The three ports of an API server with *options*, each asked by pages."""

    def __init__(self, *options):
        found = parsed(api, "--store", "x", "--listen-upload", "tcp:1", *options)
        store = MemoryStore()
        guards = ClientGuards(found)
        uploads, downloads = UploadServer(store, max_size=1000), DownloadServer(store)
        admin = AdminServer(store, no_status, counted, uploads, downloads)
        self.store = store
        self.upload, self.download, self.admin = (
            Conversation(answer)
            for answer in (
                handler(uploads.app, guards.uploads("tcp:1"), origins=guards.origins),
                handler(
                    downloads.app,
                    guards.downloads(found["downloads"][0]),
                    origins=guards.origins,
                ),
                handler(admin.app, guards.admin(found["admins"][0])),
            )
        )

    def post(self, origin, *lines, port="upload", body=b"abc", path="/upload"):
        """Return the answer to a page's upload."""
        lines += (f"Origin: {origin}".encode(), b"Sec-Fetch-Site: cross-site")
        return getattr(self, port).ask("POST", path, body, *lines)


def preflight(talk, path, origin, method):
    """Return the answer to what a browser asks before it asks by *method*."""
    lines = (f"Origin: {origin}", f"Access-Control-Request-Method: {method}")
    return talk.ask("OPTIONS", path, None, *(line.encode() for line in lines))


def readers(answer):
    """Return whose pages may read *answer*, and that all its headers go with it."""
    origin = answer.headers.get(b"access-control-allow-origin")
    assert answer.headers.get(b"access-control-expose-headers") == (b"*" if origin else None)
    return origin


@pytest.fixture(autouse=True)
def token(home):
    """A token for uploads, which a file lists."""
    secret, token = make_token("app", ["upload"], time.time(), None)
    (home / "tokens").write_text(format_tokens([token]))
    (home / "tokens").chmod(0o600)
    return b"Authorization: Bearer " + secret.encode()


def test_a_page_of_a_listed_origin_uploads_and_fetches():
    """The browser asks before; all headers of an answer may be read, and caches know why."""
    servers = Servers("--cors-origins", f"https://other.example, {APP}")
    asked = preflight(servers.upload, "/upload", APP, "POST")
    assert (asked.status, readers(asked)) == (204, APP.encode())
    assert b"POST" in asked.headers[b"access-control-allow-methods"].split(b", ")
    assert asked.headers[b"access-control-allow-headers"] == b"*, Authorization"
    stored = servers.post(APP, b"X-Orig-Filename: a")
    assert (stored.status, readers(stored)) == (200, APP.encode())
    for path in (f"/fetch/{ID}", "/alive"):
        fetched = servers.download.ask("GET", path, None, b"Origin: " + APP.encode())
        assert (fetched.status, readers(fetched)) == (200, APP.encode())
        assert fetched.headers[b"vary"] == b"Origin"
    known = servers.download.ask(
        "GET", f"/fetch/{ID}", None, b"Origin: " + APP.encode(), f'If-None-Match: "{ID}"'.encode()
    )
    assert (known.status, readers(known)) == (304, APP.encode())


@pytest.mark.parametrize(
    ("status", "path", "body"),
    [(413, "/upload", b"x" * 1001), (404, "/nothing", b""), (405, "/alive", b"")],
)
def test_the_page_can_read_an_error(status, path, body):
    """Or it could not tell a refusal from a broken network."""
    answer = Servers("--cors-origins", APP).post(APP, path=path, body=body)
    assert (answer.status, readers(answer)) == (status, APP.encode())


@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "http://app.example",
        "https://app.example:444",
        "https://app.example.evil.example",
        "https://xapp.example",
        "HTTPS://APP.EXAMPLE",
        "https://app.example/",
        "*",
    ],
)
@pytest.mark.parametrize("listed", [(), ("--cors-origins", APP), ("--cors-origins", f"*,{APP}")])
def test_a_page_of_another_origin_stores_nothing(origin, listed):
    """An origin is listed as it is sent, or not at all; * is for fetches."""
    servers = Servers(*listed)
    answer = servers.post(origin)
    assert (answer.status, readers(answer)) == (403, None)
    asked = preflight(servers.upload, "/upload", origin, "POST")
    assert (asked.status, readers(asked)) == (405, None)
    assert not servers.store.blobs


def test_nothing_is_shared_unless_that_was_asked_for():
    """Answers to programs and pages are as they were."""
    servers = Servers()
    servers.upload.ask("POST", "/upload", b"abc")
    answer = servers.download.ask("GET", f"/fetch/{ID}", None, b"Origin: " + APP.encode())
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith((b"access-control", b"vary"))]


def test_every_page_may_fetch_where_it_is_said_so():
    """The answer is the same to all, and can be cached for all; also where others may upload."""
    servers = Servers("--cors-origins", f"*, {APP}")
    assert servers.post(APP).status == 200
    for lines in ((), (b"Origin: " + EVIL.encode(),), (b"Origin: " + APP.encode(),)):
        answer = servers.download.ask("GET", f"/fetch/{ID}", None, *lines)
        assert (answer.status, readers(answer)) == (200, b"*")
        assert b"vary" not in answer.headers
    asked = preflight(servers.download, f"/fetch/{ID}", EVIL, "GET")
    assert (asked.status, readers(asked)) == (204, b"*")


def test_a_cache_is_told_of_an_answer_that_no_page_may_read():
    """It is not to give that to a page that may: for which it lacks the headers."""
    servers = Servers("--cors-origins", APP)
    for lines in ((), (b"Origin: " + EVIL.encode(),)):
        answer = servers.download.ask("GET", f"/fetch/{ID}", None, *lines)
        assert (readers(answer), answer.headers[b"vary"]) == (None, b"Origin")


def test_a_token_is_still_needed(token):
    """A preflight request never has one, and is answered without."""
    servers = Servers("--cors-origins", APP, "--token-file", "tokens")
    assert preflight(servers.upload, "/upload", APP, "POST").status == 204
    refused = servers.post(APP)
    assert (refused.status, readers(refused)) == (401, APP.encode())
    assert servers.post(APP, token).status == 200
    assert servers.post(EVIL, token).status == 403


def test_the_admin_port_is_not_shared():
    """Its own page uses it."""
    servers = Servers("--cors-origins", f"*,{APP}", "--hosts", "x")
    answer = servers.post(APP, port="admin")
    assert (answer.status, readers(answer)) == (403, None)
    assert readers(servers.admin.ask("GET", "/status", None, b"Origin: " + APP.encode())) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example:443, http://a:80", "https://app.example,http://a"),
        ("http://localhost:3000,http://localhost:3000", "http://localhost:3000"),
        ("http://[::0:1]:8080", "http://[::1]:8080"),
        ("http://127.0.0.1:080", "http://127.0.0.1"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("*", "*"),
    ],
)
def test_origins_are_listed_as_browsers_send_them(text, value, home):
    """By the option, and by sos.conf."""
    assert parsed(api, "--store", "x", "--cors-origins", text)["cors-origins"] == value
    (home / ".sos.conf").write_text(f"[sos]\ncors-origins = {text}\n")
    assert parsed(api, "--store", "x")["cors-origins"] == value


@pytest.mark.parametrize(
    "text",
    [
        "app.example",
        "https://app.example/",
        "https://app.example/page",
        "https://",
        "https://a:0",
        "https://a:65536",
        "https://a:",
        "https://user@a",
        "https://[::1",
        "https://[::1::]",
        "https://*.example",
        "https://b\xfccher.example",
        "https://a\r\nX: y",
        "https://a..b",
        "null",
        "https://a,",
        "https://a https://b",
    ],
)
def test_what_is_no_origin_is_refused(capsys, text):
    """The option is named, and what was wrong."""
    assert "--cors-origins" in refusal(capsys, api, "--store", "x", "--cors-origins", text)
    if "\n" not in text:
        with pytest.raises(ConfigError, match=r"cors-origins: .* is not a web origin"):
            conf_parser.parse(f"[sos]\ncors-origins = {text}\n", "sos.conf")
