"""The clients that people use, each against real daemons: what they send, and what they see."""

from __future__ import annotations

import contextlib
import socket
import ssl
from threading import Event, Thread

import pytest

from sos.auth.tokens import format_tokens, make_token
from tests.support.blobs import body_of, content_id
from tests.support.browser import browser  # noqa: F401 - a fixture
from tests.support.certificates import Authority
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.processes import Place
from tests.support.waiting import wait_until
from tests.system.clients import PROGRAMS, SEND, Chromium, NoAnswer, Question

BODY = body_of(3_000_000)
ID = content_id(BODY)
#: More than the sockets between a client and a server can hold.
LARGE = 64 * 1024 * 1024
NAMES = [*(each.name for each in PROGRAMS), "Chromium"]
CASES = ("upload", "fetch", "HEAD", "range", "TLS", "refusal", "abort")


class Api:
    """An API server."""

    def __init__(self, place, name, options="", scheme="http"):
        up, down, admin = free_ports(3)
        self.ports = {"up": up, "down": down}
        self.admin = f"http://127.0.0.1:{admin}"
        self.upload = f"{scheme}://127.0.0.1:{up}/upload"
        self.fetch = f"{scheme}://127.0.0.1:{down}/fetch/"
        self.requests = place.directory / f"{name}.requests"
        self.daemon = place.twistd(
            f"sos-api --store {name} --api-host 127.0.0.1 --upload-port {up} --download-port "
            f"{down} --admin-port {admin} --access-log {self.requests} {options}",
            up,
            down,
            admin,
        )

    @property
    def blobs(self):
        return ask(f"{self.admin}/status").json["store"]["blobs"]

    def failed_handshakes(self, port):
        name = f'sos_tls_handshake_failures_total{{port="{self.ports[port]}"'
        lines = fetch(f"{self.admin}/metrics").decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def logged(self, method, status):
        """Return how many requests of this kind have been answered so."""
        lines = self.requests.read_text().splitlines()
        return sum(f'"{method} ' in line and f'" {status} ' in line for line in lines)

    @property
    def broken_uploads(self):
        """How many uploads have come to no end, by an end of their connection or its loss."""
        return self.logged("POST", 400) + self.logged("POST", 499)


class Site:
    """Servers of each kind, and files to send."""

    def __init__(self, directory):
        self.directory = directory
        self.place = Place(directory)
        self.ca = Authority(directory, "ca")
        self.ca.issue("server")
        _, token = make_token("somebody", ["upload", "read"], 0, None)
        (directory / "tokens").write_text(format_tokens([token]))
        (directory / "tokens").chmod(0o600)
        self.plain = Api(self.place, "plain", "--max-size 32M")
        self.tls = Api(
            self.place, "tls", "--tls-certificate server.pem --tls-key server.key", "https"
        )
        self.closed = Api(self.place, "closed", "--token-file tokens --private-reads")
        self.file, self.large = directory / "file", directory / "large"
        self.file.write_bytes(BODY)
        with open(self.large, "wb") as file:
            file.truncate(LARGE)
        self.output = directory / "output"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("clients"))
    fetch(site.plain.upload, BODY)
    fetch(site.tls.upload, BODY, context=ssl.create_default_context(cafile=site.ca.path))
    yield site
    site.place.stop()


@pytest.fixture(scope="module")
def table(request):
    """What each client was seen to do, which is shown at the end."""
    rows: dict[str, set[str]] = {}
    yield rows
    plugins = request.config.pluginmanager
    reporter = plugins.get_plugin("terminalreporter")
    if reporter is None:  # in one of several processes
        return
    with plugins.get_plugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line("")
        reporter.write_line(f"{'':24} {' '.join(CASES)}")
        for name, seen in rows.items():
            cells = " ".join(f"{'yes' if case in seen else '-':{len(case)}}" for case in CASES)
            reporter.write_line(f"{name:24} {cells}")


@pytest.fixture(scope="module", params=NAMES)
def client(request, site, table):
    if request.param == "Chromium":
        client = Chromium(request.getfixturevalue("browser"))
    else:
        (client,) = (each for each in PROGRAMS if each.name == request.param)
    row = f"{client.name} {client.version()}"
    if hasattr(client, "build"):
        client.build(site.directory)
    seen = table.setdefault(row, set())
    client.tick = seen.add
    return client


def send(client, site, method, url, **more):
    return client.ask(Question(method, url, **more), site.output)


class Gate:
    """Stands between a client and a server, and counts the bytes that pass one way.

    After so many of them it breaks a download off, and holds an upload up until it is opened.

    :ivar reached: set when the upload is held up.
    """

    def __init__(self, port, most, upwards):
        self._to, self._most, self._upwards = port, most, upwards
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.reached, self._open = Event(), Event()
        Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                for ends in ((client, server, self._upwards), (server, client, not self._upwards)):
                    Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source, sink, is_stopped):
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                passed += len(data)
                if is_stopped and passed > self._most:
                    if not self._upwards:
                        break
                    self.reached.set()
                    self._open.wait(60)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def open(self):
        """Let an upload go on."""
        self._open.set()

    def close(self):
        self.open()
        self._listening.close()


@pytest.fixture
def gate():
    made = []

    def make(*arguments, **named):
        made.append(Gate(*arguments, **named))
        return made[-1]

    yield make
    for each in made:
        each.close()


#: For tests of what aria2 does not do: it fetches alone.
of_uploading = pytest.mark.parametrize(
    "client", [name for name in NAMES if name != "aria2"], indirect=True
)


@of_uploading
def test_upload(site, client):
    """What it sends is stored, and answered."""
    answer = send(client, site, "POST", site.plain.upload, body=site.file)
    assert answer.status == 200
    assert f'"{ID}"'.encode() in answer.body
    client.tick("upload")


def test_fetch(site, client):
    """It has all of it; and an error is one."""
    answer = send(client, site, "GET", site.plain.fetch + ID)
    assert (answer.status, answer.body) == (200, BODY)
    missing = site.plain.fetch + "0" * 40
    if client.name == "aria2":
        with pytest.raises(NoAnswer):
            send(client, site, "GET", missing)
    else:
        assert send(client, site, "GET", missing).status == 404
    client.tick("fetch")


@of_uploading
def test_head(site, client):
    """The length is told, and nothing else waited for."""
    answer = send(client, site, "HEAD", site.plain.fetch + ID)
    assert (answer.status, answer.length.rstrip("-")) == (200, str(len(BODY)))
    client.tick("HEAD")


def test_range(site, client):
    """A part, or the rest of what a client has."""
    before = site.plain.logged("GET", 206)
    asked = {"span": "1000-1999", "begun": BODY[:2_000_000]}
    answer = send(client, site, "GET", site.plain.fetch + ID, **asked)
    expected = {"aria2": (200, BODY), "wget": (206, BODY[1000:])}
    assert (answer.status, answer.body) == expected.get(client.name, (206, BODY[1000:2000]))
    assert wait_until(lambda: site.plain.logged("GET", 206) > before)
    client.tick("range")


def test_tls(site, client):
    """On both ports, whatever is offered by ALPN; and not when the authority is not trusted."""
    body, ca = site.file, site.ca.path
    if client.uploads:
        answer = send(client, site, "POST", site.tls.upload, body=body, ca=ca)
        assert (answer.status, f'"{ID}"'.encode() in answer.body) == (200, True)
    answer = send(client, site, "GET", site.tls.fetch + ID, ca=ca)
    assert (answer.status, answer.body) == (200, BODY)
    tried = [("down", "GET", site.tls.fetch + ID, None)]
    if client.uploads:
        tried.append(("up", "POST", site.tls.upload, body))
    for port, method, url, body in tried:
        before = site.tls.failed_handshakes(port)
        with pytest.raises(NoAnswer):
            send(client, site, method, url, body=body)
        if client.alerts:
            assert wait_until(lambda: site.tls.failed_handshakes(port) > before)  # noqa: B023
    client.tick("TLS")


@of_uploading
def test_refusal_in_mid_upload(site, client):
    """Who sends a large body sees why it is refused, and not a connection that was reset."""
    for api, status in ((site.plain, 413), (site.closed, 401)):
        answer = send(client, site, "POST", api.upload, body=site.large)
        assert answer.status == status, answer
    client.tick("refusal")


def test_abort(site, client, gate):
    """A fetch that breaks off is an error, and of an upload that does nothing is stored."""
    broken = gate(site.plain.ports["down"], 1_000_000, upwards=False)
    with pytest.raises(NoAnswer):
        send(client, site, "GET", f"http://127.0.0.1:{broken.port}/fetch/{ID}")
    if client.uploads:
        slow = gate(site.tls.ports["up"], 1_000_000, upwards=True)
        before, failed = site.tls.blobs, site.tls.broken_uploads
        url = f"https://127.0.0.1:{slow.port}/upload"
        question = Question("POST", url, site.large, ca=site.ca.path)
        if isinstance(client, Chromium):
            page = client.open(question)
            page.evaluate(SEND, client.arguments_for(question))
            assert slow.reached.wait(60)
            page.context.close()
        else:
            with client.start(question, site.output) as process:
                assert slow.reached.wait(60), process.communicate(timeout=60)
                process.kill()
        slow.open()
        assert wait_until(lambda: site.tls.broken_uploads > failed)
        assert site.tls.blobs == before
    client.tick("abort")


def test_nothing_went_wrong(site):
    """Of all that the daemons have noted, nothing is a mistake of ours."""
    for api in (site.plain, site.tls, site.closed):
        assert "Traceback" not in api.daemon.log
