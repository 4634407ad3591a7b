"""Outgrowing one machine: API servers and blob servers whose blobs lie in Swift, by S3."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, connect, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

MEGABYTE = 1024 * 1024


@pytest.fixture
def at_swift(place, swift):
    """Where processes are started that have the keys to Swift."""
    place.environment.update(swift.environment)
    return place


class Api:
    """An API server over a bucket, which keeps nothing itself."""

    def __init__(self, place, url):
        up, down = free_ports(2)
        self.up, self.down = f"http://127.0.0.1:{up}/upload", f"http://127.0.0.1:{down}/fetch/"
        self.upload_port = up
        self.daemon = place.twistd(
            f"sos-api --store '{url}' --api-host 127.0.0.1 "
            f"--upload-port {up} --download-port {down}",
            up,
            down,
        )
        assert wait_until(lambda: "opened the store" in self.daemon.log), self.daemon.log

    def upload(self, body):
        return json.loads(fetch(self.up, body))["id"]

    def fetch(self, id, headers=()):
        return fetch(self.down + id, headers=headers)


def test_two_api_servers_are_one_store_that_survives_what_fails(at_swift, swift):
    """What one acknowledged the other serves, whoever is killed in between."""
    url = swift.url("outgrowing", "api")
    one, two = Api(at_swift, url), Api(at_swift, url)
    assert not any("testing" in each.daemon.log for each in (one, two))
    acknowledged = {}
    for size in (0, 1, 1000, 70_000, 3 * MEGABYTE, 20 * MEGABYTE):
        acknowledged[one.upload(body_of(size))] = body_of(size)
    large = list(acknowledged)[-1]
    for id, body in acknowledged.items():
        assert content_id(body) == id
        assert two.fetch(id) == body
    # Equal chunks are stored once, and a part is read from its chunks alone.
    assert two.upload(acknowledged[large]) == large
    part = f"bytes={8 * MEGABYTE - 5}-{16 * MEGABYTE + 5}"
    wanted = acknowledged[large][8 * MEGABYTE - 5 : 16 * MEGABYTE + 6]
    assert two.fetch(large, {"Range": part}) == wanted

    # One API server is killed while it takes an object.
    cut = body_of(20 * MEGABYTE, seed=1)
    upload = connect(f"http://127.0.0.1:{one.upload_port}")
    upload.putrequest("POST", "/upload")
    upload.putheader("Content-Length", str(len(cut)))
    upload.endheaders(cut[: 12 * MEGABYTE])
    one.daemon.stop(signal.SIGKILL)
    upload.close()
    assert ask(two.down + content_id(cut)).status == 404
    assert two.upload(cut) == content_id(cut)
    acknowledged[content_id(cut)] = cut

    # Swift loses one of its three object servers, and all goes on.
    swift.kill("object2")
    try:
        for seed in range(2, 5):
            body = body_of(300_000, seed)
            acknowledged[two.upload(body)] = body
        three = Api(at_swift, url)
        for id, body in acknowledged.items():
            assert three.fetch(id) == body
    finally:
        swift.start("object2")
    for id, body in acknowledged.items():
        assert two.fetch(id) == body

    # Without Swift there is nothing, and nobody says otherwise; with it there is all again.
    swift.kill("proxy")
    try:
        assert ask(two.up, b"not now").status == 503
        assert ask(two.down + large).status == 503
    finally:
        swift.start("proxy")
    assert wait_until(lambda: ask(two.down + large).status == 200)
    assert two.fetch(large) == acknowledged[large]
    assert wait_until(lambda: ask(two.up, b"now").status == 200)


def test_everything_moves_into_a_bucket_and_out_of_it_again(at_swift, swift):
    """sos replicate brings all of a directory to S3, and all of that to an empty directory."""
    ports = free_ports(3)
    home, cloud, back = (f"http://127.0.0.1:{port}" for port in ports)
    at_swift.twistd(f"sos-blob --port {ports[0]} --store home", ports[0])
    bodies = {content_id(each): each for each in map(body_of, (0, 1, 5000, 70_000, 9 * MEGABYTE))}
    bodies["holiday"] = body_of(200_000, seed=9)
    for id, body in bodies.items():
        fetch(f"{home}/blob/{id}", body, {"X-Mime-Type": "image/png", "X-Name": "caf\u00e9"})
    at_swift.twistd(
        f"sos-blob --port {ports[1]} --store '{swift.url('outgrowing', 'moved')}'", ports[1]
    )
    assert wait_until(lambda: json.loads(fetch(f"{cloud}/status"))["writable"])

    _replicate(at_swift, home, cloud)
    _holds(cloud, bodies)
    api = Api(at_swift, swift.url("outgrowing", "moved"))
    for id, body in bodies.items():
        assert api.fetch(id) == body
    at_swift.twistd(f"sos-blob --port {ports[2]} --store back", ports[2])
    _replicate(at_swift, cloud, back)
    _holds(back, bodies)
    digests = [json.loads(fetch(f"{each}/digests")) for each in (home, cloud, back)]
    assert digests[0] == digests[1] == digests[2]
    assert len(digests[0]) == len(bodies)
    assert os.path.isdir(at_swift.directory / "back" / "bodies")


def _replicate(place, source, target):
    done = place.sos(f"replicate --min-copies all --blob-server {source},{target}")
    assert done.returncode == 0, done.stdout + done.stderr


def _holds(url, bodies):
    assert sorted(json.loads(fetch(f"{url}/blobs"))) == sorted(bodies)
    for id, body in bodies.items():
        assert fetch(f"{url}/blob/{id}") == body
