"""Requests by names that are not the daemons', as real processes."""

from __future__ import annotations

import json
import socket
import ssl

from tests.support.certificates import Authority
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


class Daemons:
    """A blob server and an API server on the loopback interface of this machine."""

    def __init__(self, place, address="127.0.0.1", more=""):
        ports = free_ports(4)
        shown = f"[{address}]" if ":" in address else address
        self.blob, self.up, self.down, self.admin = (f"http://{shown}:{port}" for port in ports)
        self.ports = ports
        escaped = address.replace(":", "\\\\:")
        self.daemons = [
            place.twistd(f"sos-blob --host {address} --port {ports[0]} --store data {more}"),
            place.twistd(
                f"sos-api --api-host {address} --upload-port {ports[1]} "
                f"--download-port {ports[2]} --store own "
                f"--listen-admin tcp:{ports[3]}:interface={escaped} {more}"
            ),
        ]
        for url in (f"{self.blob}/alive", f"{self.admin}/readyz"):
            assert wait_until(lambda url=url: answered(url))

    def by_name(self, name="evil.example"):
        """Return what is answered at each port to who names it so, with the port."""
        paths = (
            (self.blob, "/status"),
            (self.up, "/upload"),
            (self.down, "/fetch/abc"),
            (self.admin, "/status"),
        )
        return [
            ask(url + path, headers={"Host": f"{name}:{port}"}).status
            for (url, path), port in zip(paths, self.ports, strict=True)
        ]


def answered(url):
    try:
        return ask(url).status == 200
    except OSError:
        return False


def test_rebinding_to_daemons(place):
    """A lease was to be had so, and a blob to be dropped.  The log names each refusal."""
    daemons = Daemons(place)
    assert daemons.by_name() == [421] * 4
    evil = {"Host": "evil.example"}
    assert ask(f"{daemons.blob}/lease?seconds=9", b"", evil).status == 421
    assert ask(f"{daemons.blob}/blob/name", b"abc", evil).status == 421
    assert ask(f"{daemons.blob}/blob/name", b"abc", {"Origin": "http://evil.example"}).status == 403
    page = {"Sec-Fetch-Site": "cross-site"}
    assert ask(f"{daemons.blob}/lease?seconds=9", b"", page).status == 403
    assert ask(f"{daemons.up}/upload", b"abc", page).status == 403
    assert json.loads(fetch(f"{daemons.blob}/blobs")) == []
    for daemon in daemons.daemons:
        assert "request refused: GET /" in daemon.log
        assert "evil.example" in daemon.log
    id = json.loads(fetch(f"{daemons.up}/upload", b"abc"))["id"]
    proxied = {"Host": "objects.example.org"}
    assert fetch(f"{daemons.down}/fetch/{id}", headers=proxied) == b"abc"


def test_daemons_at_an_ipv6_address(place):
    """Are asked by it, and by no name."""
    daemons = Daemons(place, "::1")
    assert fetch(f"{daemons.blob}/blobs") == b"[]"
    id = json.loads(fetch(f"{daemons.up}/upload", b"abc"))["id"]
    assert fetch(f"{daemons.down}/fetch/{id}") == b"abc"
    assert daemons.by_name() == [421] * 4
    assert daemons.by_name("localhost") == [200, 405, 404, 200]


def test_over_tls(place):
    """The name that a client has asked for by TLS does not matter, that in Host does."""
    authority = Authority(place.directory, "ca")
    authority.issue("server")
    tls = "--tls-certificate server.pem --tls-key server.key"
    (port,) = free_ports(1)
    place.twistd(f"sos-blob --port {port} --store data {tls} --hosts sos.example", port)
    context = ssl.create_default_context(cafile=authority.path)
    context.check_hostname = False
    for sni, host, status in (
        ("sos.example", "evil.example", b"421"),
        ("evil.example", "sos.example", b"200"),
        ("sos.example", "sos.example", b"200"),
        (None, f"127.0.0.1:{port}", b"200"),
    ):
        with (
            socket.create_connection(("127.0.0.1", port), 60) as plain,
            context.wrap_socket(plain, server_hostname=sni) as client,
        ):
            client.sendall(f"GET /digests HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            assert client.makefile("rb").readline().split()[1] == status


def test_a_unix_socket(place):
    """Curl and our own commands name it localhost."""
    (port,) = free_ports(1)
    place.twistd(f"sos-blob --port {port} --store data --listen-admin unix:admin", port)
    path = place.directory / "admin"
    assert wait_until(path.exists)
    for host, status in (("localhost", b"200"), ("evil.example", b"421"), ("sos", b"421")):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(f"GET /status HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            assert client.makefile("rb").readline().split()[1] == status
