"""One cluster of this version and of another release, as in the midst of an upgrade."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.processes import Place
from tests.support.waiting import eventually


@pytest.fixture
def other(request, tmp_path):
    """Where processes of the other release are started."""
    (tmp_path / "other").mkdir()
    place = Place(tmp_path / "other")
    place.forked = False
    place.environment["PYTHONPATH"] = request.config.getoption("--other-release")
    yield place
    place.stop()


@pytest.fixture
def cluster(place, other):
    """A blob server and an API server of each version; gives the ports of all of them."""
    blobs = free_ports(2)
    for each, port in zip((place, other), blobs, strict=True):
        each.twistd(f"sos-blob --port {port} --store data", port)
    apis = []
    for each in (place, other):
        config = Path(each.directory) / "sos.conf"
        config.write_text("".join(f"http://127.0.0.1:{port}\n" for port in blobs))
        upload, download, admin = free_ports(3)
        each.twistd(
            f"sos-api --config {config} --upload-port {upload} --download-port {download} "
            f"--admin-port {admin} --replicate-every 0",
            upload,
            download,
        )
        apis.append((upload, download))
    return blobs, apis


BODIES = [body_of(size, n) for n, size in enumerate([0, 1, 1000, 16_000, 64_000, 70_000] * 5)]


def test_either_serves_what_the_other_has_stored(cluster):
    """Small and large, with its metadata."""
    _, apis = cluster
    for upload, download in zip(
        (up for up, _ in apis), (down for _, down in reversed(apis)), strict=True
    ):
        for n, body in enumerate(BODIES):
            answer = fetch(f"http://127.0.0.1:{upload}/upload", body, {"X-Meta-N": str(n)})
            assert json.loads(answer)["id"] == content_id(body)
        for n, body in enumerate(BODIES):
            found = ask(f"http://127.0.0.1:{download}/fetch/{content_id(body)}")
            assert (found.status, found.body) == (200, body)
            assert body == b"" or found.headers["x-meta-n"] == str(n)
        missing = ask(f"http://127.0.0.1:{download}/fetch/{'0' * 40}")
        assert missing.status == 404


@pytest.mark.parametrize("replicating", ["this", "the other"])
def test_either_replicates_between_both(place, other, cluster, replicating):
    """In both directions, and a second pass finds nothing to do.

    The other release does not note that an object was uploaded again.
    """
    blobs, _ = cluster
    urls = [f"http://127.0.0.1:{port}" for port in blobs]
    for n, body in enumerate(dict.fromkeys(BODIES)):
        fetch(f"{urls[n % 2]}/blob/{content_id(body)}", body, {"X-Meta-N": str(n)})
    for n in range(300):  # so many that they go in batches, where both know these
        body = b"%d" % n
        fetch(f"{urls[n % 2]}/blob/{content_id(body)}", body)
    replicator = place if replicating == "this" else other
    done = replicator.sos(f"replicate --min-copies 2 --blob-server {','.join(urls)}")
    assert done.returncode == 0, (done.stdout, done.stderr)
    digests = [json.loads(fetch(f"{url}/digests")) for url in urls]
    assert digests[0] == digests[1]
    assert sum(count for count, _, _ in digests[0].values()) == len({*BODIES}) + 300
    again = replicator.sos(f"replicate --min-copies 2 --blob-server {','.join(urls)}")
    assert b" 0 made, 0 failed" in again.stdout


def test_a_store_of_the_other_release(place, other):
    """It is opened, and has what it had."""
    before, after = free_ports(2)
    daemon = other.twistd(f"sos-blob --port {before} --store data", before)
    for body in BODIES:
        fetch(f"http://127.0.0.1:{before}/blob/{content_id(body)}", body)
    daemon.stop()
    place.twistd(f"sos-blob --port {after} --store {other.directory}/data", after)
    for body in BODIES:
        assert fetch(f"http://127.0.0.1:{after}/blob/{content_id(body)}") == body
    status = eventually(
        lambda: json.loads(fetch(f"http://127.0.0.1:{after}/status")), lambda found: found["blobs"]
    )
    assert status["blobs"] == len({*BODIES})


def test_nothing_is_deleted_or_expires_while_a_server_cannot_remember_it(place, other, cluster):
    """Neither version deletes then; the older one does not know how."""
    _, apis = cluster
    upload, download, admin = free_ports(3)
    config = Path(place.directory) / "sos.conf"
    place.twistd(
        f"sos-api --config {config} --upload-port {upload} --download-port {download} "
        f"--admin-port {admin} --replicate-every 0 --allow-delete",
        upload,
        download,
    )
    id = content_id(BODIES[2])
    for port in (upload, apis[1][0]):
        fetch(f"http://127.0.0.1:{port}/upload", BODIES[2])
    answer = ask(f"http://127.0.0.1:{upload}/upload/{id}", method="DELETE")
    assert (answer.status, "upgrade" in answer.json["error"]) == (409, True)
    assert ask(f"http://127.0.0.1:{apis[1][0]}/upload/{id}", method="DELETE").status >= 400
    for method, name in (("POST", ""), ("POST", f"/{id}")):
        url = f"http://127.0.0.1:{upload}/upload{name}?expires=1h"
        answer = ask(url, b"" if name else b"for an hour", method=method)
        assert (answer.status, "upgrade" in answer.json["error"]) == (409, True)
    for _, port in apis:
        assert fetch(f"http://127.0.0.1:{port}/fetch/{id}") == BODIES[2]


@pytest.mark.parametrize("between", ["nothing", "a renewal", "an upload"])
def test_a_deletion_leaves_chunks_of_the_other_release(place, other, between):
    """It did not mark them: an object with the same bytes can be deleted without them."""
    up, down, admin = free_ports(3)
    ports = f"--upload-port {up} --download-port {down} --admin-port {admin}"
    [blob] = free_ports(1)
    whole = body_of(200_000, 7)
    first = whole[:65536]
    config = f"--blob-server http://127.0.0.1:{blob} --min-copies 1 --chunk-size 64K {ports}"
    store = Path(other.directory) / "data"
    daemons = [
        other.twistd(f"sos-blob --port {blob} --store {store}", blob),
        other.twistd(f"sos-api {config}", up, down),
    ]
    fetch(f"http://127.0.0.1:{up}/upload", first, {"X-Mime-Type": "image/png"})
    fetch(f"http://127.0.0.1:{up}/upload", whole)
    for daemon in daemons:
        daemon.stop()
    place.twistd(f"sos-blob --port {blob} --store {store}", blob)
    place.twistd(f"sos-api {config} --allow-delete", up, down)
    if between == "a renewal":
        fetch(f"http://127.0.0.1:{up}/upload/{content_id(first)}", b"")
    elif between == "an upload":
        fetch(f"http://127.0.0.1:{up}/upload", first)
    answer = ask(f"http://127.0.0.1:{up}/upload/{content_id(first)}", method="DELETE")
    assert answer.status == 200
    assert ask(f"http://127.0.0.1:{down}/fetch/{content_id(first)}").status == 410
    assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(whole)}") == whole
