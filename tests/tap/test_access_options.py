"""What the daemons are told of who may speak to them."""

from __future__ import annotations

import socket

import pytest
from twisted.python.systemd import ListenFDs

from sos.auth.request_signing import make_secret
from sos.daemon.exposure import LOOPBACK, OTHERS, UNIX, reach
from sos.stores.memory import MemoryStore
from sos.tap import api, blob
from sos.tap.admission import ServerGuards, signer
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.support.conversation import Conversation
from tests.support.options import parsed, refusal


@pytest.fixture(autouse=True)
def files(home):
    """Files that are as they should be, and others."""
    for name, text, mode in (
        ("secret", make_secret(), 0o600),
        ("open", make_secret(), 0o644),
        ("empty", "", 0o600),
        ("short", "c0ffee", 0o600),
    ):
        (home / name).write_text(text)
        (home / name).chmod(mode)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("tcp:1:interface=127.0.0.1", LOOPBACK),
        ("tcp:1:interface=127.9.9.9:backlog=3", LOOPBACK),
        ("tcp:1:interface=localhost", LOOPBACK),
        ("tcp:1:interface=\\:\\:1", LOOPBACK),
        ("tcp:1:interface=LocalHost", LOOPBACK),
        ("tcp:1:interface=\\:\\:ffff\\:127.0.0.1", LOOPBACK),
        ("tcp:1:127.0.0.1", LOOPBACK),
        ("tcp:1:127.0.0.1:50", LOOPBACK),
        ("tcp6:1:interface=\\:\\:1", LOOPBACK),
        ("tcp6:1:50:\\:\\:1", LOOPBACK),
        ("ssl:1:interface=127.0.0.1:privateKey=a", LOOPBACK),
        ("ssl:1:key:certificate:TLSv1_METHOD:127.0.0.1", LOOPBACK),
        ("unix:/run/socket", UNIX),
        ("unix:address=/run/interface=", UNIX),
        ("tcp:1", OTHERS),
        ("tcp:1:interface=", OTHERS),
        ("tcp:1:interface=0.0.0.0", OTHERS),
        ("tcp:1:interface=\\:\\:", OTHERS),
        ("tcp:1:interface=localhost.example", OTHERS),
        ("tcp:1:interface=10.0.0.1", OTHERS),
        ("tcp:1:interface=\\:\\:ffff\\:10.0.0.1", OTHERS),
        ("tcp:1:10.0.0.1", OTHERS),
        ("tcp:1:backlog=50", OTHERS),
        ("tcp6:1", OTHERS),
        ("tcp6:1:50", OTHERS),
        ("tcp6:1:interface=\\:\\:", OTHERS),
        ("ssl:1", OTHERS),
        ("ssl:1:127.0.0.1", OTHERS),
        ("haproxy:tcp:1:interface=127.0.0.1", OTHERS),
    ],
)
def test_who_can_reach_an_endpoint(endpoint, expected):
    """What is not known could be open to others."""
    assert reach(endpoint) == expected


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), LOOPBACK),
        (socket.AF_INET, ("0.0.0.0", 0), OTHERS),
        (socket.AF_UNIX, "socket", UNIX),
    ],
)
def test_who_can_reach_a_socket_of_systemd(monkeypatch, family, address, expected):
    """The socket itself tells."""
    with socket.socket(family) as opened:
        opened.bind(address)
        held = ListenFDs([opened.fileno()])
        monkeypatch.setattr("twisted.internet.endpoints._SystemdParser._sddaemon", held)
        assert reach(f"systemd:domain={family.name[3:]}:index=0") == expected


def test_a_blob_server_that_others_can_reach_asks_who_they_are(home):
    """Unless it is told not to; on the loopback interface it need not."""
    assert parsed(blob)["secret-file"] is None
    for arguments in (["--host", "0.0.0.0"], ["--listen", "tcp:1"]):
        options = parsed(blob, *arguments, "--secret-file", "secret")
        assert options["secret-file"] == str(home / "secret")
        parsed(blob, *arguments, "--no-auth")
    parsed(blob, "--listen", "unix:socket")


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (blob, "--host 0.0.0.0", "--secret-file"),
        (blob, "--host ::", "--secret-file"),
        (blob, "--listen tcp:0", "--secret-file"),
        (blob, "--listen unix:socket --listen tcp:0", "--secret-file"),
        (blob, "--listen unix:socket --listen-admin tcp:0", "--secret-file"),
        (blob, "--no-auth --secret-file secret", "exclude each other"),
        (blob, "--secret-file none", "none: No such file"),
        (blob, "--secret-file open", "open (mode 6"),
        (blob, "--secret-file empty", "the file contains no key"),
        (blob, "--secret-file short", "key 1 is malformed"),
        (api, "--store data --secret-file short", "key 1 is malformed"),
        (api, "--store data --token-file none", "none: No such file"),
        (api, "--store data --token-file open", "open (mode 6"),
        (api, "--store data --token-file short", "line 1 is invalid"),
        (api, "--store data --private-reads", "--private-reads needs a --token-file"),
    ],
)
def test_what_cannot_be_meant_ends_the_start(capsys, module, arguments, message):
    """One line, which names the file and tells nothing of what is in it, and exit status 2."""
    line = refusal(capsys, module, *arguments.split())
    assert message in line
    assert "c0ffee" not in line


def test_the_files_can_be_settings(home):
    """Of a path that means the same to every command; an option wins."""
    (home / "tokens").write_text("")
    (home / "tokens").chmod(0o600)
    (home / ".sos.conf").write_text(
        "[sos]\nsecret-file = ~/secret\ntoken-file = ~/tokens\nprivate-reads = yes\n"
    )
    options = parsed(api, "--store", "x")
    assert options["secret-file"] == str(home / "secret")
    assert options["token-file"] == str(home / "tokens")
    assert options["private-reads"]


@pytest.mark.parametrize("line", ["secret-file = secret", "token-file =", "private-reads = 1"])
def test_settings_that_are_none(home, capsys, line):
    """A path that would mean another file elsewhere, and none at all."""
    (home / ".sos.conf").write_text(f"[sos]\n{line}\n")
    assert ".sos.conf, line 2" in refusal(capsys, api, "--store", "x")


def test_dump_tells_where_secrets_are_and_none_of_them(home, capsys):
    """The path is no secret."""
    (home / ".sos.conf").write_text("http://a:1\n[sos]\nsecret-file = ~/secret\n")
    with pytest.raises(SystemExit):
        parsed(api, "--dump")
    output = capsys.readouterr().out
    assert "secret-file = ~/secret" in output
    assert (home / "secret").read_text() not in output


def test_a_signed_request_is_good_for_one_listener():
    """Who has recorded it at one cannot repeat it at another, nor at the admin port."""
    listeners = ["tcp:1", "tcp:2", "unix:socket"]
    options = [each for endpoint in listeners for each in ("--listen", endpoint)]
    found = parsed(blob, "--secret-file", "secret", *options, "--listen-admin", "tcp:3")
    store = MemoryStore()
    guards = ServerGuards(found, store)
    sign = signer("secret")
    value = sign(b"GET", b"/digests", 0, ()).decode()
    statuses = []
    for guard in (*map(guards.blobs, listeners), guards.admin("tcp:3")):
        talk = Conversation(handler(BlobServer(store).app, guard))
        head = f"GET /digests HTTP/1.1\r\nHost: localhost\r\nAuthorization: {value}\r\n\r\n"
        statuses += [answer.status for answer in talk.answers(head.encode())]
    assert statuses == [200, 401, 401, 401]
