"""Servers that go away, in the middle of things, as real processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


class Cluster:
    """Blob servers that sos.conf lists, and an API server."""

    def __init__(self, place, count, options="", also=""):
        self.place = place
        self.also = also
        self.ports = free_ports(count)
        self.blobs = [self.blob(number) for number in range(count)]
        self.config = place.directory / "sos.conf"
        self.configure(range(count))
        self.api, self.up, self.down = self.api_server(options)

    def blob(self, number):
        port = self.ports[number]
        return self.place.twistd(f"sos-blob --port {port} --store data{number}", port)

    def configure(self, numbers):
        listed = "".join(f"{self.url(number)}\n" for number in numbers)
        self.config.write_text(self.also + listed)

    def url(self, number):
        return f"http://127.0.0.1:{self.ports[number]}"

    def api_server(self, options):
        up, down = free_ports(2)
        daemon = self.place.twistd(
            f"sos-api --config sos.conf --api-host 127.0.0.1 --upload-port {up} "
            f"--download-port {down} --replicate-every 0 {options}",
            up,
            down,
        )
        return daemon, f"http://127.0.0.1:{up}/upload", f"http://127.0.0.1:{down}/fetch/"

    def upload(self, body):
        return json.loads(fetch(self.up, body))

    def holders(self, id):
        """Return the numbers of the running servers that have *id*."""
        return [
            number
            for number, daemon in enumerate(self.blobs)
            if not daemon.ended and ask(f"{self.url(number)}/blob/{id}").status == 200
        ]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_holder_that_is_gone_costs_no_upload(place, how):
    """Killed, and frozen: two others have each object, and nobody waits for the third."""
    cluster = Cluster(place, 3, "--write-copies 2")
    bodies = [body_of(1000, seed) for seed in range(20)]
    cluster.blobs[1].process.send_signal(how)
    if how == signal.SIGKILL:
        cluster.blobs[1].process.wait()
    first = cluster.upload(bodies[0])
    assert first["copies"] == 2
    for body in bodies[1:]:
        assert cluster.upload(body)["copies"] == 2
    for body in bodies:
        assert fetch(cluster.down + content_id(body)) == body


def test_a_frozen_holder_does_not_hold_up_what_another_has(place):
    """One copy is enough, so the upload ends with the first."""
    cluster = Cluster(place, 2)
    cluster.blobs[0].process.send_signal(signal.SIGSTOP)
    for seed in range(20):
        body = body_of(1000, seed)
        assert cluster.upload(body)["copies"] == 1
        assert fetch(cluster.down + content_id(body)) == body


@pytest.mark.parametrize("size", [40_000_000, 7_000_000], ids=["in chunks", "whole"])
def test_a_holder_killed_during_an_upload(place, size):
    """What it has not taken goes to the others; the client sees one upload."""
    cluster = Cluster(place, 3, "--write-copies 2")
    body = body_of(size)
    host, port = cluster.up.removeprefix("http://").removesuffix("/upload").split(":")
    client = http.client.HTTPConnection(host, int(port), timeout=60)

    def half_by_half():
        yield body[: size // 2]
        cluster.blobs[1].stop(signal.SIGKILL)
        yield body[size // 2 :]

    client.request("POST", "/upload", half_by_half(), {"Content-Length": str(size)})
    answer = json.load(client.getresponse())
    client.close()
    assert (answer["status"], answer["copies"]) == ("OK", 2)
    assert fetch(cluster.down + content_id(body)) == body


def test_a_holder_killed_after_an_upload(place):
    """Whichever it is, another has what was acknowledged with two copies."""
    cluster = Cluster(place, 3, "--write-copies 2")
    bodies = [body_of(size, seed) for seed in range(10) for size in (1000, 100_000, 10_000_000)]
    for body in bodies:
        assert cluster.upload(body)["copies"] == 2
    for number in range(3):
        cluster.blobs[number].stop(signal.SIGKILL)
        for body in bodies:
            assert fetch(cluster.down + content_id(body)) == body
        cluster.blobs[number] = cluster.blob(number)
        # Before the next is killed it must have been seen that this one is back.
        assert wait_until(
            lambda number=number: f"breaker closed, server={cluster.url(number)}" in cluster.api.log
        )


def test_nothing_is_known_while_all_are_down(place):
    """Neither that an object is missing nor that another is stored; then all goes on."""
    cluster = Cluster(place, 2)
    body, other = body_of(1000, 1), body_of(1000, 2)
    cluster.upload(body)
    for blob in cluster.blobs:
        blob.stop(signal.SIGKILL)
    for _ in range(3):
        assert ask(cluster.down + content_id(body)).status == 503
        assert ask(cluster.down + content_id(other)).status == 503
        assert ask(cluster.up, other).status == 503
    for number in range(2):
        cluster.blobs[number] = cluster.blob(number)
    assert wait_until(lambda: ask(cluster.up, other).status == 200)
    assert fetch(cluster.down + content_id(body)) == body
    assert wait_until(lambda: ask(cluster.down + "0" * 40).status == 404)


def test_a_server_killed_while_it_sends(place):
    """The client sees one whole body."""
    cluster = Cluster(place, 2, "--write-copies 2")
    body = body_of(30_000_000)
    id = cluster.upload(body)["id"]
    host, port = cluster.down.removeprefix("http://").removesuffix("/fetch/").split(":")
    with socket.create_connection((host, int(port)), 60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(f"GET /fetch/{id} HTTP/1.0\r\n\r\n".encode())
        received = client.recv(65536)
        # The client takes no more, so that whoever still has a file open then is held up.
        held_up = dict.fromkeys(cluster.blobs, 0)

        def one_is_held_up():
            for blob in held_up:
                held_up[blob] = held_up[blob] + 1 if sends(blob) else 0
            return max(held_up.values()) > 10

        assert wait_until(one_is_held_up)
        max(held_up, key=held_up.get).stop(signal.SIGKILL)
        while piece := client.recv(1 << 20):
            received += piece
    head, _, content = received.partition(b"\r\n\r\n")
    assert b" 200 " in head.partition(b"\r\n")[0]
    assert content_id(content) == id
    assert "resuming a read from another server" in cluster.api.log


def sends(daemon):
    """Tell whether *daemon* has a file of a body open."""
    links = Path(f"/proc/{daemon.process.pid}/fd").iterdir()
    return any("/bodies/" in os.readlink(link) for link in links)


def test_two_api_servers_side_by_side(place):
    """Each finds at once what the other has stored."""
    cluster = Cluster(place, 3)
    _, up, down = cluster.api_server("")
    for seed in range(10):
        one, other = body_of(500, 2 * seed), body_of(500, 2 * seed + 1)
        cluster.upload(one)
        fetch(up, other)
        assert fetch(down + content_id(one)) == one
        assert fetch(cluster.down + content_id(other)) == other


class Misbehaving(BaseHTTPRequestHandler):
    """Answers whatever it is asked in the same way."""

    status, headers_sent, body = 200, (), b""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.status is None:
            self.close_connection = True
            return
        self.send_response(self.status)
        for name, value in self.headers_sent:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (500, [], b'{"error":"no","status":500}'),
        (302, [("Location", "http://127.0.0.1:1/")], b""),
        (200, [], b"junk"),
        (200, [], b'{"id":"' + b"0" * 40 + b'","size":1000,"status":"OK"}'),
        (None, [], b""),
    ],
    ids=["500", "302", "junk", "another-blob", "nothing"],
)
def test_a_server_that_misbehaves_is_passed_over(place, status, headers, body):
    """Uploads and fetches are right; what only it might have is not known to be missing."""
    fields = {"status": status, "headers_sent": headers, "body": body}
    bad = ThreadingHTTPServer(("127.0.0.1", 0), type("Bad", (Misbehaving,), fields))
    serving = threading.Thread(target=bad.serve_forever)
    serving.start()
    try:
        cluster = Cluster(place, 1, also=f"http://127.0.0.1:{bad.server_port} preferred\n")
        bodies = [body_of(size, seed) for seed in range(5) for size in (1000, 100_000)]
        for each in bodies:
            assert cluster.upload(each)["status"] == "OK"
        for each in bodies:
            assert cluster.holders(content_id(each)) == [0]
            assert fetch(cluster.down + content_id(each)) == each
        assert ask(cluster.down + "0" * 40).status == 503
        assert "Traceback" not in cluster.api.log
    finally:
        bad.shutdown()
        bad.server_close()
        serving.join()


def test_a_readonly_server_is_read_from(place):
    """And never written to."""
    cluster = Cluster(place, 2, "--write-copies 1")
    old = body_of(5000)
    fetch(f"{cluster.url(0)}/blob/{content_id(old)}", old)
    cluster.config.write_text(f"{cluster.url(0)} readonly\n{cluster.url(1)}\n")
    cluster.api.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: "readonly" in cluster.api.log)
    for seed in range(1, 10):
        assert cluster.holders(cluster.upload(body_of(100, seed))["id"]) == [1]
    assert fetch(cluster.down + content_id(old)) == old


def test_a_full_server_is_passed_over_and_read_from(place, small_disk):
    """What it has can be fetched, what is new goes to the other."""
    (place.directory / "data0").symlink_to(small_disk)
    cluster = Cluster(place, 2)
    bodies = [body_of(300_000, seed) for seed in range(40)]
    for body in bodies:
        assert cluster.upload(body)["status"] == "OK"
    for body in bodies:
        assert fetch(cluster.down + content_id(body)) == body
    first = [body for body in bodies if 0 in cluster.holders(content_id(body))]
    assert 5 < len(first) < 30
    cluster.blobs[1].stop()
    for body in first:
        assert fetch(cluster.down + content_id(body)) == body
    assert ask(cluster.up, body_of(3_000_000)).status == 503  # for not every server is full
    assert "takes no blobs" in cluster.api.log


class TestReload:
    """SIGHUP, and a file that has changed meanwhile."""

    def test_under_load(self, place):
        """No request fails while servers come and go."""
        cluster = Cluster(place, 3, "--write-copies 2")
        stop = threading.Event()
        stored, failed = [], []

        def work(number):
            seed = number
            while not stop.is_set():
                seed += 10
                body = body_of(2000, seed)
                try:
                    stored.append(cluster.upload(body)["id"])
                    assert fetch(cluster.down + stored[-1])
                except Exception as error:
                    failed.append(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for numbers in ([0, 1], [1, 2], [0, 1, 2], [2, 1, 0]) * 2:
            cluster.configure(numbers)
            cluster.api.process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
        stop.set()
        for worker in workers:
            worker.join()
        assert failed == []
        assert len(stored) > 20
        assert cluster.api.log.count("reloaded the configuration") == 8
        for id in stored:
            assert len(cluster.holders(id)) >= 2

    def test_settings_that_changed_are_named(self, place):
        """They are read at the start alone, so who changed one is to know."""
        cluster = Cluster(place, 2)
        servers = cluster.config.read_text()
        for settings, message in (
            ("", None),
            ("\n[sos]\nmin-copies = 1\nreplicate-every = 30\n", "min-copies, replicate-every"),
        ):
            cluster.config.write_text(servers + settings)
            before = cluster.api.log.count("reloaded the configuration")
            cluster.api.process.send_signal(signal.SIGHUP)
            assert wait_until(
                lambda n=before: cluster.api.log.count("reloaded the configuration") > n
            )
            assert ("restart to apply" in cluster.api.log) == (message is not None)
            assert message is None or f"apply the changed settings: {message}" in cluster.api.log

    def test_a_file_with_a_mistake_changes_nothing(self, place):
        """It is named, with the line, and all goes on."""
        cluster = Cluster(place, 2)
        for text, complaint in (
            ("http://127.0.0.1:1\nnonsense\n", "sos.conf, line 2: "),
            ("# nothing\n", "list no servers"),
            (None, "there is no such file"),
        ):
            if text is None:
                cluster.config.unlink()
            else:
                cluster.config.write_text(text)
            cluster.api.process.send_signal(signal.SIGHUP)
            assert wait_until(lambda complaint=complaint: complaint in cluster.api.log)
            assert cluster.upload(b"x")["status"] == "OK"
        assert cluster.api.log.count("cannot reload the configuration") == 3
        assert "Traceback" not in cluster.api.log
