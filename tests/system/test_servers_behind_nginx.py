"""Blob servers behind a real nginx that adds headers to requests and to answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess

import pytest

from sos.auth.request_signing import make_secret
from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import listens, wait_until

_SERVER = """
server {{
    listen 127.0.0.1:{front};
    client_max_body_size 0;
    location / {{
        proxy_pass http://127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header X-Real-Thing "of {front}";
        proxy_set_header X-Name "of {front}";
        add_header X-Served-By "{front}" always;
        add_header X-Name "of {front}" always;
    }}
}}
"""


@pytest.fixture
def nginx(tmp_path):
    """Returns what starts nginx before servers on *ports*, and returns its own."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    running = []

    def start(ports):
        fronts = free_ports(len(ports))
        servers = "".join(
            _SERVER.format(front=front, port=port)
            for front, port in zip(fronts, ports, strict=True)
        )
        temporary = " ".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            f"http {{ access_log off; {temporary} {servers} }}\n"
        )
        command = [program, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        assert wait_until(lambda: all(map(listens, fronts)))
        return fronts

    yield start
    for process in running:
        process.send_signal(signal.SIGQUIT)
        process.wait(60)


@pytest.mark.parametrize("signed", [False, True])
def test_replication_converges(place, nginx, signed):
    """Uploads through an API server, and passes of replication, each find nothing left to do."""
    secret = ""
    if signed:
        path = place.directory / "secret"
        path.write_text(make_secret())
        path.chmod(0o600)
        secret = f" --secret-file {path}"
    *ports, up, down = free_ports(4)
    for port in ports:
        place.twistd(f"sos-blob --port {port} --store data{port}{secret}", port)
    fronts = nginx(ports)
    servers = ",".join(f"http://127.0.0.1:{front}" for front in fronts)
    place.twistd(
        f"sos-api --blob-server {servers} --replicate-every 0 --write-copies 2 "
        f"--upload-port {up} --download-port {down}{secret}",
        up,
        down,
    )
    metadata = {"X-Orig-Filename": "r\u00e9sum\u00e9", "X-Mime-Type": "text/plain"}
    bodies = [body_of(size, 1) for size in (10, 1000, 100_000, 9_000_000)]
    for body in bodies:
        answer = ask(f"http://127.0.0.1:{up}/upload", body, metadata)
        assert (answer.status, answer.json["copies"]) == (200, 2)
    for _ in range(2):
        done = place.sos(f"replicate --min-copies all --blob-server {servers}{secret}")
        assert done.returncode == 0, done.stderr
        assert b"0 copies to make, 0 made, 0 failed\n" in done.stdout
    for body in bodies:
        answer = ask(f"http://127.0.0.1:{down}/fetch/{content_id(body)}")
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["X-Orig-Filename"].encode("latin-1") == b"r\xe9sum\xe9"
        assert not {"X-Name", "X-Served-By", "X-Real-Thing"} & set(answer.headers)
    if not signed:
        digests = [json.loads(fetch(f"http://127.0.0.1:{port}/digests")) for port in ports]
        assert digests[0] == digests[1]
        # What one alone has, and what both have of their own.
        for port, name in zip(ports, "ab", strict=True):
            for body in (b"alone " + name.encode(), b"of both"):
                fetch(f"http://127.0.0.1:{port}/blob/{content_id(body)}", body, {"X-Who": name})
        for left in (
            b"2 copies to make, 2 made, 0 failed; metadata of 2 copies updated",
            b"0 failed\n",
        ):
            done = place.sos(f"replicate --min-copies all --blob-server {servers}")
            assert left in done.stdout, done.stdout
        digests = [json.loads(fetch(f"http://127.0.0.1:{port}/digests")) for port in ports]
        assert digests[0] == digests[1]
