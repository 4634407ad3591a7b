"""Daemons behind proxies that say whose requests they pass on: real processes."""

from __future__ import annotations

import json
import socket
import ssl

import pytest

from sos.tap import api, blob
from tests.support.certificates import Authority
from tests.support.options import parsed, refusal
from tests.support.ports import free_ports
from tests.support.waiting import eventually

GET = "GET /alive HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
NAMED = "PROXY TCP4 198.51.100.7 127.0.0.1 4711 80\r\n"
CLAIM = "X-Forwarded-For: 1.2.3.4, 198.51.100.8\r\n"


def ask(address, before="", header="", context=None):
    """Send *before* in clear, then a request; return the answer.

    :param address: a port of this machine, or the path of a Unix socket.
    """
    is_port = isinstance(address, int)
    with socket.socket(socket.AF_INET if is_port else socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(("127.0.0.1", address) if is_port else str(address))
        client.sendall(before.encode())
        if context is not None:
            client = context.wrap_socket(client, server_hostname="127.0.0.1")
        with client:
            client.sendall(f"{GET}{header}\r\n".encode())
            with client.makefile("rb") as answer:
                return answer.read()


@pytest.mark.parametrize("tls", [False, True])
def test_the_access_log_tells_the_client(place, tls):
    """By the PROXY protocol before TLS, too, and by headers; of a blob and of an API server."""
    options = "--access-log log --access-log-format json --trusted-proxies 127.0.0.0/8"
    context = None
    if tls:
        authority = Authority(place.directory, "ca")
        authority.issue("server")
        options += " --tls-certificate server.pem --tls-key server.key"
        context = ssl.create_default_context(cafile=authority.path)
    port, up, down = free_ports(3)
    place.twistd(f"sos-blob --port {port} --store data {options}", port)
    place.twistd(
        f"sos-api --store data2 --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"{options}",
        up,
        down,
    )
    for each in (port, up, down):
        assert ask(each, NAMED, context=context).endswith(b"alive")
        assert ask(each, header=CLAIM, context=context).endswith(b"alive")
        assert ask(each, context=context).endswith(b"alive")
    log = place.directory / "log"
    lines = eventually(lambda: log.read_text().splitlines(), lambda lines: len(lines) == 9)
    peers = [json.loads(line)["peer"] for line in lines]
    assert sorted(peers) == ["127.0.0.1"] * 3 + ["198.51.100.7"] * 3 + ["198.51.100.8"] * 3


def test_by_default_nobody_is_believed(place):
    """The header is a bad request, and what a client says of itself is not logged."""
    (port,) = free_ports(1)
    place.twistd(f"sos-blob --port {port} --store data --access-log log", port)
    assert ask(port, NAMED).startswith(b"HTTP/1.1 400 ")
    assert ask(port, header=CLAIM).endswith(b"alive")
    log = place.directory / "log"
    assert eventually(log.read_text, bool).startswith("127.0.0.1 - - ")


def test_proxies_that_come_by_a_unix_socket(place):
    """Are believed where ``unix`` is listed."""
    (port,) = free_ports(1)
    place.twistd(
        f"sos-blob --listen unix:socket --listen tcp:{port}:interface=127.0.0.1 --store data "
        "--trusted-proxies unix --access-log log",
        port,
    )
    path = place.directory / "socket"
    for address, begins in ((path, b"HTTP/1.1 200 "), (port, b"HTTP/1.1 400 ")):
        assert ask(address, NAMED).startswith(begins)
        assert ask(address, header=CLAIM).endswith(b"alive")
    log = place.directory / "log"
    lines = eventually(lambda: log.read_text().splitlines(), lambda lines: len(lines) == 3)
    assert [line.split()[0] for line in lines] == ["198.51.100.7", "198.51.100.8", "127.0.0.1"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("trusted-proxies", "10.0.0.5, 10.1.0.0/16,unix", "10.0.0.5,10.1.0.0/16,unix"),
        ("idle-timeout", "300", 300),
    ],
)
def test_options_and_settings(home, name, text, value):
    """Of both daemons; sos.conf is for API servers alone."""
    assert parsed(blob, f"--{name}", text)[name] == value
    (home / ".sos.conf").write_text(f"[sos]\n{name} = {text}\n")
    assert parsed(api, "--store", "x")[name] == value
    assert parsed(blob)[name] == (75 if name == "idle-timeout" else None)


@pytest.mark.parametrize("text", ["proxy.example", "0.0.0.0/0", "10.0.0.5/8"])
def test_what_cannot_be_trusted(capsys, text):
    """Is refused at the start, in one line."""
    for module in (blob, api):
        assert "--trusted-proxies" in refusal(capsys, module, "--trusted-proxies", text)
