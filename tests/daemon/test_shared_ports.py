"""Several API servers on the same ports."""

from __future__ import annotations

import json
import socket

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from sos.daemon.shared_ports import sharing_ports
from tests.support.blobs import body_of, content_id
from tests.support.http import fetch
from tests.support.ports import free_ports

# So many that each of two has some, but for a chance of 1 in 2 to the 63.
CONNECTIONS = 64


class Names(Factory):
    """Says a name to whoever connects."""

    noisy = False

    def __init__(self, name):
        self.name = name

    def buildProtocol(self, address):
        protocol = Protocol()
        protocol.connectionMade = lambda: (
            protocol.transport.write(self.name),
            protocol.transport.loseConnection(),
        )
        return protocol


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@ensureDeferred
async def test_both_are_given_connections(reactor, host):
    escaped = host.replace(":", r"\:")
    first = await sharing_ports(reactor, f"tcp:0:interface={escaped}").listen(Names(b"a"))
    number = first.getHost().port
    again = f"tcp:{number}:interface={escaped}"
    second = await sharing_ports(reactor, again).listen(Names(b"b"))

    def name_of_server():
        with socket.create_connection((host, number), 60) as client:
            return client.makefile("rb").read()

    assert {await deferToThread(name_of_server) for _ in range(CONNECTIONS)} == {b"a", b"b"}
    await second.stopListening()
    assert {await deferToThread(name_of_server) for _ in range(4)} == {b"a"}
    await first.stopListening()


@ensureDeferred
async def test_a_port_that_somebody_else_has(reactor):
    """Both have to agree to share it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(CannotListenError, match="in use"):
            await sharing_ports(reactor, f"tcp:{number}:interface=127.0.0.1").listen(Names(b""))


def test_two_api_servers(place):
    """Either serves what the other took; one goes on when the other has stopped."""
    up, down, blob, *admins = free_ports(5)
    place.twistd(f"sos-blob --port {blob} --store data", blob)
    servers = [
        place.twistd(
            f"sos-api --blob-server http://127.0.0.1:{blob} --api-host 127.0.0.1 --min-copies 1 "
            f"--upload-port {up} --download-port {down} --admin-port {admin} --reuse-port",
            admin,
        )
        for admin in admins
    ]
    for number in range(CONNECTIONS):
        body = body_of(100, number)
        id = json.loads(fetch(f"http://127.0.0.1:{up}/upload", body))["id"]
        assert fetch(f"http://127.0.0.1:{down}/fetch/{id}") == body

    def uploads(admin):
        routes = json.loads(fetch(f"http://127.0.0.1:{admin}/status"))["requests"]["routes"]
        return sum(each["count"] for each in routes if each["route"] == "/upload")

    counts = [uploads(admin) for admin in admins]
    assert min(counts) > 0
    assert sum(counts) == CONNECTIONS
    servers[0].stop()
    for _ in range(4):
        assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(body)}") == body
    ended = place.run_twistd(
        f"-n sos-api --store other --api-host 127.0.0.1 --upload-port {up} --admin-port 0"
    )
    assert ended.returncode == 1
    assert b"in use" in ended.stdout


@pytest.mark.parametrize("daemon", ["sos-blob", "sos-api"])
@pytest.mark.parametrize("option", ["--workers 2", "--workers=1", "-w 2"])
def test_workers_are_gone(place, daemon, option):
    """One line says so, and what takes their place."""
    ended = place.run_twistd(f"-n {daemon} --store data {option}")
    assert ended.returncode == 2
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith(f"{daemon}: --workers no longer exists: ")
    assert "--reuse-port" in line
    assert not (place.directory / "data").exists()
