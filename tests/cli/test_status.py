"""``sos status``, of real servers."""

from __future__ import annotations

import json
import re
import signal
import socket

import pytest

from tests.support.blobs import body_of
from tests.support.http import fetch
from tests.support.ports import free_ports
from tests.support.processes import Place
from tests.support.waiting import eventually, wait_until


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.stop()


@pytest.fixture
def blob_servers(place):
    ports = free_ports(2)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    (place.home / ".sos.conf").write_text(
        f"[first]\n-: {urls[0]} preferred weight=2\n[second]\n-: {urls[1]} readonly\n"
        "[sos]\nmin-copies = 1\n"
    )
    daemons = [place.twistd(f"sos-blob --port {each} --store data{each}", each) for each in ports]
    return list(zip(urls, daemons, strict=True))


def rows(done):
    """Return the cells of the lines that tell of servers."""
    lines = done.stdout.decode().splitlines()
    return [line.split() for line in lines if line.split()[:1] and "://" in line.split()[0]]


def ended(place, command, code):
    """Return how the command ended when it was with *code*: a server can be slow to answer."""
    return eventually(lambda: place.sos(command), lambda done: done.returncode == code)


def test_the_servers_that_the_configuration_lists(place, blob_servers):
    """By group, with their marks and what they hold; the exit status says whether all are up."""
    (first, _), (second, gone) = blob_servers
    fetch(f"{first}/blob/a", body_of(1000))
    done = ended(place, "status", 0)
    assert b"\x1b" not in done.stdout  # it is no terminal
    cells, readonly = rows(done)
    assert cells[:6] == [first, "preferred", "weight=2", "up", "1.0", "kB"]
    assert cells[-1] == "1"
    assert readonly[:3] == [second, "readonly", "up"]
    assert done.stdout.decode().splitlines()[0].strip() == "first"
    gone.stop()
    done = ended(place, "status", 1)
    assert done.stderr == b""
    assert f"{second} readonly  unreachable: {second} cannot be reached" in done.stdout.decode()
    ended(place, f"status --blob-server {first}", 0)


def test_a_document(place, blob_servers):
    """Of the same, and the exit status as well."""
    (first, _), (second, gone) = blob_servers
    document = json.loads(ended(place, "status --json", 0).stdout)
    assert next(iter(document.items())) == ("ok", True)
    groups = document["groups"]
    states = {each["url"]: each["state"] for servers in groups.values() for each in servers}
    assert states == {first: "up", second: "up"}
    gone.stop()
    document = json.loads(ended(place, "status --json", 1).stdout)
    assert next(iter(document.items())) == ("ok", False)
    groups = document["groups"]
    assert groups["second"][0]["state"] == "unreachable"


def test_what_an_api_server_has_seen(place, blob_servers):
    """Its counts, with what else it tells; or its document."""
    up, down, admin = free_ports(3)
    place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"--admin-port {admin} --replicate-every 1",
        up,
        admin,
    )
    fetch(f"http://127.0.0.1:{up}/upload", body_of(1000))
    url = f"http://127.0.0.1:{admin}"
    assert wait_until(lambda: b"last replication pass, " in place.sos(f"status --url {url}").stdout)
    done = ended(place, f"status --url {url}", 0)
    (requests, _, p50, p95), (_, _, *unknown) = (cells[-4:] for cells in rows(done))
    assert requests == "1"
    assert 0 < float(p50) <= float(p95)
    assert unknown == ["-", "-"]
    assert re.search(rb"^sos-api \S+, up 0:\d\d:\d\d$", done.stdout, re.MULTILINE)
    document = json.loads(place.sos(f"status --json --url {url}").stdout)
    assert document["settings"]["min-copies"] == 1
    blob_servers[0][1].stop()
    ended(place, f"status --url {url}", 1)


def test_groups_that_are_too_small_are_told(place, blob_servers):
    """All servers are up, and losing one can lose objects: that is not well."""
    path = place.home / ".sos.conf"
    path.write_text(path.read_text().replace("min-copies = 1", "min-copies = 2"))
    up, down, admin = free_ports(3)
    api = place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"--admin-port {admin}",
        admin,
    )
    warnings = [
        f"group {name} can keep 1 of the 2 copies of each object that min-copies asks for: "
        "add servers to it, or lower min-copies"
        for name in ("first", "second")
    ]
    for command in ("status", f"status --url http://127.0.0.1:{admin}"):
        done = ended(place, command, 1)
        lines = done.stdout.decode().splitlines()
        assert {f"warning: {each}" for each in warnings} <= {*lines}
        document = json.loads(place.sos(f"{command} --json").stdout)
        assert document["ok"] is False
        assert document["warnings"][:2] == warnings
    assert wait_until(lambda: all(api.log.count(each) == 1 for each in warnings))
    api.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: all(api.log.count(each) == 2 for each in warnings))


def test_an_api_server_with_a_store_of_its_own(place):
    """That is one line."""
    up, down, admin = free_ports(3)
    ports = f"--upload-port {up} --download-port {down} --admin-port {admin}"
    place.twistd(f"sos-api --store data --api-host 127.0.0.1 {ports}", admin)
    done = place.sos(f"status --url http://127.0.0.1:{admin}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert f" {place.directory}/data  up " in done.stdout.decode()
    assert b"scrub: 0 blobs checked" in done.stdout


def test_what_is_no_admin_port(place, blob_servers):
    """Another server, or none: one line, and 1; wrong arguments are 2."""
    (first, _), _ = blob_servers
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        free = nobody.getsockname()[1]
    for url in (first, f"http://127.0.0.1:{free}"):
        done = place.sos(f"status --url {url}")
        assert done.returncode == 1
        (line,) = done.stderr.decode().splitlines()
        assert url in line
    assert place.sos("status --url nonsense").returncode == 2
    assert place.sos(f"status --url {first} --blob-server {first}").returncode == 2
    (place.home / ".sos.conf").write_text("")
    done = place.sos("status")
    assert done.returncode == 2
    assert b"--blob-server" in done.stderr
