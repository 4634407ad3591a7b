"""Proxies before an API server, with the configurations that come along; curl is the client."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
from attrs import define

from sos.http.server.connection import IDLE_SECONDS
from tests.support.blobs import body_of, content_id
from tests.support.certificates import Authority
from tests.support.http import ask, connect
from tests.support.ports import free_ports
from tests.support.processes import ROOT, Place
from tests.support.relay import Relay
from tests.support.waiting import eventually, listens, wait_until

UPLOAD, OBJECTS = "upload.example.org", "objects.example.org"
LARGE = 100 * 1024 * 1024
MAX_SIZE = 101 * 1024 * 1024
# The idle time of the API server in these tests, and how much of that the proxies' is.
SERVER_SECONDS, PROXY_SECONDS = IDLE_SECONDS, 60
SCALE = 20
# An address of this machine, as that of a client.
CLIENT = "127.0.0.9"


def program(name):
    """Return the path of a program, and skip where there is none."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def replaced(text, *pairs):
    """Return *text* with all of *pairs* replaced, of which each has to be there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def scaled(text):
    """Return *text* with a time for which connections are idle made shorter, as the server's is."""
    return replaced(text, (f"{PROXY_SECONDS}s", f"{PROXY_SECONDS * 1000 // SCALE}ms"))


def nginx(directory, port, upload, download):
    """Write the configuration; return what runs it."""
    text = replaced(
        (ROOT / "etc/nginx/sos.conf").read_text(),
        ("127.0.0.1:9991", f"127.0.0.1:{upload}"),
        ("127.0.0.1:9992", f"127.0.0.1:{download}"),
        ("    listen [::]:443 ssl;\n", ""),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/certs/sos.pem", f"{directory}/front.pem"),
        ("/etc/ssl/private/sos.key", f"{directory}/front.key"),
        ("/var/cache/nginx/sos", f"{directory}/cache"),
        ("keepalive_timeout 60s", scaled("keepalive_timeout 60s")),
    )
    (directory / "sos.conf").write_text(text)
    temporary = "\n".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(
        f"daemon off; pid {directory}/nginx.pid; error_log stderr; events {{}} {user}\n"
        f"http {{ access_log off; {temporary}\ninclude {directory}/sos.conf; }}\n"
    )
    command = [program("nginx"), "-e", "stderr", "-p", directory, "-c", directory / "nginx.conf"]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    return command


def haproxy(directory, port, upload, download):
    """Write the configuration; return what runs it."""
    text = replaced(
        (ROOT / "etc/haproxy/haproxy.cfg").read_text(),
        ("127.0.0.1:9991", f"127.0.0.1:{upload}"),
        ("127.0.0.1:9992", f"127.0.0.1:{download}"),
        ("log /dev/log", "log stderr format raw"),
        ("bind :443,[::]:443 v6only", f"bind 127.0.0.1:{port}"),
        ("/etc/ssl/private/sos.pem", f"{directory}/both.pem"),
    )
    text = re.sub(r" +(chroot|user|group) .*\n", "", text)
    both = [(directory / name).read_text() for name in ("front.pem", "front.key")]
    (directory / "both.pem").write_text("".join(both))
    return _haproxy(directory, text)


def _haproxy(directory, text):
    (directory / "haproxy.cfg").write_text(text)
    command = [program("haproxy"), "-f", directory / "haproxy.cfg"]
    done = subprocess.run([*command, "-c"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr
    return [*command, "-db"]


def caddy(directory, port, upload, download):
    """Write the configuration; return what runs it."""
    tls = f"\n\ttls {directory}/front.pem {directory}/front.key\n"
    text = replaced(
        (ROOT / "etc/caddy/Caddyfile").read_text(),
        ("127.0.0.1:9991", f"127.0.0.1:{upload}"),
        ("127.0.0.1:9992", f"127.0.0.1:{download}"),
        (
            "{\n\tservers",
            f"{{\n\tadmin off\n\tauto_https disable_redirects\n\thttps_port {port}\n\tservers",
        ),
        (f"\n{UPLOAD} {{\n", f"\n{UPLOAD} {{{tls}"),
        (f"\n{OBJECTS} {{\n", f"\n{OBJECTS} {{{tls}"),
        ("keepalive 60s", scaled("keepalive 60s")),
    )
    (directory / "Caddyfile").write_text(text)
    command = [program("caddy"), "run", "--adapter", "caddyfile", "--config"]
    return [*command, directory / "Caddyfile"]


@contextmanager
def running(command, directory, *ports):
    """Run *command* while the block runs; it has to listen at *ports*."""
    environment = {"HOME": str(directory), "PATH": os.environ["PATH"]}
    with open(directory / "proxy.log", "ab") as log:
        process = subprocess.Popen(
            [str(each) for each in command], stdout=log, stderr=log, env=environment
        )
    try:
        for port in ports:
            started = wait_until(lambda port=port: listens(port) or process.poll() is not None)
            assert started
            assert process.poll() is None, (directory / "proxy.log").read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@define
class Answer:
    """What curl was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def curl(directory, port, host, path, *arguments):
    """Have curl ask what listens at *port*, by the name *host*, from the address CLIENT."""
    head, body = directory / "head", directory / "body"
    body.unlink(missing_ok=True)
    done = subprocess.run(
        [
            *(program("curl"), "-sS", "--max-time", "100", "-D", head, "-o", body),
            *("--resolve", f"{host}:{port}:127.0.0.1", "--interface", CLIENT),
            *("--cacert", directory / "ca.pem", "-w", "%{http_code}"),
            *(f"https://{host}:{port}{path}", *arguments),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = head.read_text("latin-1").strip().rpartition("\n\n")[2].splitlines()[1:]
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return Answer(int(done.stdout), headers, body.read_bytes() if body.exists() else b"")


@define
class Front:
    """A proxy, and an API server behind it.

    :ivar up: what stands between them, for uploads.
    :ivar down: the same for fetches.
    """

    name: str
    directory: object
    port: int
    up: Relay
    down: Relay
    direct: str
    token: str

    def curl(self, host, path, *arguments):
        """Have curl ask for a *path* of *host*, and return the answer."""
        return curl(self.directory, self.port, host, path, *arguments)

    def upload(self, *arguments):
        authorization = ("-H", f"Authorization: Bearer {self.token}")
        return self.curl(UPLOAD, "/upload", "-X", "POST", *authorization, *arguments)

    def fetch(self, id, *arguments):
        return self.curl(OBJECTS, f"/fetch/{id}", *arguments)

    def one_after_another(self, host, requests):
        """Send *requests* over one connection; return the status and the body of each answer."""
        context = ssl.create_default_context(cafile=self.directory / "ca.pem")
        connection = connect(f"https://127.0.0.1:{self.port}", context)
        answers = []
        with closing(connection):
            for method, path, body, headers in requests:
                connection.request(method, path, body, {"Host": host, **headers})
                answer = connection.getresponse()
                answers.append((answer.status, answer.read()))
        return answers

    def lines(self):
        """The lines of the API server's access log."""
        return [json.loads(line) for line in (self.directory / "log").read_text().splitlines()]


PROXIES = {"nginx": nginx, "haproxy": haproxy, "caddy": caddy}


@pytest.fixture(scope="module", params=PROXIES)
def front(request, tmp_path_factory):
    """One of the proxies, which runs."""
    directory = tmp_path_factory.mktemp(request.param)
    Authority(directory, "ca").issue("front", names=(UPLOAD, OBJECTS))
    up, down, between_up, between_down, port = free_ports(5)
    command = PROXIES[request.param](directory, port, between_up, between_down)
    place = Place(directory)
    (directory / "tokens").touch(0o600)
    token = place.sos("token --token-file tokens add test --scope upload").stdout.decode().strip()
    with ExitStack() as ends:
        ends.callback(place.stop)
        place.twistd(
            f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
            f"--hosts {UPLOAD},{OBJECTS} --trusted-proxies 127.0.0.1 --token-file tokens "
            f"--max-size {MAX_SIZE} --idle-timeout {SERVER_SECONDS / SCALE} "
            "--access-log log --access-log-format json --unfinished-dir unfinished",
            *(up, down),
        )
        relays = [Relay(between_up, up), Relay(between_down, down)]
        for relay in relays:
            ends.callback(relay.stop)
        ends.enter_context(running(command, directory, port))
        direct = f"http://127.0.0.1:{down}/fetch"
        yield Front(request.param, directory, port, *relays, direct, token)


def test_a_large_file(front):
    """Of 100 MiB: upload, HEAD, a part, all of it; a HEAD is passed on as it is."""
    body = body_of(LARGE)
    id = content_id(body)
    file = front.directory / "large"
    file.write_bytes(body)
    answer = front.upload("-T", file, "-H", "X-Orig-Filename: large", "-H", "X-Colour: red")
    assert (answer.status, json.loads(answer.body)["id"]) == (200, id)
    file.unlink()
    head = front.fetch(id, "-I")
    part = front.fetch(id, "-r", f"{LARGE - 10}-")
    whole = front.fetch(id)
    same = front.fetch(id, "-H", f"If-None-Match: {whole.headers['etag']}")
    assert [each.status for each in (head, part, whole, same)] == [200, 206, 200, 304]
    assert head.headers["content-length"] == str(LARGE)
    assert part.body == body[-10:]
    assert whole.body == body, "another body"
    asked = [line for line in front.lines() if line["path"] == f"/fetch/{id}"]
    assert [asked[0][key] for key in ("method", "bytes")] == ["HEAD", 0]
    direct = ask(f"{front.direct}/{id}", method="HEAD")
    for headers in (head.headers, whole.headers):
        own = {name: value for name, value in headers.items() if name[:2] == "x-"}
        assert own.keys() == {name.lower() for name in direct.headers if name[:2] == "X-"}
        assert (own["x-colour"], own["x-orig-filename"]) == ("red", "large")


def test_other_ways_to_upload(front):
    """A file that is put, a form, and a resumable upload, whose address leads back here."""
    (front.directory / "file").write_bytes(b"of a form")
    authorization = ("-H", f"Authorization: Bearer {front.token}")
    put = front.curl(UPLOAD, "/upload/name.txt", *authorization, "-T", front.directory / "file")
    form = front.curl(UPLOAD, "/form", *authorization, "-F", f"f=@{front.directory / 'file'}")
    for answer in (put, form):
        assert json.loads(answer.body)["id"] == content_id(b"of a form")
    tus = (*authorization, "-H", "Tus-Resumable: 1.0.0")
    part = ("-H", "Content-Type: application/offset+octet-stream", "--data-binary")
    begun = front.curl(UPLOAD, "/tus", *tus, "-X", "POST", "-H", "Upload-Length: 6")
    assert begun.status == 201
    (upload,) = (front.directory / "unfinished").glob("*.part")
    path = f"/tus/{upload.stem}"
    assert begun.headers["location"] == path[1:].lower()  # as all headers are here
    for offset, piece in ((0, "abc"), (3, "def")):
        more = ("-X", "PATCH", "-H", f"Upload-Offset: {offset}", *part, piece)
        assert front.curl(UPLOAD, path, *tus, *more).status == 204
    assert front.fetch(content_id(b"abcdef")).body == b"abcdef"


def test_what_is_cached(front):
    """By nginx: what was fetched whole, and parts of it; HEAD and GET are not taken for another."""
    body = body_of(10_000)
    (front.directory / "file").write_bytes(body)
    id = json.loads(front.upload("-T", front.directory / "file").body)["id"]

    def status(*arguments):
        return front.fetch(id, *arguments).headers.get("cache-status")

    answers = [
        status("-I"),
        status("-r", "0-9"),
        status(),
        status(),
        status("-r", "0-9"),
        status("-I"),
    ]
    missed, hit = ("nginx; fwd=miss", "nginx; hit") if front.name == "nginx" else (None, None)
    assert answers == [missed, missed, missed, hit, hit, hit]
    assert front.fetch(id).body == body


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_refusal_while_the_body_is_sent(front, version):
    """Without a token, and past the limit: curl has the answer, not a broken connection."""
    file = front.directory / "sparse"
    with open(file, "wb") as sparse:
        sparse.truncate(2 * MAX_SIZE)
    sent = ("-X", "POST", "-T", file, "-H", "Expect:", version)
    if version == "--http1.1":  # or the length is told, and refused at once
        sent += ("-H", "Transfer-Encoding: chunked")
    else:  # curl 7.88 can lose the body of an answer that ends a stream on which it sends
        sent += ("--ignore-content-length",)
    assert front.upload(*sent).status == 413
    assert front.curl(UPLOAD, "/upload", *sent).status == 401
    file.unlink()


def test_a_body_is_passed_on_as_it_comes(front):
    """The answer is there although most of the body never comes.

    Caddy passes it on when some more has come, for Go reads while it answers.
    """
    context = ssl.create_default_context(cafile=front.directory / "ca.pem")
    with (
        socket.create_connection(("127.0.0.1", front.port), 60) as plain,
        context.wrap_socket(plain, server_hostname=UPLOAD) as client,
    ):
        head = f"POST /upload HTTP/1.1\r\nHost: {UPLOAD}\r\nContent-Length: {LARGE}\r\n\r\n"
        client.sendall(head.encode())
        client.settimeout(0.05)  # between two pieces of the body
        answer = b""
        for _ in range(1000):
            client.sendall(bytes(100))
            with suppress(TimeoutError):
                answer = client.recv(13)
                break
        assert answer == b"HTTP/1.1 401 "


def test_health_checks(front):
    """Of both names; HAProxy and Caddy ask the API server by themselves."""
    for host in (UPLOAD, OBJECTS):
        assert front.curl(host, "/alive").body == b"alive"
        assert front.curl(host, "/status").status == 404
    if front.name != "nginx":
        own = {(line["peer"], line["path"], line["status"]) for line in front.lines()}
        assert ("127.0.0.1", "/alive", 200) in own


def test_the_access_log_tells_the_client(front):
    """Whatever it says of itself."""
    forged = ("-H", "X-Forwarded-For: 1.2.3.4", "-H", "Forwarded: for=1.2.3.4")
    front.fetch("0" * 40, *forged)
    front.upload("--data-binary", "x", *forged)
    id = content_id(b"x")
    front.fetch(id, *forged)
    lines = eventually(front.lines, lambda lines: lines[-1]["path"] == f"/fetch/{id}")
    asked = [line for line in lines if line["path"] != "/alive"][-3:]
    assert [line["peer"] for line in asked] == [CLIENT] * 3


def test_a_fetch_that_meets_a_closing_connection_is_repeated(front):
    """The client does not see that there was one."""
    id = json.loads(front.upload("--data-binary", "again").body)["id"]
    front.down.cut = True
    try:
        answers = front.one_after_another(
            OBJECTS,
            [("GET", f"/fetch/{id}", None, {"Range": f"bytes=0-{end}"}) for end in range(4)],
        )
    finally:
        front.down.cut = False
    assert answers == [(206, b"again"[: end + 1]) for end in range(4)]
    assert "cut" in front.down.closed


def test_uploads_meet_no_closing_connection(front):
    """HAProxy, which closes idle ones at no certain time, uses none again for uploads."""
    front.up.cut = front.name == "haproxy"
    upload = "POST", "/upload", b"again", {"Authorization": f"Bearer {front.token}"}
    try:
        answers = front.one_after_another(UPLOAD, [upload] * 3)
    finally:
        front.up.cut = False
    assert [status for status, _ in answers] == [200] * 3


@pytest.mark.parametrize("kind", ["upload", "fetch"])
def test_the_proxy_closes_idle_connections_first(front, kind):
    """After 60 seconds, where the server does after 75; HAProxy uses none again for uploads."""
    assert PROXY_SECONDS < SERVER_SECONDS
    relay = front.up if kind == "upload" else front.down
    assert front.upload("--data-binary", "idle").status == 200
    before = len(relay.closed)
    for _ in range(2):
        if kind == "upload":
            answer = front.upload("--data-binary", "idle")
        else:
            answer = front.fetch(content_id(b"idle"))
        assert answer.status == 200
    closed = eventually(lambda: relay.closed[before:], bool)
    if front.name != "haproxy":
        assert set(closed) == {"client"}


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_tls_that_haproxy_passes_on(place, version):
    """As its configuration says at the end: both versions of the PROXY protocol, and checks."""
    text = (ROOT / "etc/haproxy/haproxy.cfg").read_text()
    (advised,) = re.findall(r"^#     server api1 (.*)$", text, re.MULTILINE)
    port, up, down = free_ports(3)
    server = replaced(
        advised, ("127.0.0.1:9992", f"127.0.0.1:{down}"), (" send-proxy-v2", f" {version}")
    )
    command = _haproxy(
        place.directory,
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"frontend https\n bind 127.0.0.1:{port}\n default_backend sos\n"
        f"backend sos\n server api1 {server}\n",
    )
    Authority(place.directory, "ca").issue("server", names=[OBJECTS])
    daemon = place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        "--tls-certificate server.pem --tls-key server.key --trusted-proxies 127.0.0.1 "
        f"--hosts {OBJECTS} --access-log log",
        *(up, down),
    )
    with running(command, place.directory, port):
        for path, status in (("/alive", 200), ("/fetch/" + "0" * 40, 404)):
            forged = ("-H", "X-Forwarded-For: 1.2.3.4")
            assert curl(place.directory, port, OBJECTS, path, *forged).status == status
        log = place.directory / "log"
        lines = eventually(lambda: log.read_text().splitlines(), lambda lines: len(lines) == 2)
    assert [line.split()[0] for line in lines] == [CLIENT] * 2
    assert "refused" not in daemon.log


def test_varnish_keeps_no_404(place):
    """What sos put asks for before it sends an object is not missing when that is stored."""
    varnish, directory = program("varnishd"), place.directory
    port, up, down = free_ports(3)
    place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down}",
        up,
        down,
    )
    (directory / "sos.vcl").write_text(
        f'vcl 4.1; backend default {{ .host = "127.0.0.1"; .port = "{down}"; }}'
        # How often it was answered from the cache.
        "sub vcl_deliver { set resp.http.Cache-Status = obj.hits; }"
    )
    (directory / "file").write_bytes(b"not there yet")
    url = f"http://127.0.0.1:{port}/fetch/{content_id(b'not there yet')}"
    command = [varnish, "-F", "-n", directory / "varnish", "-s", "malloc,16m", "-j", "none"]
    command += ["-a", f"127.0.0.1:{port}", "-f", directory / "sos.vcl"]
    with running(command, directory, port):
        assert [ask(url, method=method).status for method in ("HEAD", "GET")] == [404, 404]
        servers = f"--to http://127.0.0.1:{up} --from http://127.0.0.1:{port}"
        for _ in range(2):
            done = place.sos(f"put {servers} file")
            assert done.returncode == 0, done.stderr
        assert [ask(url, method=method).status for method in ("HEAD", "GET")] == [200, 200]
        answer = ask(url)
        assert answer.body == b"not there yet"
        assert int(answer.headers["Cache-Status"]) > 0
