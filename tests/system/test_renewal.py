"""Certificates, keys and tokens that are replaced under daemons that run: nothing is lost."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
from contextlib import contextmanager

import pytest

from sos.auth.request_signing import make_secret
from sos.auth.tokens import format_tokens, make_token
from tests.support.blobs import body_of, content_id
from tests.support.certificates import Authority
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

# More than the sockets of both sides can hold.
LARGE = body_of(64 * 1024 * 1024)


@pytest.fixture
def authorities(place):
    """Two, each with a certificate of its own for a server and for a client."""
    found = {name: Authority(place.directory, f"{name}-ca") for name in ("old", "new")}
    for name, authority in found.items():
        for kind in ("server", "client"):
            authority.issue(f"{name}-{kind}")
    return found


def install(place, **files):
    """Put copies of files into the place of others: their names by those of the new ones."""
    for name, source in files.items():
        path = place.directory / name.replace("_", ".")
        new = path.with_suffix(".coming")
        shutil.copy(place.directory / source, new)
        new.replace(path)


def hang_up(daemon, message):
    """Send SIGHUP, and wait until the log has told so once more."""
    before = daemon.log.count(message)
    daemon.send(signal.SIGHUP)
    assert wait_until(lambda: daemon.log.count(message) > before), daemon.log


@contextmanager
def connected(place, port):
    trusted = ssl.create_default_context()
    for path in place.directory.glob("*-ca.pem"):
        trusted.load_verify_locations(path)
    with (
        socket.create_connection(("127.0.0.1", port), 60) as plain,
        trusted.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        yield client


def issuer(client):
    (name,) = client.getpeercert()["issuer"]
    return dict(name)["commonName"]


@pytest.mark.parametrize("kind", ["blob", "api"])
def test_a_download_goes_on_while_the_certificate_is_replaced(place, authorities, kind):
    """New connections have the new one; a pair that does not belong together changes nothing."""
    install(place, live_pem="old-server.pem", live_key="old-server.key")
    up, down = free_ports(2)
    ports = (down,) if kind == "blob" else (up, down)
    where = (
        f"--port {down}"
        if kind == "blob"
        else f"--api-host 127.0.0.1 --upload-port {up} --download-port {down}"
    )
    daemon = place.twistd(
        f"sos-{kind} --store data {where} --tls-certificate live.pem --tls-key live.key",
        *ports,
    )
    id = content_id(LARGE)
    path = f"/blob/{id}" if kind == "blob" else f"/fetch/{id}"
    trusted = ssl.create_default_context(cafile=authorities["old"].path)
    target = f"/blob/{id}" if kind == "blob" else "/upload"
    fetch(f"https://127.0.0.1:{ports[0]}{target}", LARGE, context=trusted)
    with connected(place, down) as slow:
        slow.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        begun = slow.recv(1024)
        assert issuer(slow) == "old-ca"
        install(place, live_pem="new-server.pem")
        hang_up(daemon, "live.key does not match the certificate in")
        with connected(place, down) as client:
            assert issuer(client) == "old-ca"
        install(place, live_key="new-server.key")
        hang_up(daemon, f"reloaded {place.directory}/live.key")
        with connected(place, down) as client:
            assert issuer(client) == "new-ca"
        rest = slow.makefile("rb").read()
    head, _, body = (begun + rest).partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert content_id(body) == id
    assert "Traceback" not in daemon.log


def test_an_authority_is_replaced_in_a_cluster(place, authorities):
    """Both are trusted for a while, then all certificates are new, then the old is not any more."""
    install(
        place,
        ca_pem="old-ca.pem",
        **{
            f"{kind}_{end}": f"old-{kind}.{end}"
            for kind in ("server", "client")
            for end in ("pem", "key")
        },
    )
    port, up, down = free_ports(3)
    serve = (
        f"sos-blob --port {port} --store data --tls-certificate server.pem --tls-key server.key "
        "--tls-client-ca ca.pem"
    )
    blob = place.twistd(serve, port)
    api = place.twistd(
        f"sos-api --blob-server https://127.0.0.1:{port} --api-host 127.0.0.1 "
        f"--upload-port {up} --download-port {down} --min-copies 1 --replicate-every 0 "
        "--tls-ca ca.pem --tls-client-certificate client.pem --tls-client-key client.key",
        up,
        down,
    )

    def works(body):
        fetch(f"http://127.0.0.1:{up}/upload", body)
        assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(body)}") == body

    works(b"by the old")
    both = place.directory / "both-ca.pem"
    both.write_bytes(b"".join(each.path.read_bytes() for each in authorities.values()))
    install(place, ca_pem="both-ca.pem")
    for daemon in (blob, api):
        hang_up(daemon, f"reloaded {place.directory}/ca.pem")
    works(b"by both")
    install(
        place,
        **{
            f"{kind}_{end}": f"new-{kind}.{end}"
            for kind in ("server", "client")
            for end in ("pem", "key")
        },
    )
    hang_up(blob, f"reloaded {place.directory}/server.key")
    hang_up(api, f"reloaded {place.directory}/client.key")
    works(b"by the new")
    install(place, ca_pem="new-ca.pem")
    for daemon in (blob, api):
        hang_up(daemon, f"reloaded {place.directory}/ca.pem")
    works(b"by the new alone")
    # Which has no connection left that was made before.
    blob.stop()
    place.twistd(serve, port)
    works(b"over new connections")
    assert "Traceback" not in blob.log + api.log


def test_keys_and_tokens_are_replaced(place):
    """At SIGHUP, at once; a file that is wrong leaves those of before, and the log says why."""
    secrets = {name: make_secret() for name in ("old", "new")}
    tokens, listed = zip(
        *(make_token(name, ["upload"], 0, None) for name in ("old", "new")), strict=True
    )

    def write(name, text):
        new = place.directory / f"{name}.coming"
        new.write_text(text)
        new.chmod(0o600)
        new.replace(place.directory / name)

    for name, secret in secrets.items():
        write(f"{name}-secret", secret)
    write("secret", secrets["old"])
    write("tokens", format_tokens(listed[:1]))
    port, up, down = free_ports(3)
    blob = place.twistd(f"sos-blob --port {port} --store data --secret-file secret", port)
    api = place.twistd(
        f"sos-api --blob-server http://127.0.0.1:{port} --api-host 127.0.0.1 --upload-port {up} "
        f"--download-port {down} --min-copies 1 --replicate-every 0 --secret-file secret "
        "--token-file tokens",
        up,
        down,
    )

    def upload(token, body):
        headers = {"Authorization": f"Bearer {token}"}
        return ask(f"http://127.0.0.1:{up}/upload", body, headers).status

    def is_answered(name):
        done = place.sos(
            f"status --blob-server http://127.0.0.1:{port} --secret-file {name}-secret"
        )
        return done.returncode == 0

    assert (upload(tokens[0], b"old"), upload(tokens[1], b"old")) == (200, 401)
    assert (is_answered("old"), is_answered("new")) == (True, False)
    write("tokens", "{")
    write("secret", "no key")
    hang_up(api, "keeping its old content")
    hang_up(blob, "keeping its old content")
    assert (upload(tokens[0], b"still"), is_answered("old")) == (200, True)
    write("tokens", format_tokens(listed[1:]))
    write("secret", secrets["new"])
    hang_up(blob, f"reloaded {place.directory}/secret")
    hang_up(api, f"reloaded {place.directory}/tokens")
    assert (upload(tokens[0], b"new"), upload(tokens[1], b"new")) == (401, 200)
    assert (is_answered("old"), is_answered("new")) == (False, True)
    log = api.log + blob.log
    assert not any(secret in log for secret in (*secrets.values(), *tokens))
    assert "Traceback" not in log
