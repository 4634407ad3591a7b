"""Large objects through real servers, and what memory that takes."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import pytest

from tests.support.http import connect
from tests.support.ports import free_ports

MIB = 1024 * 1024
GIB = 1024 * MIB
#: Most bytes that a process may have resident.
PROMISED = 150 * MIB


def blocks(size: int, seed: int):
    """Yield *size* bytes, of which no MiB is like another."""
    rest = bytes(range(256)) * (MIB // 256 - 1)
    for number in range(size // MIB):
        yield (b"%d %d " % (seed, number)).ljust(256) + rest


class Cluster:
    """Three blob servers, and an API server that waits for two copies."""

    def __init__(self, place):
        place.forked = False  # for their memory is measured
        *ports, self.up, self.down = free_ports(5)
        urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        self.daemons = {
            f"blob server {number}": place.twistd(
                f"sos-blob --port {port} --store data{number}", port
            )
            for number, port in enumerate(ports, 1)
        }
        self.daemons["API server"] = place.twistd(
            f"sos-api --blob-server {urls} --write-copies 2 --replicate-every 0 "
            f"--api-host 127.0.0.1 --upload-port {self.up} --download-port {self.down}",
            self.up,
            self.down,
        )

    def upload(self, size: int, seed: int) -> str:
        """Upload an object as it is made; return its id, which has to be its hash."""
        whole = hashlib.sha1()

        def body():
            for block in blocks(size, seed):
                whole.update(block)
                yield block

        connection = connect(f"http://127.0.0.1:{self.up}")
        connection.request("POST", "/upload", body(), {"Content-Length": str(size)})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        assert (answer["size"], answer["copies"]) == (size, 2)
        assert answer["id"] == whole.hexdigest()
        return answer["id"]

    def fetch(self, id: str, size: int, read_on=lambda: None) -> None:
        """Fetch an object, which has to be what was stored under *id*.

        :param read_on: returns when the body is to be read.
        """
        whole = hashlib.sha1()
        connection = connect(f"http://127.0.0.1:{self.down}")
        connection.request("GET", f"/fetch/{id}")
        response = connection.getresponse()
        assert (response.status, response.length) == (200, size)
        read_on()
        while piece := response.read(MIB):
            whole.update(piece)
        connection.close()
        assert whole.hexdigest() == id

    def stay_small(self, what: str, begun: float) -> None:
        """No process has had more resident than was promised."""
        peaks = {name: daemon.peak_memory for name, daemon in self.daemons.items()}
        shown = ", ".join(f"{name} {peak / MIB:.0f} MiB" for name, peak in peaks.items())
        print(f"\n{what}: {time.monotonic() - begun:.1f} s; peaks: {shown}")
        assert max(peaks.values()) <= PROMISED, shown


@pytest.fixture
def cluster(place, tmp_path):
    yield Cluster(place)
    place.stop()
    for store in tmp_path.glob("data*"):
        for path in (store / "bodies").rglob("*"):
            if path.is_file():
                path.unlink()  # pytest keeps what is left of the last runs


def test_a_large_object_passes_through_in_bounded_memory(cluster):
    """2 GiB, in chunks that all differ, each stored twice before the upload is answered."""
    begun = time.monotonic()
    id = cluster.upload(2 * GIB, seed=0)
    cluster.stay_small("2 GiB up", begun)
    begun = time.monotonic()
    cluster.fetch(id, 2 * GIB)
    cluster.stay_small("2 GiB down", begun)


def test_many_at_once_pass_through_in_bounded_memory(cluster):
    """16 uploads of 64 MiB at once, then 16 fetches, most of whose readers are slow."""
    size = 64 * MIB
    with ThreadPoolExecutor(16) as threads:
        begun = time.monotonic()
        ids = list(threads.map(lambda seed: cluster.upload(size, seed), range(16)))
        cluster.stay_small("16 uploads of 64 MiB", begun)
        begun = time.monotonic()
        some_are_done = Event()
        fetches = [threads.submit(cluster.fetch, id, size) for id in ids[:4]]
        fetches += [threads.submit(cluster.fetch, id, size, some_are_done.wait) for id in ids[4:]]
        wait(fetches[:4])
        some_are_done.set()
        for each in fetches:
            each.result()
        cluster.stay_small("16 fetches of 64 MiB", begun)
