"""What daemons tell of how they are doing, as real processes."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.blobs import body_of
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import eventually, wait_until


class Api:
    """An API server with an admin port."""

    def __init__(self, place, options):
        up, down, admin = free_ports(3)
        self.daemon = place.twistd(
            f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
            f"--admin-port {admin} {options}",
            up,
            down,
            admin,
        )
        self.up = f"http://127.0.0.1:{up}/upload"
        self.admin = f"http://127.0.0.1:{admin}"

    def status(self):
        return json.loads(fetch(f"{self.admin}/status"))

    def servers(self):
        (servers,) = self.status()["groups"].values()
        return servers


def blob_servers(place, count):
    ports = free_ports(count)
    daemons = [place.twistd(f"sos-blob --port {each} --store data{each}", each) for each in ports]
    return daemons, ",".join(f"http://127.0.0.1:{port}" for port in ports)


def test_the_servers_behind_an_api_server(place):
    """What they hold, how they answer, and that one is gone; and whether uploads are taken."""
    daemons, urls = blob_servers(place, 2)
    api = Api(place, f"--blob-server {urls} --write-copies 2 --replicate-every 1")
    for seed in range(5):
        assert wait_until(lambda seed=seed: ask(api.up, body_of(1000, seed)).status == 200)
    servers = eventually(api.servers, lambda found: {each["blobs"] for each in found} == {5})
    assert [each["url"] for each in servers] == urls.split(",")
    for server in servers:
        assert server["size"] == 5000
        assert server["requests"] >= 5
        assert 0 < server["p50_ms"] <= server["p95_ms"]
        assert 0 < server["free"] < server["capacity"]
    assert wait_until(lambda: states(api) == ["up", "up"])
    assert wait_until(lambda: api.status()["replication"]["last"])
    assert wait_until(lambda: ask(f"{api.admin}/readyz").status == 200)
    assert fetch(f"{api.admin}/healthz") == b"alive"
    daemons[1].stop()
    assert wait_until(lambda: states(api) == ["up", "unreachable"])
    assert ask(f"{api.admin}/readyz").status == 503
    assert ask(api.up, body_of(1000)).status == 503
    gone = eventually(lambda: api.servers()[1], lambda each: each["state"] == "left alone")
    assert "connection refused" in gone["reason"]
    assert gone["errors"] >= 1
    assert gone["last_error"] == gone["reason"]
    assert wait_until(lambda: api.status()["replication"]["last"]["summary"]["unlisted"])


def states(api):
    return [each["state"] for each in api.servers()]


def test_a_store_of_its_own(place):
    """Its status, and the scrub's report."""
    api = Api(place, "--store data")
    fetch(api.up, body_of(1000))
    document = api.status()
    assert (document["store"]["writable"], document["store"]["blobs"]) == (True, 1)
    assert document["scrub"]["checked"] == 0
    assert document["settings"]["store"] == str(place.directory / "data")
    assert fetch(f"{api.admin}/readyz") == b"ready"


@pytest.mark.parametrize("option", ["", "--allow-delete"])
@pytest.mark.parametrize("store", ["--store data", "--blob-server http://127.0.0.1:9"])
def test_the_status_says_whether_objects_can_be_deleted(place, store, option):
    """The page has a button for it only there."""
    single = "" if store.startswith("--store") else "--min-copies 1"
    settings = Api(place, f"{store} {single} {option}").status()["settings"]
    assert settings["allow-delete"] is bool(option)


def test_the_port_is_taken(place):
    """The error names what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = f"--upload-port 0 --download-port 0 --admin-port {port}"
        ended = place.run_twistd(f"-n sos-api --store data {ports}")
    output = ended.stdout.decode() + ended.stderr.decode()
    assert ended.returncode == 1
    (line,) = [line for line in output.splitlines() if "cannot start" in line]
    assert "in use" in line
    assert "--admin-port" in line
    assert "0 for none" in line


def test_an_endpoint_in_place_of_the_port(place):
    """A Unix socket, say, which only some may use."""
    ports = free_ports(2)
    place.twistd(
        f"sos-api --store data --upload-port {ports[0]} --download-port {ports[1]} "
        "--listen-admin unix:admin:mode=600",
        *ports,
    )
    path = place.directory / "admin"
    assert wait_until(path.exists)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"alive")
