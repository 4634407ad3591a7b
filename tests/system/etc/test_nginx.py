"""nginx before an API server, with the configuration that comes along."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.processes import ROOT, Place
from tests.support.waiting import listens, wait_until


@pytest.fixture
def front(tmp_path):
    """The URLs of nginx, for uploads and for fetches, and what trusts it."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    up, down, front_up, front_down = free_ports(4)
    place = Place(tmp_path)
    place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down}",
        up,
        down,
    )
    _certificate(tmp_path)
    text = (ROOT / "etc/nginx/sos.conf").read_text()
    text = text.replace("127.0.0.1:9991", f"127.0.0.1:{up}")
    text = text.replace("127.0.0.1:9992", f"127.0.0.1:{down}")
    text = re.sub(r" +listen \[::\]:443 ssl;\n", "", text)
    for port in (front_up, front_down):
        text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl", 1)
    text = text.replace("/etc/ssl/certs/sos.pem", f"{tmp_path}/sos.pem")
    text = text.replace("/etc/ssl/private/sos.key", f"{tmp_path}/sos.key")
    text = text.replace("/var/cache/nginx/sos", f"{tmp_path}/cache")
    assert str(tmp_path) in text
    (tmp_path / "sos.conf").write_text(text)
    temporary = "\n".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary}\ninclude {tmp_path}/sos.conf; }}\n"
    )
    if os.geteuid() == 0:
        shutil.chown(tmp_path, "nobody")
        with open(tmp_path / "nginx.conf", "a") as file:
            file.write("user root;\n")
    command = [nginx, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    log = open(tmp_path / "nginx.log", "ab")  # noqa: SIM115
    process = subprocess.Popen(command, stdout=log, stderr=log)
    assert wait_until(lambda: listens(front_up) and listens(front_down))
    trusted = ssl.create_default_context(cafile=str(tmp_path / "sos.pem"))
    yield f"https://localhost:{front_up}", f"https://localhost:{front_down}", trusted
    process.send_signal(signal.SIGQUIT)
    process.wait(60)
    log.close()
    place.stop()


def _certificate(directory) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [
            *command.split(),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-out", str(directory / "sos.pem"), "-keyout", str(directory / "sos.key")),
        ],
        check=True,
        capture_output=True,
    )


def test_uploads_and_fetches(front):
    """Larger than nginx's own limit; what was fetched once comes from the cache, in parts too."""
    up, down, trusted = front

    def fetched(**headers):
        answer = ask(f"{down}/fetch/{content_id(body)}", None, headers, context=trusted)
        return answer.status, answer.headers["X-Cache-Status"], answer.body

    body = body_of(9_000_000)
    assert content_id(body).encode() in fetch(f"{up}/upload", body, context=trusted)
    assert fetched(Range="bytes=10-19") == (206, "MISS", body[10:20])
    assert fetched(Range="bytes=10-19") == (206, "MISS", body[10:20])
    assert fetched() == (200, "MISS", body)
    assert fetched() == (200, "HIT", body)
    assert fetched(Range="bytes=10-19") == (206, "HIT", body[10:20])
    for url in (f"{up}/tus", f"{up}/tus/{'A-_' * 10}xx"):  # here none are taken
        passed = ask(url, None, {"Tus-Resumable": "1.0.0"}, "PATCH", context=trusted)
        assert passed.headers["Tus-Resumable"] == "1.0.0"
    for url in (f"{up}/status", f"{down}/status", f"{up}/fetch/{content_id(body)}"):
        assert ask(url, context=trusted).status == 404
