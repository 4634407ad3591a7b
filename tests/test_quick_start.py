"""The quick start, as the README tells it, with real processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import listens, wait_until

PASSWD = Path("/etc/passwd").read_bytes()


class Cluster:
    """Two blob servers that ~/.sos.conf names, and an API server."""

    def __init__(self, place, api_options="--min-copies 1 --replicate-every 0"):
        self.place = place
        self.ports = free_ports(4)
        self.blob_servers = [f"http://localhost:{port}" for port in self.ports[:2]]
        (place.home / ".sos.conf").write_text("\n".join(self.blob_servers) + "\n")
        self.blobs = [self.blob(number) for number in (0, 1)]
        up, down = self.ports[2:]
        self.api = place.twistd(
            f"sos-api --api-host 127.0.0.1 --upload-port {up} --download-port {down} {api_options}",
            up,
            down,
        )
        self.upload_url = f"http://localhost:{up}"
        self.download_url = f"http://localhost:{down}"

    def blob(self, number):
        port = self.ports[number]
        return self.place.twistd(f"sos-blob --port {port} --store data{number + 1}", port)

    def upload(self, body, **headers):
        return json.loads(fetch(f"{self.upload_url}/upload", body, headers))

    def fetch(self, id):
        return fetch(f"{self.download_url}/fetch/{id}")

    def listings(self):
        return [json.loads(fetch(f"{server}/blobs")) for server in self.blob_servers]


def test_upload_fetch_replicate(place):
    """The SHA-1 comes back, the file comes back, each server has it: as users start them."""
    place.forked = False
    cluster = Cluster(place)
    id = hashlib.sha1(PASSWD).hexdigest()
    assert cluster.upload(PASSWD) == {"id": id, "size": len(PASSWD), "status": "OK", "copies": 1}
    assert cluster.fetch(id) == PASSWD
    assert sorted(cluster.listings()) == [[], [id]]
    done = place.sos("replicate --verbose")
    assert done.returncode == 0, done.stderr
    assert b"1 copies to make, 1 made, 0 failed" in done.stdout
    assert cluster.listings() == [[id], [id]]
    for server in cluster.blob_servers:
        assert fetch(f"{server}/blob/{id}") == PASSWD
    done = place.sos("replicate --min-copies=3")
    assert b"0 copies to make" in done.stdout
    assert b"1 blobs need more writable servers" in done.stdout
    assert done.returncode == 1


def test_what_is_running_is_said_at_the_start(place):
    """Addresses, store, servers by group."""
    cluster = Cluster(place)
    for text in (str(cluster.ports[0]), str(place.directory / "data1"), "fsync on"):
        assert wait_until(lambda text=text: text in cluster.blobs[0].log)
    for text in (*map(str, cluster.ports), "default:"):
        assert wait_until(lambda text=text: text in cluster.api.log)
    assert "Traceback" not in cluster.api.log + cluster.blobs[0].log


def test_a_second_copy_is_made_in_the_background(place):
    """Without a replication."""
    cluster = Cluster(place, "--replicate-every 0")
    id = cluster.upload(b"copy me")["id"]
    assert wait_until(lambda: cluster.listings() == [[id], [id]])


def test_the_service_replicates_by_itself(place):
    """In the API server's own process, what was uploaded past it too."""
    cluster = Cluster(place, "--replicate-every 0.2")
    id = content_id(b"copy me")
    fetch(f"{cluster.blob_servers[1]}/blob/{id}", b"copy me")
    assert wait_until(lambda: cluster.listings() == [[id], [id]])


def test_a_blob_server_that_dies_takes_nothing_with_it(place):
    """Killed, its blobs are there when it is back; meanwhile others serve and take."""
    cluster = Cluster(place)
    small, large = body_of(1000), body_of(1_000_000)
    cluster.upload(small)
    cluster.upload(large)
    place.sos("replicate")
    cluster.blobs[0].stop(signal.SIGKILL)
    assert cluster.fetch(content_id(small)) == small
    assert cluster.fetch(content_id(large)) == large
    assert cluster.upload(b"meanwhile")["status"] == "OK"
    # What no server that answers has may be on the one that does not.
    assert ask(f"{cluster.download_url}/fetch/{'0' * 40}").status == 503
    failed = place.sos("replicate")
    assert failed.returncode == 1
    assert b"no listing from" in failed.stdout
    cluster.blob(0)
    assert place.sos("replicate").returncode == 0
    assert ask(f"{cluster.download_url}/fetch/{'0' * 40}").status == 404
    first, second = cluster.listings()
    assert first == second
    assert len(first) == 3


def test_no_blob_server_at_all(place):
    """An upload is refused, not lost."""
    cluster = Cluster(place)
    for blob in cluster.blobs:
        blob.stop()
    assert ask(f"{cluster.upload_url}/upload", b"x").status == 503
    assert ask(f"{cluster.download_url}/fetch/{'0' * 40}").status == 503


def test_a_store_of_its_own(place):
    """sos-api --store needs no blob server."""
    up, down = free_ports(2)
    ports = f"--upload-port {up} --download-port {down}"
    api = place.twistd(f"sos-api --store data --api-host 127.0.0.1 {ports}", up, down)
    body = body_of(500_000)
    answer = json.loads(fetch(f"http://localhost:{up}/upload", body))
    assert answer["id"] == content_id(body)
    api.stop()
    place.twistd(f"sos-api --store data --api-host 127.0.0.1 {ports}", up, down)
    assert fetch(f"http://localhost:{down}/fetch/{answer['id']}") == body


def test_a_daemon_is_stopped_by_its_pidfile(place):
    """Relative paths mean what they meant when they were typed."""
    (port,) = free_ports(1)
    started = place.run_twistd(f"--pidfile=blob.pid sos-blob --port {port} --store data")
    assert started.returncode == 0, started.stderr
    assert wait_until(lambda: listens(port))
    fetch(f"http://localhost:{port}/blob/abc", b"x")
    assert (place.directory / "data/store.json").exists()
    pid = int((place.directory / "blob.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    assert wait_until(lambda: not (place.directory / "blob.pid").exists())
    assert not listens(port)


@pytest.mark.parametrize(
    ("prepare", "complaint"),
    [
        (lambda place: (place.directory / "data").write_text(""), "cannot be used as a store"),
        (lambda place: place.twistd("sos-blob --port 0 --store data"), "in use"),
    ],
)
def test_a_store_that_cannot_be_opened(place, prepare, complaint):
    """The daemon ends, and says why in one line."""
    prepare(place)
    if place.running:
        assert wait_until(lambda: (place.directory / "data/store.json").exists())
    ended = place.run_twistd("-n sos-blob --port 0 --store data")
    assert ended.returncode == 1
    assert complaint in ended.stdout.decode()
    assert "Traceback" not in ended.stdout.decode() + ended.stderr.decode()


def test_in_the_background_too_a_start_that_fails_is_told(place):
    """The terminal gets its prompt back, with an error; no pidfile stays."""
    (place.directory / "data").write_text("")
    ended = place.run_twistd("--pidfile=blob.pid sos-blob --port 0 --store data")
    assert ended.returncode == 1
    assert b"cannot start" in ended.stderr
    assert wait_until(lambda: not (place.directory / "blob.pid").exists())


@pytest.mark.parametrize(
    "options", ["--access-log none/log", "--listen unix:none/socket", "--store data/x"]
)
def test_what_cannot_be_opened(place, options):
    """The daemon ends, and says why in one line."""
    (place.directory / "data").write_text("")
    ended = place.run_twistd(f"-n sos-blob --port 0 --store store {options}")
    assert ended.returncode == 1
    assert b"cannot start: " in ended.stdout
    assert b"Traceback" not in ended.stdout + ended.stderr


def test_an_index_that_is_none(place):
    """The daemon ends, and says why in one line."""
    daemon = place.twistd("sos-blob --port 0 --store data")
    assert wait_until(lambda: (place.directory / "data/store.json").exists())
    daemon.stop()
    (place.directory / "data/index/data.mdb").write_bytes(b"junk" * 4096)
    ended = place.run_twistd("-n sos-blob --port 0 --store data")
    assert ended.returncode == 1
    assert b"cannot start: the index" in ended.stdout
    assert b"Traceback" not in ended.stdout + ended.stderr


def test_a_port_that_is_taken(place):
    """The daemon ends, and says why in one line."""
    (port,) = free_ports(1)
    place.twistd(f"sos-blob --port {port} --store data1", port)
    ended = place.run_twistd(f"-n sos-blob --port {port} --store data2")
    assert ended.returncode == 1
    assert str(port) in ended.stdout.decode()
    assert "Traceback" not in ended.stdout.decode() + ended.stderr.decode()


def test_no_servers_at_all(place):
    """Exit status 2, and what to do."""
    ended = place.run_twistd("-n sos-api --config /dev/null")
    assert ended.returncode == 2
    assert b"--store DIR" in ended.stderr


class TestCommands:
    """``sos put``, ``sos get``, ``sos stat``."""

    @pytest.fixture
    def api(self, place):
        up, down = free_ports(2)
        place.environment["SOS_UPLOAD"] = f"http://127.0.0.1:{up}"
        place.environment["SOS_DOWNLOAD"] = f"http://127.0.0.1:{down}"
        ports = f"--upload-port {up} --download-port {down}"
        return place.twistd(f"sos-api --store data --api-host 127.0.0.1 {ports}", up, down)

    def test_put_and_get(self, place, api):
        """An id and a name for each file, and the same bytes back."""
        bodies = {"small": b"abc", "large": body_of(3_000_000), "empty": b""}
        for name, body in bodies.items():
            (place.directory / name).write_bytes(body)
        done = place.sos("put small large empty")
        assert done.returncode == 0, done.stderr
        expected = [f"{content_id(body)}  {name}" for name, body in bodies.items()]
        assert done.stdout.decode().splitlines() == expected
        for body in bodies.values():
            assert place.sos(f"get {content_id(body)}").stdout == body
            done = place.sos(f"get {content_id(body)} -o back")
            assert (done.returncode, done.stdout) == (0, b"")
            assert (place.directory / "back").read_bytes() == body

    def test_get_writes_to_what_is_there(self, place, api):
        """A device is written to, and where a link points a file is replaced."""
        (place.directory / "file").write_bytes(b"before")
        (place.directory / "link").symlink_to("file")
        place.sos("put file")
        id = content_id(b"before")
        (place.directory / "file").write_bytes(b"after")
        assert place.sos(f"get {id} -o link").returncode == 0
        assert (place.directory / "link").is_symlink()
        assert (place.directory / "file").read_bytes() == b"before"
        os.mkfifo(place.directory / "pipe")
        reader = subprocess.Popen(["cat", place.directory / "pipe"], stdout=subprocess.PIPE)
        assert place.sos(f"get {id} -o pipe").returncode == 0
        assert reader.communicate(timeout=60)[0] == b"before"
        assert place.sos(f"get {id}.txt -o -").stdout == b"before"

    def test_put_from_standard_input_with_metadata(self, place, api):
        """And stat, which shows it."""
        done = place.sos("put - -H 'X-Mime-Type: text/plain' -H 'x-name: caf\u00e9'", input=b"abc")
        assert done.stdout.decode() == f"{content_id(b'abc')}  -\n"
        shown = place.sos(f"stat {content_id(b'abc')}").stdout.decode().splitlines()
        assert shown[1:] == ["size: 3", "X-Mime-Type: text/plain", "X-Name: caf\u00e9"]

    def test_what_cannot_be_done_is_one_line(self, place, api):
        """Exit status 1, nothing on standard output, no half of a file."""
        (place.directory / "link").symlink_to("nowhere/file")
        commands = ["get abc -o out", "stat abc", "put none", "get abc.jpg -o none/out"]
        commands += [
            f"get {content_id(b'')} -o {where}" for where in ("none/x", ".", "new/", "link")
        ]
        place.sos("put /dev/null")
        for command in commands:
            done = place.sos(command)
            assert done.returncode == 1, command
            assert done.stdout == b""
            assert len(done.stderr.splitlines()) == 1, done.stderr
        assert not (place.directory / "out").exists()
        assert not (place.directory / "new").exists()
        assert b".sos-" not in place.sos(f"get {content_id(b'')} -o none/x").stderr
        api.stop()
        assert b"cannot be reached: connection refused" in place.sos("stat abc").stderr

    def test_one_file_that_fails_does_not_stop_the_others(self, place, api):
        """Those are stored, and the exit status is 1."""
        (place.directory / "there").write_bytes(b"abc")
        done = place.sos("put missing there")
        assert done.returncode == 1
        assert content_id(b"abc").encode() in done.stdout
        assert b"missing" in done.stderr

    @pytest.mark.parametrize(
        "command",
        [
            "get ABC",
            "stat a/b",
            "put",
            "put x --to localhost",
            "put x -H Name",
            "put x -H 'A: b'",
            "put x -H 'X-Real-Ip: ::1'",
            "get abc --from ftp://x",
            "replicate --min-copies 0",
            "replicate --blob-server x",
            "no",
            "replicate --config none.conf",
            "replicate --config /dev/null",
        ],
    )
    def test_a_wrong_argument(self, place, command):
        """Exit status 2."""
        done = place.sos(command)
        assert done.returncode == 2, done.stderr
        assert b"Error: " in done.stderr


def test_the_demo(place):
    """It shows what it does, and cleans up behind itself."""
    (place.directory / "file").write_bytes(body_of(200_000))
    done = place.sos("demo file --dir here")
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode()
    for text in (
        "twistd -n sos-blob",
        "curl -X POST --data-binary @file",
        "1 copies to make, 1 made",
    ):
        assert text in shown
    assert shown.count(content_id(body_of(200_000))) >= 5
    assert (place.directory / "here/data1/store.json").exists()
