"""Which hosts the daemons answer as, by their options and by where they listen."""

from __future__ import annotations

import pytest

from sos.errors import ConfigError
from sos.model import conf_parser
from sos.stores.memory import MemoryStore
from sos.tap import api, blob
from sos.tap.admission import ClientGuards, ServerGuards
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.conversation import Conversation
from tests.support.options import parsed, refusal
from tests.web.test_admin_api import counted, no_status

pytestmark = pytest.mark.usefixtures("home")

#: Where a listener is, as an endpoint.
LOOPBACK = "tcp:80:interface=127.0.0.1"
LOOPBACK_6 = "tcp:80:interface=\\:\\:1"
UNIX = "unix:socket"
OTHERS = "tcp:80"
EVERYWHERE = [LOOPBACK, LOOPBACK_6, UNIX, OTHERS]


def answers(kind, endpoint, *options):
    """Return what answers at *endpoint*: the blob server, or a port of an API server."""
    store = MemoryStore()
    uploads, downloads = UploadServer(store), DownloadServer(store)
    if kind == "blob":
        found = parsed(blob, "--no-auth", "--listen", endpoint, *options)
        return handler(BlobServer(store).app, ServerGuards(found, store).blobs(endpoint))
    admin = AdminServer(store, no_status, counted, uploads, downloads)
    if kind == "blob's admin":
        found = parsed(blob, "--no-auth", "--listen-admin", endpoint, *options)
        (endpoint,) = found["admins"]
        return handler(admin.app, ServerGuards(found, store).admin(endpoint))
    name = {"upload": "upload", "download": "download", "admin": "admin"}[kind]
    found = parsed(api, "--store", "x", f"--listen-{name}", endpoint, *options)
    (endpoint,) = found[f"{name}s"]
    guards = ClientGuards(found)
    return {
        "upload": lambda: handler(uploads.app, guards.uploads(endpoint)),
        "download": lambda: handler(downloads.app, guards.downloads(endpoint)),
        "admin": lambda: handler(admin.app, guards.admin(endpoint)),
    }[kind]()


def statuses(kind, endpoint, *options):
    """Return what is answered by name: ``evil.example``, and with the listener's port."""
    path = {"upload": "/nothing", "download": "/fetch/abc"}.get(kind, "/openapi.json")
    found = []
    for host in ("evil.example", None):
        talk = Conversation(answers(kind, endpoint, *options))
        if host is None:
            host = f"evil.example:{talk.transport.getHost().port}"
        (answer,) = talk.answers(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        found.append(answer.status == 421)
    return tuple(found)


@pytest.mark.parametrize("kind", ["blob", "blob's admin", "admin"])
def test_servers_and_administrators(kind):
    """Where this machine alone connects no name is answered; elsewhere names are, as ever."""
    for endpoint in (LOOPBACK, LOOPBACK_6, UNIX):
        assert statuses(kind, endpoint) == (True, True)
    assert statuses(kind, OTHERS) == (False, False)


@pytest.mark.parametrize("kind", ["upload", "download"])
def test_clients(kind):
    """A proxy on the same machine passes on any name, and a page comes by the listener's port."""
    for endpoint in (LOOPBACK, LOOPBACK_6):
        assert statuses(kind, endpoint) == (False, True)
    assert statuses(kind, OTHERS) == (False, False)


@pytest.mark.parametrize("endpoint", EVERYWHERE)
@pytest.mark.parametrize("kind", ["blob", "blob's admin", "upload", "download", "admin"])
def test_names_that_are_listed(kind, endpoint):
    """Are all that there are, wherever the server listens."""
    assert statuses(kind, endpoint, "--hosts", "a.example") == (True, True)
    assert statuses(kind, endpoint, "--hosts", "localhost") == (True, True)
    assert statuses(kind, endpoint, "--hosts", "a.example, Evil.Example.") == (False, False)


def test_a_rebinding_page_writes_to_no_blob_server():
    """Wherever that listens, and whether or not it takes names of programs."""
    for endpoint in EVERYWHERE:
        talk = Conversation(answers("blob", endpoint))
        (answer,) = talk.answers(
            b"POST /blob/name HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        assert answer.status == (403 if endpoint == OTHERS else 421)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.example", "a.example"),
        ("A.Example.,b", "a.example,b"),
        (" a , b ,a", "a,b"),
        ("localhost", "localhost"),
        ("sos_upload,x--y,1.a", "sos_upload,x--y,1.a"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_lists(text, value, home):
    """In lower case, each once; by the option, and by sos.conf where that is read."""
    assert parsed(blob, "--hosts", text)["hosts"] == value
    assert parsed(api, "--store", "x", "--hosts", text)["hosts"] == value
    (home / ".sos.conf").write_text(f"[sos]\nhosts = {text}\n")
    assert parsed(api, "--store", "x")["hosts"] == value
    assert parsed(api, "--store", "x", "--hosts", "other")["hosts"] == "other"


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a,",
        "a,,b",
        "http://a.example",
        "a.example:4001",
        "a example",
        "a;b",
        "*.example",
        ".example",
        "a..b",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "::1",
        "[::1]",
        "b\xfccher.example",
        "a@b",
        "a\n",
        "a" * 64,
        ".".join(["a" * 50] * 6),
    ],
)
def test_what_is_no_name(capsys, text):
    """The option is named, and what was wrong."""
    if text != "a\n":
        assert "--hosts" in refusal(capsys, blob, "--hosts", text)
        assert "--hosts" in refusal(capsys, api, "--store", "x", "--hosts", text)
    if "\n" not in text and ";" not in text:
        with pytest.raises(ConfigError, match=r"sos\.conf"):
            conf_parser.parse(f"[sos]\nhosts = {text}\n", "sos.conf")
