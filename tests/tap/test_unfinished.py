"""Resumable uploads at real daemons: killed, told to stop, with tokens, and at several."""

from __future__ import annotations

import http.client
import signal
import socket
from hashlib import sha1

import pytest

from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import eventually, wait_until

VERSION = {"Tus-Resumable": "1.0.0"}
PART = {**VERSION, "Content-Type": "application/offset+octet-stream"}
MIB = 1 << 20


class Api:
    """An API server with a store of its own, and a directory of unfinished uploads."""

    def __init__(self, place, options="", store="data"):
        self.place = place
        self.up, self.down = free_ports(2)
        self.command = (
            f"sos-api --store {store} --api-host 127.0.0.1 --upload-port {self.up} "
            f"--download-port {self.down} --unfinished-dir unfinished {options}"
        )
        self.url = f"http://127.0.0.1:{self.up}/"
        self.start()

    def start(self):
        self.daemon = self.place.twistd(self.command, self.up, self.down)

    def create(self, length, **headers):
        answer = ask(
            f"{self.url}tus", None, {**VERSION, "Upload-Length": str(length), **headers}, "POST"
        )
        assert answer.status == 201, answer
        return self.url + answer.headers["Location"]

    def offset(self, path):
        return int(ask(path, None, VERSION, "HEAD").headers["Upload-Offset"])

    def patch(self, path, offset, body):
        return ask(path, body, {**PART, "Upload-Offset": str(offset)}, "PATCH")

    def begin(self, path, offset, length, body):
        """Send the beginning of a part, and return the connection."""
        client = socket.create_connection(("127.0.0.1", self.up), 60)
        head = {**PART, "Host": "localhost", "Upload-Offset": offset, "Content-Length": length}
        lines = [f"PATCH /{path.removeprefix(self.url)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in head.items()]
        client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return client

    def record(self, path):
        token = path.rpartition("/")[2]
        return (self.place.directory / "unfinished" / f"{token}.json").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_ends_in_the_middle_of_a_part(place, number):
    """The client goes on where the next one says: of a killed one that can be 16 MiB before."""
    body = bytes(range(256)) * (MIB // 256 * 20)
    api = Api(place)
    path = api.create(len(body))
    assert api.patch(path, 0, body[:MIB]).status == 204
    with api.begin(path, MIB, 19 * MIB, body[MIB : 19 * MIB]):
        assert wait_until(lambda: f'"offset": {MIB}' not in api.record(path))
        if number == signal.SIGKILL:
            api.daemon.stop(number)
    if number == signal.SIGTERM:  # the client has gone, which comes first
        api.daemon.stop(number)
    api.start()
    offset = api.offset(path)
    assert 17 * MIB <= offset <= 19 * MIB
    answer = api.patch(path, offset, body[offset:])
    id = sha1(body).hexdigest()
    assert answer.headers["X-Sos-Id"] == id
    assert fetch(f"http://127.0.0.1:{api.down}/fetch/{id}") == body
    api.daemon.stop(signal.SIGKILL)
    api.start()
    assert ask(path, None, VERSION, "HEAD").headers["X-Sos-Id"] == id
    assert "Traceback" not in api.daemon.log


def test_an_upload_is_for_those_who_may_upload(place):
    """Whatever its URL, which no log tells: who knows that goes on with the upload."""
    token = place.sos("token --token-file tokens add me --scope upload").stdout.decode().strip()
    api = Api(place, "--token-file tokens --access-log access.log")
    known = {"Authorization": f"Bearer {token}"}
    path = api.create(3, **known)
    for method in ("HEAD", "PATCH", "DELETE", "GET", "OPTIONS"):
        answer = ask(path, None, {**PART, "Upload-Offset": "0"}, method)
        assert (answer.status, answer.headers["Tus-Resumable"]) == (401, "1.0.0")
    answer = ask(path, b"abc", {**PART, **known, "Upload-Offset": "0"}, "PATCH")
    assert answer.headers["X-Sos-Id"] == sha1(b"abc").hexdigest()
    api.daemon.stop()
    logs = (place.directory / "access.log").read_text() + api.daemon.log
    assert "/tus/***" in logs
    assert path.rpartition("/")[2] not in logs


def test_api_servers_share_the_uploads(place):
    """A client that comes back to another one goes on there: they have one directory."""
    first, second = Api(place), Api(place, store="other")
    body = bytes(range(256)) * 1000
    path = first.create(len(body))
    there = path.replace(first.url, second.url)
    with first.begin(path, 0, len(body), body[:1000]) as lost:
        offset = eventually(lambda: second.offset(there), lambda found: found == 1000)
        for start in range(offset, len(body), 50_000):
            answer = second.patch(there, start, body[start : start + 50_000])
            assert answer.status == 204, answer
        assert answer.headers["X-Sos-Id"] == sha1(body).hexdigest()
        answer = http.client.HTTPResponse(lost)
        answer.begin()
        assert answer.status == 423


def test_what_is_not_gone_on_with_is_given_up(place):
    """And what is stored is forgotten; the object stays."""
    api = Api(place, "--unfinished-expiry 1s")
    left = api.create(3)
    answer = ask(f"{api.url}tus", b"abc", {**PART, "Upload-Length": "3"})
    path = api.url + answer.headers["Location"]
    directory = place.directory / "unfinished"
    files = [directory, directory / "stored"]
    assert wait_until(lambda: [list(each.glob("*.*")) for each in files] == [[], []])
    for each in (left, path):
        assert ask(each, None, VERSION, "HEAD").status == 404
    assert fetch(f"http://127.0.0.1:{api.down}/fetch/{answer.headers['X-Sos-Id']}") == b"abc"
    assert wait_until(lambda: "deleted expired uploads: count=1" in api.daemon.log)


def test_a_directory_that_cannot_be_had_ends_the_start(place):
    """With one line that says which option it was."""
    (place.directory / "file").touch()
    ended = place.run_twistd(
        "-n sos-api --store data --upload-port 0 --download-port 0 --admin-port 0 "
        "--unfinished-dir file/unfinished"
    )
    assert ended.returncode == 1
    assert b"cannot start: cannot use --unfinished-dir: " in ended.stdout + ended.stderr
