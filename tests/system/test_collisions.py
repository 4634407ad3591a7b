"""Two bodies with one SHA-1, sent to whole servers; and ids that are SHA-256."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest

from tests.support.blobs import body_of, colliding, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports

CHUNK = 64 * 1024
#: Inline, in a file, in chunks of which the first is another.
SIZES = (320, 60_000, 65_536, 200_000)


def upload(url, body):
    digest = b64encode(sha256(body).digest()).decode("ascii")
    return ask(f"{url}/upload", body, {"Repr-Digest": f"sha-256=:{digest}:"})


@pytest.fixture
def blob_servers(place):
    ports = free_ports(2)
    for port in ports:
        place.twistd(f"sos-blob --port {port} --store d{port}", port)
    return [f"http://127.0.0.1:{port}" for port in ports]


def api(place, servers, options=""):
    """Start an API server, and return where it takes uploads, and where it is read from."""
    up, down = free_ports(2)
    place.twistd(
        f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} --admin-port 0 "
        f"--blob-server {','.join(servers)} --chunk-size {CHUNK} --replicate-every 0 {options}",
        up,
        down,
    )
    return f"http://127.0.0.1:{up}", f"http://127.0.0.1:{down}"


@pytest.mark.parametrize("copies", [1, 2])
def test_the_second_of_two_bodies_is_refused(place, blob_servers, copies):
    """With 409, whoever is asked; the first is what is read, and can be sent again."""
    up, down = api(place, blob_servers, f"--write-copies {copies}")
    for size in SIZES:
        first, second = colliding(size)
        id = content_id(first)
        assert upload(up, first).status == 200
        answer = upload(up, second)
        assert (answer.status, "another body with the id" in answer.json["error"]) == (409, True)
        assert all(server not in answer.json["error"] for server in blob_servers)
        assert upload(up, first).status == 200
        assert fetch(f"{down}/fetch/{id}") == first
    first, second = colliding(320)
    assert ask(f"{blob_servers[0]}/blob/{content_id(first)}", first).status == 200
    assert ask(f"{blob_servers[0]}/blob/{content_id(second)}", second).status == 409
    (place.directory / "second").write_bytes(second)
    done = place.sos(f"put second --to {up} --from {down}")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"another body with the id" in done.stderr


def test_ids_can_be_sha256(place, blob_servers):
    """Then both are stored, in chunks as well; what was stored under a SHA-1 can still be read."""
    old_up, old_down = api(place, blob_servers)
    old = body_of(200_000, seed=1)
    assert upload(old_up, old).json["id"] == content_id(old)
    up, down = api(place, blob_servers, "--hash sha256")
    for size in SIZES:
        for body in colliding(size):
            id = sha256(body).hexdigest()
            assert upload(up, body).json["id"] == id
            assert fetch(f"{down}/fetch/{id}") == body
            assert fetch(f"{old_down}/fetch/{id}") == body
    assert fetch(f"{down}/fetch/{content_id(old)}") == old
    names = []
    for number, body in enumerate(colliding(150_000)):
        names.append(f"file{number}")
        (place.directory / names[-1]).write_bytes(body)
        done = place.sos(f"put {names[-1]} --to {up} --from {down}")
        assert done.stdout.decode() == f"{sha256(body).hexdigest()}  {names[-1]}\n"
    servers = ",".join(blob_servers)
    done = place.sos(f"replicate --min-copies all --blob-server {servers}")
    assert done.returncode == 0, (done.stdout, done.stderr)
    listed = [ask(f"{server}/blobs").json for server in blob_servers]
    assert listed[0] == listed[1]
    # Of the old object its manifest and four chunks.
    assert sum(len(id) == 40 for id in listed[0]) == 5
    assert {len(id) for id in listed[0]} == {40, 64}
