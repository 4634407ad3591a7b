"""The daemons over a PostgreSQL, as real processes."""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import eventually


@pytest.fixture
def port():
    return free_ports(1)[0]


def holds(status):
    return lambda found: found == status


def test_a_daemon_outlives_its_server(place, engine, port):
    """It answers 503 while there is none, and serves what was stored when it is back."""
    place.twistd(f"sos-blob --port {port} --store {engine.url}", port)
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: ask(f"{url}/status").status, holds(200))
    stored = {content_id(body): body for body in (b"small", body_of(3_000_000))}
    for id, body in stored.items():
        fetch(f"{url}/blob/{id}", body)
    engine.stop()
    for id, body in stored.items():
        assert ask(f"{url}/blob/{id}").status == 503
        assert ask(f"{url}/blob/{id}", body).status == 503
    assert fetch(f"{url}/alive") == b"alive"
    engine.start()
    for id, body in stored.items():
        eventually(lambda id=id: ask(f"{url}/blob/{id}").status, holds(200))
        assert fetch(f"{url}/blob/{id}") == body
    fetch(f"{url}/blob/{content_id(b'more')}", b"more")
    assert json.loads(fetch(f"{url}/status"))["blobs"] == 3


def test_a_daemon_waits_for_its_server(place, engine, port):
    """It is there before it, and takes blobs as soon as it has come."""
    engine.stop()
    daemon = place.twistd(f"sos-blob --port {port} --store {engine.url}", port)
    url = f"http://127.0.0.1:{port}/blob/{content_id(b'one')}"
    assert ask(url, b"one").status == 503
    engine.start()
    eventually(lambda: ask(url, b"one").status, holds(200))
    assert fetch(url) == b"one"
    assert "opened the store" in daemon.log


@pytest.mark.system
def test_a_daemon_stops_though_its_server_is_frozen(place, engine, port):
    """In bounded time."""
    daemon = place.twistd(f"sos-blob --port {port} --store {engine.url}", port)
    url = f"http://127.0.0.1:{port}"
    eventually(lambda: ask(f"{url}/status").status, holds(200))
    engine.freeze()
    assert ask(f"{url}/status").status == 503
    daemon.stop(signal.SIGTERM)
    engine.thaw()
    assert daemon.process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("postgresql://127.0.0.1/x?table=A", "not a table name"),
        ("postgresql://u:secret@127.0.0.1/x?nonsense=1", "not a PostgreSQL URL"),
    ],
)
def test_a_daemon_is_told_what_is_wrong_with_its_url(place, store, message):
    """And does not start; nobody is told the password."""
    ended = place.run_twistd(f"-n sos-blob --store '{store}'")
    output = (ended.stdout + ended.stderr).decode()
    assert ended.returncode != 0
    assert message in output
    assert "secret" not in output


def test_a_daemon_ends_when_the_password_is_wrong(place, locked_engine, port):
    """It will not come right by itself."""
    url = locked_engine.url.replace("@", ":secret@")
    ended = place.run_twistd(f"-n sos-blob --port {port} --store {url}")
    output = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 1
    assert "password authentication failed" in output
    assert "secret" not in output
