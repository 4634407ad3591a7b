"""Servers, as real processes, beside the OpenAPI descriptions that they give of themselves."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import re
import socket
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import ClassVar

import pytest
from attrs import define

from sos.model import batch
from sos.model.membership import MOST_BYTES, Announcer, Membership
from tests.support.blobs import colliding
from tests.support.description import Description
from tests.support.http import fetch
from tests.support.ports import free_ports

MOST = 1_000_000
ID = sha1(b"abc").hexdigest()
OTHER = sha1(b"other").hexdigest()
GONE = sha1(b"gone").hexdigest()
# What a request can be whatever it asks for, and is then refused before anything is done.
REFUSED = {
    400: b"Host: a\r\nHost: b\r\n",
    431: b"Host: a\r\n" + b"".join(b"X-%d: x\r\n" % number for number in range(201)),
}
# What is asked by any name.
PROBES = {"/alive", "/healthz", "/readyz"}
# What wants a token for uploads.
# With so few files there are so few connections.
FILES, CONNECTIONS = 256, 80
ADMIN_CONNECTIONS = 32
# A small change finds room in an index that is there, however full the disk:
# tests/web/test_openapi.py reaches these without a disk.
NO_ROOM = {
    (method, path, 507)
    for method, path in [
        ("PATCH", "/blob/{id}"),
        ("DELETE", "/blob/{id}"),
        ("POST", "/lease"),
        ("DELETE", "/lease/{token}"),
    ]
}


@define
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Asks a server, and checks each answer by its description."""

    def __init__(self, description, port):
        self.description = description
        self.port = port

    def ask(self, method, path, target=None, body=None, **headers):
        """Ask for *target*, which is a case of *path*, and return the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        # Closed, or it would be one of those that give way when there are many.
        with contextlib.closing(connection):
            connection.request(method, target or path, body, headers)
            return self._checked(method, path, connection.getresponse())

    def send(self, method, path, target, rest):
        """Send a request of these bytes, and return the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            return self.finish(method, path, self.begin(client, method, target, rest))

    @staticmethod
    def begin(client, method, target, rest):
        client.sendall(b"%s %s HTTP/1.1\r\n" % (method.encode(), target.encode()) + rest)
        return client

    def finish(self, method, path, client):
        answer = http.client.HTTPResponse(client, method=method)
        answer.begin()
        return self._checked(method, path, answer)

    def _checked(self, method, path, response):
        headers = {name.lower(): value for name, value in response.getheaders()}
        answer = Answer(response.status, headers, response.read())
        self.description.check(method, path, answer)
        return answer


def targets(description):
    """Each operation, with a case of its path."""
    return [
        (method, path, re.sub("{(id|name|token)}", ID, path).replace("{partition}", ID[:3]))
        for method, path in description.operations
    ]


def ask_what_cannot_be(client):
    """Ask each operation what no operation answers."""
    for method, path, target in targets(client.description):
        for status, rest in REFUSED.items():
            assert client.send(method, path, target, rest + b"\r\n").status == status
        long = f"{target}?{'x' * 16 * 1024}"
        assert client.send(method, path, long, b"Host: a\r\n\r\n").status == 414
        if path not in PROBES:
            assert client.ask(method, path, target, Host="evil.example").status == 421


def crowd(client, connections):
    """Ask each operation while there are as many connections as one address may have.

    The others have asked for much, and do not read it: so they do not give way.
    """
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as held:
        for _ in range(connections // 2):
            other = socket.create_connection(("127.0.0.1", client.port), timeout=60)
            held.enter_context(other).sendall(request * 1300)
            assert other.recv(12) == b"HTTP/1.1 200"
        for method, path, _ in targets(client.description):
            assert client.send(method, path, "", b"").status == 503


@contextlib.contextmanager
def trickled(client, *operations):
    """Begin uploads that do not go on; at the end see that they were given up.

    :param operations: of each its method, its path, a case of that, and further headers.
    """
    with contextlib.ExitStack() as held:
        begun = []
        for method, _, target, *more in operations:
            other = socket.create_connection(("127.0.0.1", client.port), timeout=60)
            rest = b"Host: localhost\r\nContent-Length: 9\r\n%b\r\nabc" % b"".join(more)
            begun.append(client.begin(held.enter_context(other), method, target, rest))
        yield
        for (method, path, *_), other in zip(operations, begun, strict=True):
            assert client.finish(method, path, other).status == 408


def read_in_every_way(client, path, target):
    """Ask for an object, its parts, and what is not there."""
    missing, wrong = target.replace(ID, OTHER), target.replace(ID, "A")
    for method in ("GET", "HEAD"):
        assert client.ask(method, path, target).status == 200
        assert client.ask(method, path, target, If_None_Match=f'"{ID}"').status == 304
        assert client.ask(method, path, wrong).status == 400
        assert client.ask(method, path, missing).status == 404
    assert client.ask("GET", path, target, Range="bytes=1-").body == b"bc"
    assert client.ask("GET", path, target, Range="bytes=3-").status == 416


#: What stores an object at an API server.
UPLOADS = [
    ("POST", "/upload"),
    ("PUT", "/upload"),
    ("PUT", "/upload/{name}"),
    ("POST", "/form"),
]


def sent_to(path, body, **headers):
    """Return what to ask with to have *body* stored: it is in a form where *path* takes these."""
    if path == "/form":
        head = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        body = b"--x\r\n%s%s\r\n--x--" % (head, body)
        headers["Content_Type"] = "multipart/form-data; boundary=x"
    return {"body": body, **headers}


def upload_in_every_way(uploads, client, full, method, path):
    """Upload, at either port, what can be stored and what cannot, also where there is no room."""
    for each in (uploads, client):
        assert each.ask(method, path, **sent_to(path, b"abc", X_Name="n")).status == 200
        wrong = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        assert each.ask(method, path, **sent_to(path, b"abc", Repr_Digest=wrong)).status == 400
        encoded = sent_to(path, b"abc", Content_Encoding="exi")
        assert each.ask(method, path, **encoded).status == 415
        assert each.ask(method, path, **sent_to(path, b"d", X_Csrftoken="t")).status == 200
    for body, status in zip(colliding(), (200, 409), strict=True):
        assert client.ask(method, path, **sent_to(path, body)).status == status
    large = sent_to(path, bytes(16 * MOST + 1))
    assert uploads.ask(method, path, **large).status == 413
    assert client.ask(method, path, Sec_Fetch_Site="cross-site").status == 403
    assert full.ask(method, path, **sent_to(path, bytes(9 << 20))).status == 507


def delete_in_every_way(client, reading):
    """Renew and delete what is there, what was there, and what never was.

    :param reading: of a server that may only read.
    """
    for method in ("POST", "DELETE"):
        body = b"" if method == "POST" else None
        for name, status in ((ID, 200), (GONE, 410), (OTHER, 404), ("A", 400)):
            if status == 200 and method == "DELETE":
                answer = reading.ask(method, "/upload/{name}", f"/upload/{name}")
                assert answer.status == 409
            answer = client.ask(method, "/upload/{name}", f"/upload/{name}", body)
            assert answer.status == status


class OldServer(BaseHTTPRequestHandler):
    """A blob server of the original system, which has all blobs."""

    def do_HEAD(self):
        self.send_response(200 if self.path.startswith(("/alive", "/blob/")) else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_HEAD

    def log_message(self, *_): ...


def expire_on_an_old_server(place, described):
    """It would keep the object for ever."""
    with HTTPServer(("127.0.0.1", 0), OldServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        client = Client(described, reading(place, server.server_port, ""))
        renewal = f"/upload/{ID}?expires=1h"
        assert client.ask("POST", "/upload/{name}", renewal, b"").status == 409
        server.shutdown()


def reading(place, blob, how="readonly"):
    """Return the port of an API server that may not write to its only server."""
    config = place.directory / f"reading{blob}.conf"
    config.write_text(f"[one]\n-: http://127.0.0.1:{blob} {how}\n")
    up, down, admin = free_ports(3)
    place.twistd(
        f"sos-api --config {config} --upload-port {up} --download-port {down} "
        f"--admin-port {admin} --allow-delete --api-host 127.0.0.1 --replicate-every 0",
        up,
    )
    return up


class Resumable:
    """The uploads of tus at a server.

    :param directory: where it keeps them.
    """

    version: ClassVar = {"Tus-Resumable": "1.0.0"}
    part: ClassVar = {**version, "Content-Type": "application/offset+octet-stream"}
    path = "/tus/{token}"

    def __init__(self, client, directory):
        self.client = client
        self.directory = directory

    def create(self, length=9, body=None, **headers):
        headers = {**self.part, "Upload-Length": str(length), **headers}
        return self.client.ask("POST", "/tus", body=body, **headers)

    def begun(self, length=9):
        """Return the path of an upload that has begun."""
        return "/" + self.create(length).headers["location"]

    def patch(self, target, body=b"", offset=0, method="PATCH", **headers):
        """Add to an upload, and return the answer's status; with POST the method is overridden."""
        headers = {**self.part, "Upload-Offset": str(offset), **headers}
        if method == "POST":
            headers.setdefault("X-HTTP-Method-Override", "PATCH")
        return self.client.ask(method, self.path, target, body, **headers).status

    def trickling(self):
        """Describe the operations that receive a body, for :func:`trickled`."""
        lines = b"Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
        yield "POST", "/tus", "/tus", lines + b"Upload-Length: 9\r\n"
        for method, more in (("PATCH", b""), ("POST", b"X-HTTP-Method-Override: PATCH\r\n")):
            yield method, self.path, self.begun(), lines + more + b"Upload-Offset: 0\r\n"

    def ask_in_every_way(self):
        """Upload, and be refused for whatever is the client's fault."""
        ask, wrong = self.client.ask, f"sha1 {b64encode(bytes(20)).decode()}"
        for path, target in (("/tus", None), (self.path, "/tus/none")):
            assert ask("OPTIONS", path, target).status == 204
        for status, headers in (
            (412, {"Tus-Resumable": "0"}),
            (415, {"Content-Type": "text/plain"}),
            (460, {"Upload-Checksum": wrong}),
        ):
            assert self.create(9, b"abc", **headers).status == status
            for method in ("PATCH", "POST"):
                assert self.patch(self.begun(), b"abc", method=method, **headers) == status
        assert self.create(2, b"abc").status == 413
        assert self.create(3, b"abc").headers["x-sos-id"] == ID
        one, other = colliding()
        assert self.create(len(one), one).status == 201
        assert self.create(len(other), other).status == 409
        for method in ("PATCH", "POST"):
            target = self.begun(3)
            assert self.patch(target, b"abcd", method=method) == 413
            assert self.patch(target, b"abc", 1, method=method) == 409
            assert self.patch(target, b"abc", method=method) == 204
        assert self.patch(target, method="POST", **{"X-HTTP-Method-Override": "PUT"}) == 405
        assert ask("HEAD", self.path, target).status == 412
        assert ask("DELETE", self.path, target).status == 412
        assert ask("HEAD", self.path, target, **self.version).headers["x-sos-id"] == ID
        assert json.loads(ask("GET", self.path, target).body)["id"] == ID
        assert ask("DELETE", self.path, target, **self.version).status == 204
        self.ask_each("/tus/none", 404)

    def ask_while_busy(self):
        """Ask for an upload that another process works on."""
        target = self.begun()
        with open(self.directory / f"{target.removeprefix('/tus/')}.part", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.ask_each(target, 423)

    def ask_each(self, target, status):
        """Ask each operation of an upload, all at once."""

        def ask(method):
            if method in ("PATCH", "POST"):
                return self.patch(target, method=method)
            return self.client.ask(method, self.path, target, **self.version).status

        methods = ("GET", "HEAD", "PATCH", "DELETE", "POST")
        with ThreadPoolExecutor(len(methods)) as threads:
            assert set(threads.map(ask, methods)) == {status}


def ask_unknown(client, free):
    """Ask each operation, but for those at the paths that are *free*, as nobody who is known."""
    for method, path, target in targets(client.description):
        if path not in free:
            assert client.ask(method, path, target).status == 401


def reached(port):
    """Let others reach the admin port, which then asks for tokens."""
    return f"--listen-admin tcp:{port}:interface=0.0.0.0"


def missing_of(description):
    return description.statuses - description.seen


def test_every_status_of_a_blob_server_that_is_described(place, small_disk):
    """It comes, as it is described; and no other comes."""
    described = Description("blob")
    port, few, full = free_ports(3)
    place.twistd(f"sos-blob --port {port} --store data --max-size {MOST}", port)
    place.twistd(f"sos-blob --port {few} --store few", few, files=FILES)
    place.twistd(f"sos-blob --port {full} --store {small_disk}/data", full)
    client = Client(described, port)
    blob, abc = "/blob/{id}", f"/blob/{ID}"
    known = Membership(2, {"default": {"http://a:1": 1.0}})
    announcer = Announcer("host/1/a", known).header
    bodies = [("POST", path, path) for path in ("/batch", "/members")]
    with trickled(client, ("POST", blob, abc), ("PUT", blob, abc), *bodies):
        for method in ("POST", "PUT"):
            assert client.ask(method, blob, abc, b"abc", X_Mime_Type="text/plain").status == 200
            assert client.ask(method, blob, abc, b"not abc").status == 422
            assert client.ask(method, blob, "/blob/name", b"abc").status == 200
            assert client.ask(method, blob, "/blob/name", b"cba").status == 409
            assert client.ask(method, blob, abc, bytes(MOST + 1)).status == 413
            assert (
                Client(described, full).ask(method, blob, "/blob/a", bytes(9 << 20)).status == 507
            )
        read_in_every_way(client, blob, abc)
        assert client.ask("PATCH", blob, abc, X_Mime_Type="text/html").status == 200
        assert client.ask("PATCH", blob, abc, X_Sos_Manifest="1").status == 409
        assert client.ask("PATCH", blob, f"/blob/{OTHER}").status == 404
        assert client.ask("PATCH", blob, f"/blob/{GONE}", X_Sos_Deleted_At="5").status == 200
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH"):
            body = b"gone" if method in ("POST", "PUT") else None
            time = "0" if body else "9" * 15
            answer = client.ask(method, blob, f"/blob/{GONE}", body, X_Sos_Set_At=time)
            assert answer.status == 410
        for path in ("/blobs", "/blob"):
            assert client.ask("GET", path, f"{path}?limit=1").headers["link"]
        for path in ("/digests", "/alive", "/status", "/openapi.json"):
            assert client.ask("GET", path).status == 200
        etag = client.ask("GET", "/digests").headers["etag"]
        assert client.ask("GET", "/digests", If_None_Match=etag).status == 304
        assert client.ask("GET", "/digests/{partition}", f"/digests/{ID[:3]}").status == 200
        small = batch.Record(batch.STORE, b"", ID.encode(), b"{}", b"abc").encode()
        assert client.ask("POST", "/batch", body=small).status == 200
        assert client.ask("POST", "/batch", body=bytes(batch.MOST_BYTES + 1)).status == 413
        token = json.loads(client.ask("POST", "/lease", "/lease?seconds=60").body)["lease"]
        assert client.ask("POST", "/lease", "/lease?seconds=60").status == 409
        assert client.ask("POST", "/lease", "/lease?seconds=9", X_Sos_Lease=token).status == 200
        assert client.ask("DELETE", blob, abc, X_Sos_Lease="0").status == 409
        changed = f"{abc}?size=4&version=0{'0' * 64}"
        assert client.ask("DELETE", blob, changed, X_Sos_Lease=token).status == 409
        assert client.ask("DELETE", blob, abc, X_Sos_Lease=token).status == 200
        assert client.ask("DELETE", "/lease/{token}", f"/lease/{token}").status == 200
        for body, status in ((known.encoded, 200), (bytes(MOST_BYTES + 1), 413)):
            sent = client.ask("POST", "/members", body=body, X_Sos_Members=announcer)
            assert sent.status == status
        assert json.loads(client.ask("GET", "/status").body)["members"][0]["members"]["copies"] == 2
        assert client.ask("DELETE", "/members", X_Sos_Members=announcer).status == 200
        ask_what_cannot_be(client)
        for method, path, target in targets(described):
            if method not in ("GET", "HEAD"):
                assert client.ask(method, path, target, Sec_Fetch_Site="cross-site").status == 403
        page = {"Sec_Fetch_Site": "cross-site", "X_Sos_Members": announcer}
        assert client.ask("GET", "/status", **page).status == 403
        crowd(Client(described, few), CONNECTIONS)
    (signed,) = free_ports(1)
    (place.directory / "secret").write_bytes(place.sos("secret").stdout)
    (place.directory / "secret").chmod(0o600)
    place.twistd(f"sos-blob --port {signed} --store signed --secret-file secret", signed)
    ask_unknown(Client(described, signed), {"/alive"})
    assert missing_of(described) == NO_ROOM


def test_every_status_of_an_api_server_that_is_described(place, small_disk):
    """It comes, as it is described, on the admin port as on the others; and no other comes."""
    described = Description("api")
    blob, full, up, down, admin, *more = free_ports(8)
    server = place.twistd(f"sos-blob --port {blob} --store data", blob)
    place.twistd(f"sos-blob --port {full} --store {small_disk}/data", full)

    def api(behind, ports, more=""):
        names = ("--upload-port", "--download-port", "--admin-port")
        listens = " ".join(f"{name} {port}" for name, port in zip(names, ports, strict=True))
        urls = f"--blob-server http://127.0.0.1:{behind}"
        options = f"--api-host 127.0.0.1 --min-copies 1 --max-size {16 * MOST}"
        place.twistd(f"sos-api {listens} {urls} {options} {more}", *ports)

    api(blob, (up, down, admin), "--unfinished-dir unfinished --allow-delete")
    api(full, more, "--unfinished-dir full")
    client, uploads = Client(described, admin), Client(described, up)
    full_client = Client(described, more[0])
    resumable = Resumable(uploads, place.directory / "unfinished")
    form = b"Content-Type: multipart/form-data; boundary=x\r\n"
    begun = [(*each, each[1], form) for each in UPLOADS]
    with trickled(uploads, *begun, *resumable.trickling()):
        resumable.ask_in_every_way()
        resumable.ask_while_busy()
        for method, path in UPLOADS:
            upload_in_every_way(uploads, client, full_client, method, path)
        large = bytes(9 << 20)
        crammed = Resumable(full_client, place.directory / "full")
        assert crammed.create(len(large), large).status == 507
        for method in ("PATCH", "POST"):
            assert crammed.patch(crammed.begun(len(large)), large, method=method) == 507
        servers = Client(Description("blob"), blob)
        deleted = servers.ask("PATCH", "/blob/{id}", f"/blob/{GONE}", X_Sos_Deleted_At="5")
        assert deleted.status == 200
        for each in (Client(described, down), client):
            read_in_every_way(each, "/fetch/{name}", f"/fetch/{ID}.txt")
            for method in ("GET", "HEAD"):
                assert each.ask(method, "/fetch/{name}", f"/fetch/{GONE}").status == 410
        delete_in_every_way(client, Client(described, reading(place, blob)))
        expire_on_an_old_server(place, described)
        for path in ("/", "/status", "/alive", "/healthz", "/readyz", "/metrics", "/openapi.json"):
            assert client.ask("GET", path).status == 200
        ask_what_cannot_be(client)
        crowd(client, ADMIN_CONNECTIONS)
        server.stop()
        assert client.ask("GET", "/readyz").status == 503
        for method, path in UPLOADS:
            sent = sent_to(path, b"x")
            assert client.ask(method, path, **sent).status == 503
        for method in ("POST", "DELETE"):
            body = b"" if method == "POST" else None
            answer = client.ask(method, "/upload/{name}", f"/upload/{OTHER}", body)
            assert answer.status == 503
        assert client.ask("GET", "/fetch/{name}", f"/fetch/{OTHER}").status == 503
        assert client.ask("HEAD", "/fetch/{name}", f"/fetch/{OTHER}").status == 503
    ports = free_ports(3)
    token = place.sos("token --token-file tokens add nobody --scope upload").stdout
    other = place.sos("token --token-file tokens add reader --scope read").stdout
    api(blob, ports, f"--token-file tokens --private-reads {reached(ports[2])}")
    guarded = Client(described, ports[2])
    ask_unknown(guarded, {"/", "/alive", "/healthz", "/readyz"})
    for method, path, target in targets(described):
        if path not in ("/", "/alive", "/healthz", "/readyz"):
            uploads_here = path.startswith(("/upload", "/form", "/tus"))
            bearer = (other if uploads_here else token).decode().strip()
            answer = guarded.ask(method, path, target, Authorization=f"Bearer {bearer}")
            assert answer.status == 403
        if path.startswith("/tus"):  # none are taken here
            bearer = token.decode().strip()
            answer = guarded.ask(method, path, target, Authorization=f"Bearer {bearer}")
            assert answer.status == 404
    assert missing_of(described) == set()


# schemathesis does not know the media types of a part of an upload, and of a batch.
_HOOKS = """
import schemathesis
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
schemathesis.serializer.alias("application/vnd.sos.batch", "application/octet-stream")
"""
# Nor does it expect that a request of another version is refused with 412 before all else.
_EXPECTED = """
[checks]
negative_data_rejection.expected-statuses = [
    400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428, 429, "5xx"
]
missing_required_header.expected-statuses = [400, 401, 405, 406, 412, 422]
"""


def fuzz(place, port, seconds, *options):
    """Let schemathesis make up requests by the description that the server at *port* gives."""
    (place.directory / "hooks.py").write_text(_HOOKS)
    (place.directory / "schemathesis.toml").write_text(_EXPECTED)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            *(f"http://127.0.0.1:{port}/openapi.json", "--url", f"http://127.0.0.1:{port}"),
            # What a body hashes to, and what is stored, no schema tells.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--warnings", "off", "--no-color", "--max-time", str(seconds), *options),
        ],
        cwd=place.directory,
        env={**place.environment, "SCHEMATHESIS_HOOKS": "hooks"},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def extent(long):
    """How long to make requests up; in the long form they differ each time."""
    return (300,) if long else (5, "--seed", "1")


def test_requests_that_are_made_up_for_a_blob_server(place, extent):
    """No answer is one of the statuses from 500, and each is as described."""
    (port,) = free_ports(1)
    daemon = place.twistd(f"sos-blob --port {port} --store data --max-size {MOST}", port)
    fuzz(place, port, *extent)
    assert fetch(f"http://127.0.0.1:{port}/alive") == b"alive"
    assert "Traceback" not in daemon.log


def test_requests_that_are_made_up_for_an_api_server(place, extent):
    """The same, for all that is at the admin port."""
    blob, up, down, admin = free_ports(4)
    behind = place.twistd(f"sos-blob --port {blob} --store data", blob)
    daemon = place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"--admin-port {admin} --blob-server http://127.0.0.1:{blob} --max-size {MOST} "
        "--unfinished-dir unfinished",
        *(up, down, admin),
    )
    fetch(f"http://127.0.0.1:{admin}/upload", b"abc")
    fuzz(place, admin, *extent)
    assert fetch(f"http://127.0.0.1:{admin}/healthz") == b"alive"
    assert "Traceback" not in daemon.log + behind.log
