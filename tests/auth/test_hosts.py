"""Which hosts are answered, and which pages may change something, at servers without a network."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address
from twisted.logger import capturedLogs, formatEvent

from sos.auth.hosts import HostGuard, Unlisted
from sos.errors import Unauthorized
from sos.model.membership import MEMBERS, Announcer, Membership
from sos.monitoring.sightings import Sightings
from sos.stores.memory import MemoryStore
from sos.web.admin_api import AdminServer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.conversation import Conversation
from tests.web.test_admin_api import counted, no_status

#: The port that the servers of these tests listen on.
PORT = 4001
NAMES = (b"a.example", b"b-1.example")


class Server:
    """A blob server, or another face, behind a guard."""

    def __init__(self, unlisted=Unlisted.REFUSED, names=(), app=None, inner=None):
        self.store = MemoryStore()
        self.now = 0.0
        self.sightings = Sightings(lambda: self.now)
        app = app or BlobServer(self.store, sightings=self.sightings).app
        self.guard = HostGuard(names, unlisted, lambda: self.now, inner)
        self.handler = handler(app, self.guard)

    def send(self, first, *lines, body=b""):
        """Send one request over a connection of its own, and return the answer."""
        talk = Conversation(self.handler)
        talk.transport.hostAddr = IPv4Address("TCP", "127.0.0.1", PORT)
        data = b"\r\n".join(
            [first.encode(), *(line.encode("latin-1") for line in lines), b"", body]
        )
        (answer,) = talk.answers(data)
        return answer

    def get(self, host, path="/digests"):
        return self.send(f"GET {path} HTTP/1.1", f"Host: {host}")

    def post(self, host, *lines):
        return self.send(
            "POST /blob/name HTTP/1.1",
            f"Host: {host}",
            "Content-Length: 3",
            *lines,
            body=b"abc",
        )


#: What is no name that another server could have.
NO_NAMES = [
    "127.0.0.1",
    "127.0.0.1:4001",
    "127.0.0.1.",
    "10.0.0.5:1",
    "[::1]",
    "[::1]:4001",
    "[2001:DB8::1]",
    "[::ffff:127.0.0.1]",
    "[fe80::1%25eth0]",
    "[FE80::1%25eth0.5]:4001",
    "[fe80::1%25a%2Fb]",
    "localhost",
    "localhost:",
    "LocalHost:4001",
    "localhost.",
    "a.localhost",
    "A.B.localhost.:4001",
    "",
    ":4001",
]
#: What is one, or stands for an address in a way that no browser sends.
OTHER_NAMES = [
    "evil.example",
    "EVIL.example:4001",
    "evil.example.",
    "x",
    "localhost.evil.example",
    "evillocalhost",
    "localhost..",
    "%6cocalhost",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io",
    "127.0.0.1..",
    "2130706433",
    "0177.0.0.1",
    "0x7f000001",
    "127.1",
    "127.0.0.256",
    "[127.0.0.1]",
    "[::1::]",
    "a.example.evil.example",
    "_",
]
#: What no host can be.
MALFORMED = [
    "[fe80::1%eth0]",
    "[fe80::1%25]",
    "[fe80::1%25eth0",
    "[fe80::1%25eth0]x",
    "[fe80::1%25eth0@evil.example]",
    "[%25eth0]",
    "evil.example%25eth0]",
    "::1",
    "evil.example@localhost",
    "localhost@evil.example",
    "localhost evil.example",
    "localhost, evil.example",
    "localhost/evil",
    "localhost:4001:4002",
    "localhost:port",
    "[::1",
    "\xe9vil.example",
    "localhost\tevil",
]


@pytest.mark.parametrize("host", NO_NAMES)
@pytest.mark.parametrize("names", [(), NAMES], ids=["none listed", "others listed"])
def test_an_address_is_answered(host, names):
    """And localhost: no page can have it lead elsewhere; whatever is listed."""
    assert Server(names=names).get(host).status == 200
    assert Server(names=names).post(host).status == 200


@pytest.mark.parametrize("host", OTHER_NAMES)
def test_another_name_is_not(host):
    """The answer says what to do, and nothing is read or changed."""
    server = Server(names=NAMES)
    for answer in (server.get(host), server.post(host), server.get(host, "/nothing")):
        assert answer.status == 421
        assert "--hosts" in answer.json["error"]
    assert not server.store.blobs


@pytest.mark.parametrize("host", MALFORMED)
@pytest.mark.parametrize("unlisted", list(Unlisted))
def test_what_is_no_host_is_no_request(host, unlisted):
    """Wherever it comes to."""
    assert Server(unlisted).get(host).status == 400


@pytest.mark.parametrize("host", ["a.example", "A.Example:4001", "a.example.", "b-1.example.:1"])
def test_a_listed_name_is_answered(host):
    """In any case, with any port."""
    assert Server(names=NAMES).get(host).status == 200
    assert Server(names=NAMES).post(host).status == 200


def test_two_hosts_are_no_request():
    """Though one of them be right."""
    for hosts in (("localhost", "evil.example"), ("evil.example", "localhost"), ("a", "a")):
        answer = Server().send("GET /digests HTTP/1.1", *(f"Host: {each}" for each in hosts))
        assert answer.status == 400


def test_no_host():
    """HTTP/1.0 has none, and who speaks it is no browser."""
    assert Server().send("GET /digests HTTP/1.0").status == 200
    assert Server().send("GET /digests HTTP/1.0", "Host: evil.example").status == 421
    assert Server().send("GET /digests HTTP/1.1").status == 400


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/digests", "localhost", 421),
        ("HTTP://EVIL.example:4001/blobs", "localhost", 421),
        ("https://evil.example?limit=1", "localhost", 421),
        ("http://localhost/digests", "evil.example", 200),
        ("http://a.example:1/digests", "evil.example", 200),
        ("http://evil.example@localhost/digests", "localhost", 400),
        ("http:///digests", "localhost", 400),
        ("http://localhost/digests", "evil.example, x", 400),
    ],
)
def test_the_host_in_the_target_takes_the_place_of_the_header(target, host, status):
    """RFC 9112, 3.2.2."""
    server = Server(names=NAMES)
    assert server.send(f"GET {target} HTTP/1.1", f"Host: {host}").status == status
    assert server.send(f"GET {target} HTTP/1.0", f"Host: {host}").status == status


def test_the_host_in_the_target_is_that_of_the_page():
    """A page of the header's host is of another site."""
    lines = ("Host: localhost", "Content-Length: 1", "Origin: http://localhost")
    answer = Server().send("POST http://127.0.0.1/blob/name HTTP/1.1", *lines, body=b"x")
    assert answer.status == 403


@pytest.mark.parametrize("unlisted", [Unlisted.PROGRAMS, Unlisted.ANSWERED])
@pytest.mark.parametrize("host", OTHER_NAMES)
def test_names_that_are_not_refused(unlisted, host):
    """A program reads and changes what it likes."""
    assert Server(unlisted).get(host).status == 200
    assert Server(unlisted).post(host).status == 200


@pytest.mark.parametrize(
    ("host", "port", "status"),
    [
        ("evil.example:4001", 4001, 421),
        ("evil.example:04001", 4001, 421),
        ("evil.example", 80, 421),
        ("evil.example:", 80, 421),
        ("evil.example:80", 80, 421),
        ("evil.example", 443, 421),
        ("objects.example", 4001, 200),
        ("objects.example:8443", 4001, 200),
        ("objects.example:99999", 4001, 200),
        ("127.0.0.1:4001", 4001, 200),
        ("localhost:4001", 4001, 200),
        ("objects.example", None, 200),
    ],
)
def test_what_a_proxy_passes_on(host, port, status):
    """Is told by the port: a browser that comes by rebinding names that of the listener."""
    server = Server(Unlisted.PROXIED)
    talk = Conversation(server.handler)
    talk.transport.hostAddr = None if port is None else IPv4Address("TCP", "127.0.0.1", port)
    (answer,) = talk.answers(f"GET /digests HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.status == status


#: Header lines of a page's request to ``127.0.0.1:4001``, and whether it may change something.
PAGES = [
    ((), True),
    (("Sec-Fetch-Site: same-origin",), True),
    (("Sec-Fetch-Site: none",), True),
    (("Sec-Fetch-Site: same-site",), False),
    (("Sec-Fetch-Site: cross-site",), False),
    (("Sec-Fetch-Site: ",), False),
    (("Sec-Fetch-Site: later",), False),
    (("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"), False),
    (("Origin: http://127.0.0.1:4001",), True),
    (("Origin: HTTP://127.0.0.1:4001",), True),
    (("Origin: https://127.0.0.1:4001",), True),
    (("Origin: http://127.0.0.1",), False),
    (("Origin: http://127.0.0.1:4002",), False),
    (("Origin: http://localhost:4001",), False),
    (("Origin: http://evil.example",), False),
    (("Origin: http://evil.example:4001",), False),
    (("Origin: http://127.0.0.1:4001.evil.example",), False),
    (("Origin: http://127.0.0.1:4001@evil.example",), False),
    (("Origin: http://evil.example/127.0.0.1:4001",), False),
    (("Origin: ftp://127.0.0.1:4001",), False),
    (("Origin: 127.0.0.1:4001",), False),
    (("Origin: http://127.0.0.1:4001", "Origin: http://evil.example"), False),
    (("Origin: null",), False),
    (("Origin: ",), False),
    (("Origin: \xff",), False),
    (("Origin: http://127.0.0.1:4001", "Sec-Fetch-Site: cross-site"), False),
    (("Origin: http://evil.example", "Sec-Fetch-Site: same-origin"), False),
    (("Origin: http://a.example",), True),
    (("Origin: https://A.example.:8443",), True),
    (("Origin: http://evil.a.example",), False),
    (("Origin: http://a.example", "Sec-Fetch-Site: same-site"), False),
]


@pytest.mark.parametrize(("lines", "allowed"), PAGES)
def test_which_page_changes_something(lines, allowed):
    """One of this address, or of a listed name; a browser tells, and programs say nothing."""
    server = Server(names=NAMES)
    answer = server.post("127.0.0.1:4001", *lines)
    assert answer.status == (200 if allowed else 403)
    assert len(server.store.blobs) == allowed


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("a.example", "http://a.example", True),
        ("a.example", "https://a.example", True),
        ("a.example:80", "http://a.example", True),
        ("a.example:443", "https://a.example", True),
        ("[::1]:4001", "http://[::1]:4001", True),
        ("localhost", "http://localhost", True),
        ("localhost:443", "http://localhost", False),
        ("localhost", "http://localhost:4001", False),
        ("localhost:80", "https://localhost", False),
        ("", "http://localhost", False),
        (":80", "http://", False),
    ],
)
def test_the_port_of_a_page(host, origin, allowed):
    """Goes without saying if it is that of the scheme."""
    answer = Server(names=NAMES).post(host, f"Origin: {origin}")
    assert answer.status == (200 if allowed else 403)


def test_a_page_that_came_to_a_blob_server_by_rebinding():
    """Changes nothing there, though the server takes any name: it has no pages."""
    own = "Origin: http://blobs.example:4001"
    assert Server(Unlisted.PROGRAMS).post("blobs.example:4001", own).status == 403
    assert Server(Unlisted.ANSWERED).post("blobs.example:4001", own).status == 200
    listed = Server(Unlisted.PROGRAMS, (b"blobs.example",))
    assert listed.post("blobs.example:4001", own).status == 200
    own = "Origin: http://10.0.0.5:4001"
    assert Server(Unlisted.PROGRAMS).post("10.0.0.5:4001", own).status == 200


CROSS_SITE = "Sec-Fetch-Site: cross-site"


@pytest.mark.parametrize(
    "first",
    [
        "POST /blob/name",
        "PUT /blob/name",
        "PATCH /blob/name",
        "DELETE /blob/name",
        "POST /batch",
        "POST /lease?seconds=9",
        "DELETE /lease/0",
        "POST /members",
        "DELETE /members",
        "MKCOL /blob/name",
        "POST /nothing",
    ],
)
@pytest.mark.parametrize("line", [CROSS_SITE, "Origin: http://evil.example", "Origin: null"])
def test_every_change_of_a_blob_server(first, line):
    """Is for no page of another site."""
    answer = Server().send(f"{first} HTTP/1.1", "Host: localhost", "Content-Length: 0", line)
    assert answer.status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("line", [CROSS_SITE, "Origin: http://evil.example"])
def test_a_read_is_none(method, line):
    """A link from anywhere leads to an object; OPTIONS asks before a page may read it."""
    server = Server()
    server.post("localhost")
    talk = Conversation(server.handler)
    data = talk.send(f"{method} /blob/name HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n".encode())
    assert data.startswith(b"HTTP/1.1 200 ")
    answer = server.send("OPTIONS /blob/name HTTP/1.1", "Host: localhost", line)
    assert b"access-control-allow-origin" not in answer.headers


def test_telling_by_a_get_is_a_change():
    """Servers among which two differ drop nothing: no page tells which there are."""
    server = Server()
    header = Announcer("host/1/a", Membership(2, {"default": {"http://a:1": 1.0}})).header
    lines = ("Host: localhost", f"{MEMBERS}: {header}")
    assert server.send("GET /status HTTP/1.1", *lines, CROSS_SITE).status == 403
    assert not server.sightings.document()
    assert server.send("GET /status HTTP/1.1", "Host: localhost", CROSS_SITE).status == 200
    assert server.send("GET /status HTTP/1.1", *lines).status == 200
    assert server.sightings.document()


def faces():
    store = MemoryStore()
    up, down = UploadServer(store), DownloadServer(store)
    return {"up": up, "down": down, "admin": AdminServer(store, no_status, counted, up, down)}


@pytest.mark.parametrize(
    ("face", "first", "status"),
    [
        ("up", "POST /upload", 421),
        ("down", "GET /fetch/abc", 421),
        ("admin", "GET /", 421),
        ("admin", "GET /status", 421),
        ("admin", "GET /metrics", 421),
        ("admin", "GET /openapi.json", 421),
        ("admin", "GET /fetch/abc", 421),
        ("admin", "POST /upload", 421),
        ("admin", "GET /healthz", 200),
        ("admin", "GET /readyz", 200),
        ("admin", "GET /readyz?a=b", 200),
        ("admin", "GET /healthz/../status", 421),
        ("admin", "GET /nothing", 421),
        ("up", "GET /healthz", 404),
        ("up", "GET /alive", 200),
        ("down", "GET /alive", 200),
        ("admin", "GET /alive", 200),
        ("up", "OPTIONS *", 204),
        ("up", "OPTIONS /upload", 421),
    ],
)
def test_what_an_unknown_name_is_told(face, first, status):
    """What health checks ask, and nothing else."""
    server = Server(app=faces()[face].app)
    answer = server.send(f"{first} HTTP/1.1", "Host: evil.example", "Content-Length: 0")
    assert answer.status == status
    if status == 421:
        assert set(answer.json) == {"error", "status"}


def test_a_blob_server_says_to_anyone_that_it_is_alive():
    """The original's health check."""
    assert Server().get("evil.example", "/alive").body == b"alive"


def test_the_page_uploads():
    """As a browser does it, over an address, a listed name, or one that is taken."""
    for host, server in (
        ("127.0.0.1:9993", Server(app=faces()["admin"].app)),
        ("a.example:9993", Server(names=NAMES, app=faces()["admin"].app)),
        ("sos.example", Server(Unlisted.ANSWERED, app=faces()["admin"].app)),
    ):
        assert server.get(host, "/").status == 200
        origin = (f"Host: {host}", f"Origin: http://{host}", "Sec-Fetch-Site: same-origin")
        answer = server.send("POST /upload HTTP/1.1", *origin, "Content-Length: 1", body=b"x")
        assert answer.status == 200


def test_the_body_is_not_read():
    """Nor does the client hear that it may send it; the connection is closed."""
    for line in (b"Host: evil.example\r\n", b"Host: localhost\r\nOrigin: null\r\n"):
        talk = Conversation(Server().handler)
        (answer,) = talk.answers(
            b"POST /blob/name HTTP/1.1\r\n" + line + b"Content-Length: 9999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert answer.status in (403, 421)
        assert answer.headers[b"connection"] == b"close"


def test_what_comes_behind_is_not_looked_at():
    """There is one answer."""
    talk = Conversation(Server().handler)
    wrong = b"GET /digests HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    (answer,) = talk.answers(wrong + wrong.replace(b"evil.example", b"localhost"))
    assert answer.status == 421
    assert talk.closed


def test_it_comes_before_what_else_has_to_be_passed():
    """Who is refused by the name does not hear whether a secret is right."""

    def inner(request):
        raise Unauthorized("no", "Bearer")

    server = Server(inner=inner)
    assert server.get("evil.example").status == 421
    assert server.post("localhost", CROSS_SITE).status == 403
    assert server.get("localhost").status == 401
    assert server.get("evil.example", "/alive").status == 401


def test_the_log_tells_some_of_the_refusals():
    """A line a second, with the number of others."""
    server = Server()
    with capturedLogs() as events:
        for number in range(50):
            server.get(f"evil{number}.example")
        server.now += 2
        server.post("localhost", "Origin: http://evil.example/\xff")
    lines = [formatEvent(each) for each in events]
    assert len(lines) == 2
    assert "evil0.example" in lines[0]
    assert "(and 49 others since the last line)" in lines[1]
