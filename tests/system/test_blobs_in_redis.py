"""Blob servers whose blobs are in a Redis, as real processes."""

from __future__ import annotations

import json

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.engines.redis import RedisEngine
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import eventually, wait_until


@pytest.fixture
def engine(tmp_path):
    engine = RedisEngine(tmp_path / "redis", password="open-sesame")
    yield engine
    engine.kill()


def test_a_blob_server_over_redis_outlives_it(place, engine):
    """It starts before its Redis is there, and answers 503 whenever that is not."""
    (port,) = free_ports(1)
    (place.directory / "password").write_text("open-sesame\n")
    url = f"redis://127.0.0.1:{engine.port}?password-file=password"
    daemon = place.twistd(f"sos-blob --port {port} --store {url}", port)
    blobs = f"http://127.0.0.1:{port}"
    assert ask(f"{blobs}/blobs").status == 503
    assert fetch(f"{blobs}/alive") == b"alive"
    engine.start()
    assert wait_until(lambda: ask(f"{blobs}/blobs").status == 200)

    bodies = {content_id(body): body for body in map(body_of, (0, 1000, 100_000, 3_000_000))}
    for id, body in bodies.items():
        answer = json.loads(fetch(f"{blobs}/blob/{id}", body, {"X-Name": "n"}))
        assert (answer["id"], answer["size"]) == (id, len(body))
    new = body_of(2_000_000, 1)
    engine.kill()
    assert ask(f"{blobs}/blob/{next(iter(bodies))}").status == 503
    assert ask(f"{blobs}/blob/{content_id(new)}", new).status == 503
    assert ask(f"{blobs}/blobs").status == 503

    engine.start()
    eventually(lambda: ask(f"{blobs}/blobs").status, lambda status: status == 200)
    for id, body in bodies.items():
        assert fetch(f"{blobs}/blob/{id}") == body
    assert sorted(json.loads(fetch(f"{blobs}/blobs"))) == sorted(bodies)
    assert not daemon.ended
    assert "open-sesame" not in daemon.log


def test_a_blob_server_ends_when_its_redis_cannot_be_trusted(place, engine):
    """It says why, and what to do."""
    (port,) = free_ports(1)
    engine.settings["appendfsync"] = "everysec"
    engine.start()
    daemon = place.twistd(f"sos-blob --port {port} --store {engine.url}")
    assert wait_until(lambda: daemon.ended)
    assert daemon.process.returncode != 0
    assert "its appendfsync is everysec; set it to always" in daemon.log
    assert "open-sesame" not in daemon.log


def test_an_address_that_is_none_is_refused_at_once(place):
    """Without what might be a password in it."""
    done = place.run_twistd("-n sos-blob --store redis://:open-sesame@host?prefix=")
    assert done.returncode != 0
    assert b"prefix" in done.stdout + done.stderr
    assert b"open-sesame" not in done.stdout + done.stderr
