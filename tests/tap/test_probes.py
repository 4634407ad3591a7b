"""What a load balancer asks of the port that it sends requests to."""

from __future__ import annotations

import pytest

from sos.auth.request_signing import make_secret
from sos.stores.memory import MemoryStore
from sos.tap import api, blob
from sos.tap.admission import ClientGuards, ServerGuards
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.conversation import Conversation
from tests.support.options import parsed
from tests.web.test_admin_api import counted, no_status

# Other machines reach it: at an admin port that only this one reaches nobody needs a token.
ENDPOINT = "tcp:80"


@pytest.fixture(params=["upload", "download", "admin", "blob", "blob's admin"])
def talk(home, request):
    """A conversation with a port that lets in nobody without a token or a signature."""
    for name, text in (("secret", make_secret()), ("tokens", "")):
        (home / name).write_text(text)
        (home / name).chmod(0o600)
    store = MemoryStore()
    up, down = UploadServer(store), DownloadServer(store)
    admin = AdminServer(store, no_status, counted, up, down)
    listen = [f"--listen-{name}={ENDPOINT}" for name in ("upload", "download", "admin")]
    clients = ["--token-file=tokens", "--private-reads", *listen]
    guards = ClientGuards(parsed(api, "--store=x", "--secret-file=secret", *clients))
    servers = ServerGuards(
        parsed(blob, "--secret-file=secret", f"--listen={ENDPOINT}", f"--listen-admin={ENDPOINT}"),
        store,
    )
    face, guard = {
        "upload": (up, guards.uploads),
        "download": (down, guards.downloads),
        "admin": (admin, guards.admin),
        "blob": (BlobServer(store), servers.blobs),
        "blob's admin": (admin, servers.admin),
    }[request.param]
    return Conversation(handler(face.app, guard(ENDPOINT)))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_port_says_that_it_is_alive(talk, method):
    """To everybody, and no cache may say it in its place."""
    answer = talk.ask(method, "/alive")
    assert (answer.status, answer.body) == (200, b"alive" if method == "GET" else b"")
    assert answer.headers[b"cache-control"] == b"no-store"


def test_every_port_says_which_methods_it_knows(talk):
    """To everybody, in answer to what is about the server as a whole (RFC 9110, 9.3.7)."""
    answer = talk.ask("OPTIONS", "*")
    assert (answer.status, answer.body) == (204, b"")
    assert {b"GET", b"HEAD", b"OPTIONS"} <= set(answer.headers[b"allow"].split(b", "))
    assert b"content-length" not in answer.headers  # RFC 9110, 8.6


@pytest.mark.parametrize(
    "first", [("GET", "/alive/"), ("GET", "//alive"), ("GET", "/%61live"), ("OPTIONS", "/*")]
)
def test_other_paths_are_for_those_who_may_ask(talk, first):
    """A probe is spelt in one way."""
    assert talk.ask(*first).status == 401
