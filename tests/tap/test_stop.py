"""A daemon that is told to stop, as a real process."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.ports import free_ports
from tests.support.waiting import listens, wait_until


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_an_upload_that_is_under_way_is_finished(place, size):
    """And stored; nothing new is taken meanwhile, and the daemon ends by itself."""
    (port,) = free_ports(1)
    daemon = place.twistd(f"sos-blob --port {port} --store data", port)
    body = body_of(size)
    head = (
        f"POST /blob/{content_id(body)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(head.encode())
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(body[:500])
        daemon.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: not listens(port))
        client.sendall(body[500:])
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in answer
    assert daemon.process.wait(60) == -signal.SIGTERM  # as twistd ends when it is told to
    assert "Traceback" not in daemon.log
    again = place.twistd(f"sos-blob --port {port} --store data", port)
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(f"GET /blob/{content_id(body)} HTTP/1.0\r\n\r\n".encode())
        assert client.makefile("rb").read().endswith(body)
    assert not again.ended


@pytest.mark.parametrize("kind", ["blob", "api"])
def test_sighup_ends_nothing(place, kind):
    """A daemon that has no list of servers to reload says so, and goes on."""
    ports = free_ports(1 if kind == "blob" else 2)
    listening = (
        f"--port {ports[0]}"
        if kind == "blob"
        else f"--api-host 127.0.0.1 --upload-port {ports[0]} --download-port {ports[1]}"
    )
    daemon = place.twistd(f"sos-{kind} {listening} --store data", *ports)
    assert wait_until(lambda: "  store " in daemon.log)  # it has started all its parts
    daemon.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: "no list of servers to reload" in daemon.log)
    assert listens(ports[0])
    assert not daemon.ended
