"""Who is let in, as real processes."""

from __future__ import annotations

import json
import re
import signal
import socket
import time

from sos.auth.request_signing import make_secret, parse_keys
from sos.auth.signed_urls import signed_path
from sos.auth.tokens import format_tokens, make_token
from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


class Cluster:
    """Two blob servers and an API server that share a secret."""

    def __init__(self, place, more="", blob_more="", settings=""):
        self.place = place
        self.secret = make_secret()
        self.write(self.secret)
        self.ports = free_ports(5)
        self.servers = [f"http://127.0.0.1:{port}" for port in self.ports[:2]]
        (place.home / ".sos.conf").write_text(
            "\n".join(self.servers) + f"\n[sos]\nsecret-file = {self.path}\n{settings}"
        )
        self.blobs = [
            place.twistd(
                f"sos-blob --host 0.0.0.0 --port {port} --store data{port} --secret-file secret "
                f"{blob_more}",
                port,
            )
            for port in self.ports[:2]
        ]
        up, down, admin = self.ports[2:]
        self.admin = f"http://127.0.0.1:{admin}"
        self.up, self.down = f"http://127.0.0.1:{up}", f"http://127.0.0.1:{down}"
        self.api = place.twistd(
            f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
            f"--admin-port {admin} --replicate-every 0 {more}",
            up,
            down,
            admin,
        )

    @property
    def path(self):
        return self.place.directory / "secret"

    @property
    def logs(self):
        return "".join(daemon.log for daemon in self.place.running)

    def write(self, *keys):
        new = self.place.directory / "secret.new"
        new.write_text("".join(f"{key}\n" for key in keys))
        new.chmod(0o600)
        new.replace(self.path)

    def upload(self, body):
        return json.loads(fetch(f"{self.up}/upload", body))["id"]

    def wait_until_read_again(self, times):
        """Wait until each daemon has read the secret so many times again."""
        message = f"reloaded {self.path}"

        def has_read(daemon):
            return daemon.log.count(message) >= times

        for daemon in (*self.blobs, self.api):
            # It looks when it is used.
            assert wait_until(lambda daemon=daemon: self.upload(b"x") and has_read(daemon))


def test_a_cluster_with_a_secret_works(place):
    """Uploads, fetches, replication by hand, status; and nobody else is let in."""
    cluster = Cluster(place, settings="min-copies = 1\n")
    large = body_of(9 * 1024 * 1024)  # in chunks, with a manifest
    for body in (b"small", large):
        id = cluster.upload(body)
        assert id == content_id(body)
        assert fetch(f"{cluster.down}/fetch/{id}") == body
    done = place.sos("replicate --verbose")
    assert done.returncode == 0, done.stderr
    assert b"0 failed" in done.stdout
    for command in ("replicate", "balance", "status"):
        done = place.sos(command)
        assert done.returncode == 0, done.stdout + done.stderr
    done = place.sos(f"status --url {cluster.admin}")
    assert done.returncode == 1
    assert b"warning: the API server has not finished a replication pass" in done.stdout
    # Who does not sign finds out nothing, and changes nothing.
    id = content_id(b"small")
    for server in cluster.servers:
        assert fetch(f"{server}/alive") == b"alive"
        for path in ("blobs", "status", "digests", f"blob/{id}", "nothing"):
            assert ask(f"{server}/{path}").status == 401
        assert ask(f"{server}/blob/new", b"x").status == 401
        answer = ask(f"{server}/blobs")
        assert answer.headers["WWW-Authenticate"] == "SOS1"
        assert answer.json["status"] == 401
    for daemon in cluster.blobs:
        assert re.search("request refused: GET /blobs peer=127.0.0.1 .* not signed", daemon.log)
    assert cluster.secret not in cluster.logs
    assert "Traceback" not in cluster.logs


def test_without_the_secret_or_with_another_no_server_answers(place):
    """It is told as what is wrong with the servers."""
    cluster = Cluster(place)
    (place.home / ".sos.conf").write_text("\n".join(cluster.servers))
    done = place.sos("status")
    assert done.returncode == 1
    assert b"401" in done.stdout
    other = place.directory / "other"
    other.write_text(make_secret())
    other.chmod(0o600)
    done = place.sos("status --secret-file other")
    assert done.returncode == 1
    assert b"an unknown key" in done.stdout
    assert place.sos("status --secret-file secret").returncode == 0


def test_keys_are_changed_without_a_failed_request(place):
    """The new one is accepted, then it signs, then the old one is gone."""
    cluster = Cluster(place)
    old, new = cluster.secret, make_secret()
    steps = [(old, new), (new, old), (new,)]
    for times, keys in enumerate(steps, 1):
        cluster.write(*keys)
        cluster.wait_until_read_again(times)
    cluster.write("nonsense")
    message = "keeping its old content"
    assert wait_until(lambda: cluster.upload(b"y") and message in cluster.api.log)
    assert cluster.upload(b"z")
    assert "request refused" not in cluster.logs
    status = json.loads(fetch(f"{cluster.admin}/status"))
    assert [each["errors"] for each in status["groups"]["default"]] == [0, 0]
    for text in (old, new, "nonsense"):
        assert text not in cluster.logs


def test_a_body_is_asked_for_only_when_the_sender_is_known(place):
    """Who waits to be told to go on is told 401, and none of the body is read."""
    cluster = Cluster(place)
    with socket.create_connection(("127.0.0.1", cluster.ports[0]), 60) as client:
        client.sendall(
            b"POST /blob/abc HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: 100000000000\r\n\r\n"
        )
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in answer


def test_a_hang_up_keeps_the_secret(place):
    """The servers that are read again are spoken to as before."""
    cluster = Cluster(place)
    # It listens a moment before it has started, and knows the signal then.
    assert wait_until(lambda: "SOS API server" in cluster.api.log)
    cluster.api.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: "reloaded the configuration" in cluster.api.log)
    assert cluster.upload(b"x")


def test_the_admin_port_of_a_blob_server(place):
    """It asks for the secret who can come from elsewhere, but not whether it is well."""
    (place.directory / "secret").write_text(make_secret())
    (place.directory / "secret").chmod(0o600)
    port, ours, others = free_ports(3)
    place.twistd(
        f"sos-blob --port {port} --store data --secret-file secret "
        f"--listen-admin tcp:{ours}:interface=127.0.0.1 --listen-admin tcp:{others}",
        ours,
        others,
    )
    for path in ("status", "metrics", "healthz", "readyz"):
        assert ask(f"http://127.0.0.1:{ours}/{path}").status == 200
        expected = 401 if path in ("status", "metrics") else 200
        assert ask(f"http://127.0.0.1:{others}/{path}").status == expected


class Private:
    """An API server that asks for tokens."""

    def __init__(self, place, more=""):
        self.place = place
        for name, text in (("secret", make_secret()), ("tokens", "")):
            (place.directory / name).write_text(text)
            (place.directory / name).chmod(0o600)
        self.tokens = {
            name: self.sos(f"token --token-file tokens add {name} {options}").strip().decode()
            for name, options in (
                ("up", "--scope upload"),
                ("down", "--scope read"),
                ("root", "--scope admin"),
            )
        }
        self.tokens["late"], late = make_token("late", ["upload", "read"], time.time() - 60, 30)
        with open(place.directory / "tokens", "a") as file:
            file.write(format_tokens([late]))
        self.ports = free_ports(3)
        up, down, admin = self.ports
        self.daemon = place.twistd(
            f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
            f"--listen-admin tcp:{admin} --token-file tokens {more}",
            *self.ports,
        )
        self.up, self.down, self.admin = (f"http://127.0.0.1:{port}" for port in self.ports)
        place.environment.update(SOS_UPLOAD=self.up, SOS_DOWNLOAD=self.down)

    def sos(self, command, token=None):
        environment = {} if token is None else {"SOS_TOKEN": self.tokens[token]}
        self.place.environment.pop("SOS_TOKEN", None)
        self.place.environment.update(environment)
        done = self.place.sos(command)
        assert done.returncode == 0, done.stderr
        return done.stdout


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def refusal(url, body=None, headers=()):
    return ask(url, body, headers).status


def test_an_api_server_asks_for_tokens(place):
    """For uploads, and for what it says of itself to others; not for fetches."""
    server = Private(place)
    (place.directory / "file").write_bytes(b"hello")
    id = content_id(b"hello")
    done = place.sos("put file")
    assert done.returncode == 1
    assert b"401" in done.stderr
    assert server.sos("put file", "up").split()[0].decode() == id
    assert server.sos(f"get {id}") == b"hello"
    assert refusal(f"{server.up}/upload", b"x", bearer(server.tokens["down"])) == 403
    assert refusal(f"{server.up}/upload", b"x", bearer(server.tokens["late"])) == 401
    assert refusal(f"{server.admin}/status") == 401
    assert refusal(f"{server.admin}/status", headers=bearer(server.tokens["up"])) == 403
    assert fetch(f"{server.admin}/healthz") == b"alive"
    assert fetch(f"{server.admin}/readyz") == b"ready"
    # What the port is for is not what objects are for.
    assert refusal(f"{server.admin}/upload", b"x", bearer(server.tokens["root"])) == 403
    assert fetch(f"{server.admin}/upload", b"x", bearer(server.tokens["up"]))
    assert b"up" in server.sos(f"status --url {server.admin}", "root")
    assert place.sos(f"status --url {server.admin} --token wrong").returncode == 1


def test_tokens_are_given_and_taken_while_the_server_runs(place):
    """It sees within a second what has changed, and keeps what it had when that is wrong."""
    server = Private(place)
    new = server.sos("token --token-file tokens add new --scope upload").strip().decode()
    assert wait_until(lambda: may_upload(server, new))
    server.sos("token --token-file tokens revoke new")
    assert wait_until(lambda: not may_upload(server, new))
    (place.directory / "tokens").chmod(0o644)
    assert wait_until(
        lambda: (
            may_upload(server, server.tokens["up"])
            and "other users can access" in server.daemon.log
        )
    )
    assert may_upload(server, server.tokens["up"])
    assert not may_upload(server, new)
    for token in (new, *server.tokens.values()):
        assert token not in server.daemon.log


def may_upload(server, token):
    return ask(f"{server.up}/upload", b"x", bearer(token)).status != 401


def test_private_reads_want_a_token_or_a_link(place):
    """And what they are answered is for no shared cache; no log tells a link."""
    server = Private(place, "--private-reads --secret-file secret --access-log access.log")
    (place.directory / "file").write_bytes(b"hello")
    id = server.sos("put file --to " + server.up, "up").split()[0].decode()
    assert refusal(f"{server.down}/fetch/{id}") == 401
    assert refusal(f"{server.admin}/fetch/{id}", headers=bearer(server.tokens["root"])) == 403
    reader = bearer(server.tokens["down"])
    assert fetch(f"{server.admin}/fetch/{id}", headers=reader) == b"hello"
    assert server.sos(f"get {id}", "down") == b"hello"
    assert b"size: 5" in server.sos(f"stat {id}", "down")
    (place.directory / "mine").write_text(server.tokens["down"] + "\n")
    (place.directory / "mine").chmod(0o600)
    assert server.sos(f"get {id} --token-from mine") == b"hello"
    link = server.sos(f"sign {id} --secret-file secret --base {server.down}").strip().decode()
    assert fetch(link) == b"hello"
    assert fetch(link.replace("?", ".txt?")) == b"hello"
    assert refusal(link.replace(id, content_id(b"x"))) == 401
    keys = parse_keys((place.directory / "secret").read_text())
    assert refusal(server.down + signed_path(keys, id, int(time.time()) - 1)) == 401
    assert refusal(f"{server.down}/fetch/{id}", headers=bearer(server.tokens["late"])) == 401
    server.daemon.stop()
    logs = server.daemon.log + (place.directory / "access.log").read_text()
    assert "&signature=***" in logs
    assert link.rpartition("=")[2] not in logs
    secret = (place.directory / "secret").read_text()
    for text in (secret, *server.tokens.values()):
        assert text not in logs


def test_without_its_file_no_token_is_good(place):
    """After some seconds; the log and the status say so; and then they are good again."""
    (local,) = free_ports(1)
    server = Private(place, f"--listen-admin tcp:{local}:interface=127.0.0.1")

    def errors():
        return fetch_json(f"http://127.0.0.1:{local}/status")["errors"]

    assert may_upload(server, server.tokens["up"])
    assert errors() == []
    path, aside = place.directory / "tokens", place.directory / "aside"
    path.rename(aside)
    assert wait_until(lambda: not may_upload(server, server.tokens["up"]))
    message = f"{path} no longer exists: all of its entries are revoked"
    assert message in server.daemon.log
    assert errors() == [message]
    assert refusal(f"{server.admin}/status", headers=bearer(server.tokens["root"])) == 401
    aside.rename(path)
    assert wait_until(lambda: may_upload(server, server.tokens["up"]))
    assert errors() == []
    path.write_text("{")
    message = (
        f"cannot reload a file, keeping its old content: {path}: line 1 is invalid: it is not JSON"
    )
    assert wait_until(lambda: errors() == [message])
    assert may_upload(server, server.tokens["up"])


def fetch_json(url):
    return json.loads(fetch(url))
