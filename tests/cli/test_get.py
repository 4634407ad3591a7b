"""``sos get`` of a large object with real daemons: a whole file, or none."""

from __future__ import annotations

import os
import signal
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from sos.stores.memory import MemoryStore
from sos.web.public_api import DownloadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, put
from tests.support.cutting import Cut, Server, cutting
from tests.support.http import fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

LARGE = body_of(20_000_000)
ID = content_id(LARGE)


class Cluster:
    """Two blob servers, an API server, and a large object in them."""

    def __init__(self, place):
        self.place = place
        self.ports = free_ports(2)
        self.up, self.down = free_ports(2)
        self.blobs = [
            place.twistd(f"sos-blob --port {port} --store blob{port}", port) for port in self.ports
        ]
        urls = ",".join(f"http://127.0.0.1:{port}" for port in self.ports)
        self.api = place.twistd(
            f"sos-api --blob-server {urls} --write-copies 2 --replicate-every 0 "
            "--api-host 127.0.0.1 --access-log requests "
            f"--upload-port {self.up} --download-port {self.down}",
            self.up,
            self.down,
        )
        place.environment["SOS_DOWNLOAD"] = f"http://127.0.0.1:{self.down}"
        fetch(f"http://127.0.0.1:{self.up}/upload", LARGE)

    def requests(self):
        """How many fetches there were, of a server that has ended."""
        self.api.stop()
        return (self.place.directory / "requests").read_text().count('"GET /fetch/')


@pytest.fixture
def cluster(place):
    return Cluster(place)


def leftovers(directory):
    return [path.name for path in directory.iterdir() if path.name.startswith(".sos-")]


def test_a_large_object(place, cluster):
    """To a file, to standard output, to a pipe: part by part."""
    assert place.sos(f"get {ID} -o file").returncode == 0
    assert (place.directory / "file").read_bytes() == LARGE
    assert place.sos(f"get {ID} --parallel 1").stdout == LARGE
    os.mkfifo(place.directory / "pipe")
    getting = place.start_sos(f"get {ID} -o pipe --parallel 16")
    assert (place.directory / "pipe").read_bytes() == LARGE
    assert getting.wait(60) == 0
    assert leftovers(place.directory) == []
    assert cluster.requests() == 3 * 3


def test_a_server_that_is_killed_meanwhile(place, cluster):
    """The rest comes from the other."""
    getting = place.start_sos(f"get {ID} --parallel 2", stdout=subprocess.PIPE, bufsize=0)
    start = getting.stdout.read(1)
    cluster.blobs[0].stop(signal.SIGKILL)
    rest, _ = getting.communicate(timeout=60)
    assert getting.returncode == 0
    assert start + rest == LARGE


class Hanging(BaseHTTPRequestHandler):
    """Sends the beginning of a part, and then nothing."""

    over = Event()

    def do_GET(self):
        self.send_response(206)
        self.send_header("Content-Range", "bytes 0-99999/100000")
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"some")
        self.over.wait(60)

    def log_message(self, *arguments):
        pass


def test_what_is_broken_off_leaves_no_file(place):
    """With Ctrl-C, say, while a server is silent; what was there before stays."""
    (place.directory / "file").write_bytes(b"before")
    with ThreadingHTTPServer(("127.0.0.1", 0), Hanging) as server:
        Thread(target=server.serve_forever).start()
        try:
            getting = place.start_sos(
                f"get {ID} -o file --from http://127.0.0.1:{server.server_port}",
                stderr=subprocess.PIPE,
            )
            assert wait_until(lambda: leftovers(place.directory))
            getting.send_signal(signal.SIGINT)
            _, errors = getting.communicate(timeout=60)
        finally:
            Hanging.over.set()
            server.shutdown()
    assert (getting.returncode, errors.strip()) == (1, b"Aborted!")
    assert (place.directory / "file").read_bytes() == b"before"
    assert leftovers(place.directory) == []


@pytest.mark.system
def test_a_disk_without_room(place, cluster, small_disk):
    """One line, exit status 1, and no half of a file."""
    done = place.sos(f"get {ID} -o {small_disk}/file")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == f"Error: {small_disk}/file: No space left on device\n".encode()
    assert list(small_disk.iterdir()) == []


def test_a_reader_that_has_had_enough(place, cluster):
    """No traceback, and exit status 1."""
    getting = place.start_sos(f"get {ID}", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    getting.stdout.read(1)
    getting.stdout.close()
    assert getting.stderr.read() == b""
    assert getting.wait(60) == 1


@pytest.mark.parametrize("number", ["0", "-1", "x", "1000"])
def test_a_wrong_number_of_parts(place, number):
    """Exit status 2."""
    assert place.sos(f"get {ID} --parallel {number}").returncode == 2


@pytest.mark.parametrize(
    "cut",
    [
        Cut("length", "half", "closed"),
        Cut("chunk", "all", "closed"),
        Cut("close", "half", "closed"),
        Cut("length", "most", "reset"),
    ],
    ids=str,
)
@ensureDeferred
async def test_an_answer_that_breaks_off_is_no_file(place, reactor, cut):
    """However its body was framed; the exit status says so, and what was there before stays."""
    kept = MemoryStore()
    await put(kept, LARGE[:300_000], "name")
    before = place.directory / "file"
    before.write_bytes(b"before")
    async with cutting(Server(handler(DownloadServer(kept).app), cut), reactor) as port:
        for output in ("file", "new"):
            command = f"get name -o {output} --from http://127.0.0.1:{port}"
            done = await deferToThread(place.sos, command)
            assert (done.returncode, b"was interrupted" in done.stderr) == (1, True)
    assert before.read_bytes() == b"before"
    assert not (place.directory / "new").exists()
    assert leftovers(place.directory) == []
