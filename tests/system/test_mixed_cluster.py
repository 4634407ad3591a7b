"""One cluster whose blob servers keep what they have in engines of every kind."""

from __future__ import annotations

import json
import uuid

from tests.support.blobs import body_of, content_id
from tests.support.engines.postgres import PostgresEngine
from tests.support.engines.redis import started
from tests.support.http import fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


def test_engines_of_every_kind_hold_the_same(place, swift, tmp_path):
    """After one pass that is to bring everything everywhere; each gives back what it holds."""
    place.environment.update(swift.environment)
    postgres = PostgresEngine()
    postgres.start()
    try:
        with started(tmp_path / "redis") as redis:
            stores = ["data", redis.url, postgres.url, swift.url(f"mixed-{uuid.uuid4().hex}")]
            ports = free_ports(len(stores))
            daemons = [
                place.twistd(f"sos-blob --port {port} --store '{store}'", port)
                for port, store in zip(ports, stores, strict=True)
            ]
            for daemon in daemons[1:]:
                assert wait_until(lambda daemon=daemon: "opened the store" in daemon.log)
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            bodies = [body_of(size, n) for n, size in enumerate([0, 10, 1000, 70_000, 600_000] * 2)]
            for n, body in enumerate(bodies):
                fetch(f"{urls[n % 4]}/blob/{content_id(body)}", body, {"X-Number": str(n)})
            fetch(f"{urls[0]}/blob/name", b"an opaque name")
            servers = ",".join(urls)
            done = place.sos(f"replicate --min-copies all --blob-server {servers}")
            assert done.returncode == 0, (done.stdout, done.stderr)
            for url in urls:
                assert fetch(f"{url}/blob/name") == b"an opaque name"
                for body in bodies:
                    assert fetch(f"{url}/blob/{content_id(body)}") == body
            digests = [json.loads(fetch(f"{url}/digests")) for url in urls]
            assert digests[0] == digests[1] == digests[2] == digests[3]
            again = place.sos(f"replicate --min-copies all --blob-server {servers}")
            assert b"0 copies to make, 0 made, 0 failed" in again.stdout
    finally:
        postgres.remove()
