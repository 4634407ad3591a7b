"""The clients of tus that people use, over connections that break, to a daemon that is killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from hashlib import sha1
from threading import Semaphore, Thread

import pytest

from tests.support.http import ask, fetch
from tests.support.ports import free_ports

MIB = 1 << 20
TUS_JS_CLIENT = "tus-js-client@^4.3"
#: Connections that break off, and bytes after which the daemon is killed.
_CUTS = 8
_STOPS = (10 * MIB, 25 * MIB, 40 * MIB)

# Each prints the URL of the upload that it has begun or goes on with, and at the end the id.
TUSPY = """
import json, sys, time
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
endpoint, path, checksums = sys.argv[1:]
client, url, uploader = TusClient(endpoint), None, None
while True:
    try:
        uploader = client.uploader(
            path, url=url, chunk_size=3 << 20, retries=3, retry_delay=0.1,
            metadata={"filename": "a \\u00e9.bin", "filetype": "image/x-a"},
            upload_checksum=checksums == "yes",
        )
        uploader.upload()
        break
    except TusCommunicationError as error:
        print("again", error, file=sys.stderr)
        time.sleep(0.1)
    finally:
        if uploader is not None and uploader.url != url:
            url = uploader.url
            print(json.dumps({"begun": url}), flush=True)
answer = uploader.request.response_headers if uploader.request else {}
print(json.dumps({"id": answer.get("x-sos-id")}))
"""
TUS_JS = """
const tus = require("tus-js-client"), fs = require("fs");
const [endpoint, path] = process.argv.slice(2);
const upload = new tus.Upload(fs.createReadStream(path), {
  endpoint,
  retryDelays: Array(300).fill(100),
  metadata: { filename: "a \\u00e9.bin", filetype: "image/x-a" },
  onUploadUrlAvailable() { console.log(JSON.stringify({ begun: upload.url })); },
  onShouldRetry(error) { console.error("again", error.message); return true; },
  onError(error) { console.error(error); process.exit(1); },
  onSuccess({ lastResponse }) {
    console.log(JSON.stringify({ id: lastResponse.getHeader("X-Sos-Id") }));
  },
});
upload.start();
"""


class Cutting:
    """A way to the server at *port* on which the first connections break off.

    :param stops: after so many bytes it releases *stopped*, and waits for *go_on*.
    :ivar cuts: how many have broken off.
    """

    def __init__(self, port, cuts, stops):
        self._port = port
        self._stops = list(stops)
        self._passed = 0
        self.stopped = Semaphore(0)
        self.go_on = Semaphore(0)
        self._random = random.Random(1)
        self._left = cuts
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client):
        with client, suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._port))
            Thread(target=self._copy, args=(server, client, sys.maxsize), daemon=True).start()
            with server:
                self._copy(client, server, self._random.randrange(100_000, 6 * MIB))

    def _copy(self, source, target, most):
        passed = 0
        with suppress(OSError):
            while piece := source.recv(65_536):
                target.sendall(piece)
                passed += len(piece)
                self._passed += len(piece)
                if self._stops and self._passed > self._stops[0]:
                    del self._stops[0]
                    self.stopped.release()
                    self.go_on.acquire()
                if passed > most and self._left:
                    self._left -= 1
                    self.cuts += 1
                    break
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def tus_js(tmp_path_factory):
    """A directory with tus-js-client in it, from its registry."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm")
    directory = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", TUS_JS_CLIENT]
    subprocess.run(command, cwd=directory, check=True, timeout=120)
    (directory / "upload.js").write_text(TUS_JS)
    return directory


@pytest.fixture(params=["tuspy", "tuspy with checksums", "tus-js-client"])
def command(request):
    if request.param == "tus-js-client":
        return ["node", str(request.getfixturevalue("tus_js") / "upload.js")]
    return [sys.executable, "-c", TUSPY]


@pytest.fixture
def more(request):
    """Arguments behind the endpoint and the path of the file."""
    name = request.node.callspec.params["command"]
    return {"tuspy": ["no"], "tuspy with checksums": ["yes"]}.get(name, [])


def start(place, up, down):
    return place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        "--unfinished-dir unfinished",
        *(up, down),
    )


def test_an_upload_survives_whatever_breaks(place, command, more):
    """It is one upload from its beginning to its end, and no byte of the object is wrong."""
    up, down = free_ports(2)
    daemon = start(place, up, down)
    way = Cutting(up, _CUTS, _STOPS)
    body = random.Random(2).randbytes(60 * MIB)
    (place.directory / "file").write_bytes(body)
    with (
        open(place.directory / "said", "wb") as output,
        open(place.directory / "errors", "wb") as errors,
    ):
        client = subprocess.Popen(
            [*command, f"http://127.0.0.1:{way.port}/tus", str(place.directory / "file"), *more],
            stdout=output,
            stderr=errors,
        )
    try:
        for _ in _STOPS:
            assert way.stopped.acquire(timeout=60)
            daemon.stop(signal.SIGKILL)
            daemon = start(place, up, down)
            way.go_on.release()
        assert client.wait(120) == 0, (place.directory / "errors").read_text()
    finally:
        client.kill()
        way.close()
    *begun, end = map(json.loads, (place.directory / "said").read_text().splitlines())
    assert len({each["begun"] for each in begun}) == 1
    assert way.cuts == _CUTS
    assert end["id"] == sha1(body).hexdigest()
    answer = ask(f"http://127.0.0.1:{down}/fetch/{end['id']}")
    assert answer.body == body
    assert answer.headers["Content-Type"] == "image/x-a"
    assert "filename*=UTF-8''a%20%C3%A9.bin" in answer.headers["Content-Disposition"]
    assert os.listdir(place.directory / "unfinished") == ["stored"]
    assert "Traceback" not in daemon.log


def test_files_that_need_no_second_part(place, command, more):
    """Nothing, and a byte: clients that create an upload of nothing send nothing more."""
    up, down = free_ports(2)
    start(place, up, down)
    for body in (b"", b"a"):
        (place.directory / "file").write_bytes(body)
        ended = subprocess.run(
            [*command, f"http://127.0.0.1:{up}/tus", str(place.directory / "file"), *more],
            capture_output=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        assert fetch(f"http://127.0.0.1:{down}/fetch/{sha1(body).hexdigest()}") == body
