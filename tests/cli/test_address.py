"""Passwords for a proxy before an API server: in its URL, or in .netrc."""

from __future__ import annotations

from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import click
import pytest

from sos.cli.address import Address, credentials_for, parse

NETRC = """
machine a.example login me password hush
machine b login you password
default login x password y
"""


@pytest.mark.parametrize(
    ("text", "url", "login"),
    [
        ("http://a:9991/", "http://a:9991", None),
        ("https://me:hush@a/sub/", "https://a/sub", "me:hush"),
        ("https://me:@a", "https://a", "me:"),
        ("https://me:a:b@A.example:444", "https://a.example:444", "me:a:b"),
        ("https://m%40x:%C3%BC%2F@a", "https://a", "m@x:ü/"),
        ("https://me:p@ss@a", "https://a", "me:p@ss"),
        ("http://me:hush@[::1]:1", "http://[::1]:1", "me:hush"),
    ],
)
def test_a_user_and_a_password_in_a_url(text, url, login):
    """They are taken out of it, and are not shown by what is made of it."""
    address = parse(text)
    assert address.url == url
    assert decoded(address.login) == login
    assert "login" not in repr(address)


def decoded(value):
    return None if value is None else b64decode(value.removeprefix(b"Basic ")).decode()


@pytest.mark.parametrize(
    "text",
    [
        "https://hush@a",
        "https://:hush@a",
        "https://me:hush%0d%0aX-A: b@a",
        "https://me:hush\x00@a",
        "https://m%3ae:hush@a",
        "https://me:hush@",
        "https://me:hush@a b",
        "https://me:hush@a/?q",
        "ftp://me:hush@a",
        "https://me:hush/@a",
        "me:hush@a",
    ],
)
def test_a_url_that_is_wrong(text):
    """Whatever is wrong with it, the password is not in the error."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse(text)
    assert "hush" not in str(caught.value)


@pytest.fixture
def netrc(home, monkeypatch):
    monkeypatch.delenv("NETRC", raising=False)
    path = home / ".netrc"
    path.write_text(NETRC)
    path.chmod(0o600)
    return path


def asked_by(url, token=None):
    found = credentials_for(parse(url), token)
    return None if found is None else found(b"GET", b"/", 0, [])


def test_a_netrc_is_for_the_servers_that_it_names(netrc, monkeypatch):
    """By host, when nothing else was given; its default is for no server of ours."""
    assert decoded(asked_by("https://A.example:1/x")) == "me:hush"
    assert decoded(asked_by("https://other:one@a.example")) == "other:one"
    assert asked_by("https://b.a.example") is None
    assert asked_by("https://a.example", lambda *_: b"Bearer x") == b"Bearer x"
    netrc.rename(netrc.with_name("elsewhere"))
    assert asked_by("https://a.example") is None
    monkeypatch.setenv("NETRC", str(netrc.with_name("elsewhere")))
    assert decoded(asked_by("https://a.example")) == "me:hush"


def test_a_password_and_a_token_exclude_each_other():
    """Both go into one header."""
    with pytest.raises(click.UsageError, match="Authorization"):
        asked_by("https://me:hush@a", lambda *_: b"Bearer x")


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_netrc_that_others_can_read(netrc, mode):
    """It is an error where it would be used, and nothing to us where it would not."""
    netrc.chmod(mode)
    with pytest.raises(click.UsageError, match="chmod 600"):
        asked_by("https://a.example")
    assert asked_by("https://c.example") is None


@pytest.mark.parametrize(
    "text",
    ["machine a.example logon hush\n", "hush\n", "machine a.example login me password \x07hush\n"],
)
def test_a_netrc_that_is_wrong(netrc, capsys, text):
    """It is told where, without what it says, and not used."""
    netrc.write_text(text)
    assert asked_by("https://a.example") is None
    errors = capsys.readouterr().err
    assert errors.startswith(f"Warning: ignoring {netrc}: ")
    assert "hush" not in errors


@pytest.mark.parametrize("data", [b"\xff\xfe\0m\0", b"machine a.example login me password \xe9"])
def test_a_netrc_that_is_not_text(netrc, capsys, data):
    """The warning says so in one line, and does not blame the user or the password."""
    netrc.write_bytes(data)
    assert asked_by("https://a.example") is None
    errors = capsys.readouterr().err
    assert errors == f"Warning: ignoring {netrc}: it is not text in UTF-8\n"


def test_a_netrc_that_is_no_file(netrc):
    """It is not waited for, and is nothing to us."""
    netrc.unlink()
    netrc.mkdir()
    assert asked_by("https://a.example") is None


class Proxy(BaseHTTPRequestHandler):
    """Lets in who knows the password, and says what it was sent."""

    def do_POST(self):
        self.server.sent.append(self.headers["Authorization"])
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>no</html>")

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("where", ["option", "environment", "netrc"])
def test_the_command_sends_it_and_says_nothing_of_it(place, where):
    """Wherever it comes from."""
    (place.directory / "file").write_bytes(b"abc")
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.sent = []
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://me:hush@127.0.0.1:{server.server_port}"
        option = ""
        if where == "option":
            option = f"--to {url}"
        elif where == "environment":
            place.environment["SOS_UPLOAD"] = url
        else:
            option = f"--to http://127.0.0.1:{server.server_port}"
            path = place.home / ".netrc"
            path.write_text("machine 127.0.0.1 login me password hush")
            path.chmod(0o600)
        done = place.sos(f"put file {option}")
        server.shutdown()
    assert [decoded(each.encode()) for each in server.sent] == ["me:hush"]
    assert done.returncode == 1
    errors = f"127.0.0.1:{server.server_port} answered 401 Unauthorized\n"
    assert done.stderr.decode() == f"Error: file: http://{errors}"
    assert Address(url).url not in done.stdout.decode()
