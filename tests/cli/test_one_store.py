"""One blob server under two addresses, in real processes."""

from __future__ import annotations

import json
import shutil

from tests.support.blobs import body_of
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


def test_two_addresses_of_a_server_are_one_copy(place):
    """No upload is acknowledged as two, and everybody says why."""
    port, up, down, admin = free_ports(4)
    place.twistd(f"sos-blob --port {port} --store data", port)
    urls = f"http://localhost:{port},http://127.0.0.1:{port}"
    api = place.twistd(
        f"sos-api --blob-server {urls} --write-copies 2 --api-host 127.0.0.1 "
        f"--upload-port {up} --download-port {down} --admin-port {admin} --replicate-every 1",
        admin,
    )
    assert ask(f"http://127.0.0.1:{up}/upload", body_of(1000)).status == 503
    message = f"http://127.0.0.1:{port} and http://localhost:{port} are the same store"
    assert wait_until(lambda: message in api.log)
    for command in (f"status --blob-server {urls}", f"status --url http://127.0.0.1:{admin}"):
        done = place.sos(command)
        assert done.returncode == 1
        assert f"error: {message}" in done.stdout.decode()
        document = json.loads(place.sos(f"{command} --json").stdout)
        assert document["ok"] is False
        assert document["errors"][0].startswith(message)
        ids = {each["id"] for each in document["groups"]["default"]}
        assert ids == {json.loads((place.directory / "data/store.json").read_text())["id"]}
    done = place.sos(f"balance --blob-server {urls}")
    assert done.returncode == 1
    assert message in done.stderr.decode()
    assert len(json.loads(fetch(f"http://127.0.0.1:{port}/blobs"))) == 1


def test_a_wiped_disk_is_told(place):
    """By an API server that has seen what was there before."""
    port, up, down, admin = free_ports(4)
    server = place.twistd(f"sos-blob --port {port} --store data", port)
    api = place.twistd(
        f"sos-api --blob-server http://localhost:{port} --min-copies 1 --api-host 127.0.0.1 "
        f"--upload-port {up} --download-port {down} --admin-port {admin} --replicate-every 0.2",
        admin,
    )
    status = f"status --url http://127.0.0.1:{admin}"
    assert wait_until(lambda: place.sos(status).returncode == 0)
    server.stop()
    shutil.rmtree(place.directory / "data")
    place.twistd(f"sos-blob --port {port} --store data", port)
    message = f"http://localhost:{port} has another store id than before"
    assert wait_until(lambda: message in place.sos(status).stdout.decode())
    assert place.sos(status).returncode == 1
    assert api.process.poll() is None
