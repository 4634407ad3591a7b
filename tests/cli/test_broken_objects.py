"""An object of which a chunk is gone everywhere, with real daemons: who tells of it."""

from __future__ import annotations

import json

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

SIZE = 64 * 1024
BODY = body_of(10 * SIZE)
ID = content_id(BODY)
CHUNK = content_id(BODY[3 * SIZE : 4 * SIZE])


class Cluster:
    """Two groups of blob servers, an API server that replicates, and an object in chunks."""

    def __init__(self, place):
        ports = free_ports(4)
        self.place = place
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        for port in ports:
            place.twistd(f"sos-blob --port {port} --store blob{port}", port)
        lines = ["[first]", *(f"-: {url}" for url in self.urls[:2])]
        lines += ["[second]", *(f"-: {url}" for url in self.urls[2:])]
        (place.home / ".sos.conf").write_text("\n".join(lines) + "\n")
        self.up, self.down, self.admin = free_ports(3)
        place.twistd(
            "sos-api --write-copies 2 --replicate-every 0.2 --chunk-size 64K "
            f"--api-host 127.0.0.1 --admin-port {self.admin} "
            f"--upload-port {self.up} --download-port {self.down}",
            self.up,
            self.down,
            self.admin,
        )
        place.environment["SOS_UPLOAD"] = f"http://127.0.0.1:{self.up}"
        place.environment["SOS_DOWNLOAD"] = f"http://127.0.0.1:{self.down}"
        (place.directory / "file").write_bytes(BODY)

    def passes(self):
        return json.loads(fetch(f"http://127.0.0.1:{self.admin}/status"))["replication"]

    def broken(self):
        last = self.passes()["last"]
        return last and last["summary"]["broken"]

    def lose(self, id):
        """Drop a chunk everywhere; replication may bring it back meanwhile."""
        for url in self.urls:
            given = ask(f"{url}/lease?seconds=60", b"")
            if given.status != 200:
                continue
            lease = given.json["lease"]
            fetch(f"{url}/blob/{id}", None, {"X-Sos-Lease": lease}, "DELETE")
            fetch(f"{url}/lease/{lease}", None, None, "DELETE")


@pytest.fixture
def cluster(place):
    return Cluster(place)


def test_it_is_told_by_all_and_mended_by_an_upload(place, cluster):
    """Everything that ends with 0, or says that all is well, means that it is."""
    assert place.sos("put file").returncode == 0
    assert wait_until(lambda: cluster.broken() == 0)
    assert place.sos("replicate").returncode == 0
    assert place.sos(f"status --url http://127.0.0.1:{cluster.admin}").returncode == 0

    assert wait_until(lambda: cluster.lose(CHUNK) or cluster.broken() == 1)
    done = place.sos(f"status --url http://127.0.0.1:{cluster.admin}")
    assert done.returncode == 1
    assert b"warning: 1 objects are lost or lack chunks on all servers" in done.stdout
    for command in ("replicate", "replicate --dry-run", "balance"):
        done = place.sos(command)
        assert done.returncode == 1
        assert f"{ID} is broken".encode() in done.stderr
        assert CHUNK.encode() in done.stderr
    found = [
        json.loads(place.sos(f"replicate --json --group {group}").stdout)
        for group in ("first", "second")
    ]
    assert sorted(each["broken"] for each in found) == [0, 1]
    assert place.sos(f"get {ID} -o other").returncode == 1
    assert not (place.directory / "other").exists()
    assert ask(f"http://127.0.0.1:{cluster.down}/fetch/{ID}").status == 503
    assert place.sos(f"stat {ID}").returncode == 1

    assert place.sos("put file").stdout == f"{ID}  file\n".encode()
    assert place.sos(f"get {ID}").stdout == BODY
    assert place.sos("replicate").returncode == 0
    assert wait_until(lambda: cluster.broken() == 0)
    assert place.sos(f"status --url http://127.0.0.1:{cluster.admin}").returncode == 0
