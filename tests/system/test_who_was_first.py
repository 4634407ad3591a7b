"""What was said of an object stays, whoever uploads it again, as real processes."""

from __future__ import annotations

import json
import signal
from hashlib import sha256

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

VICTIM = {"X-Orig-Filename": "report.pdf", "X-Mime-Type": "application/pdf"}


def ground(victim):
    """Return headers whose metadata have a hash that is less than that of the *victim*'s."""
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
    bound = sha256(encode(victim).encode()).hexdigest()
    for n in range(10_000):
        lie = {"X-Orig-Filename": "invoice.exe", "X-Mime-Type": "text/html", "X-Salt": str(n)}
        if sha256(encode(lie).encode()).hexdigest() < min(bound, "0010"):
            return lie
    raise AssertionError


@pytest.mark.parametrize("metadata", [VICTIM, {}], ids=["said", "nothing-said"])
@pytest.mark.parametrize("size", [1000, 5_000_000])
@pytest.mark.parametrize("lost", [False, True], ids=["all-come-back", "one-lost-its-disk"])
def test_who_uploads_again_changes_nothing(place, metadata, size, lost):
    """While all who have the object are away, and with headers ground to win by their hash."""
    ports = free_ports(3)

    def start(n, store):
        return place.twistd(f"sos-blob --port {ports[n]} --store {store}", ports[n])

    urls = [f"http://127.0.0.1:{port}" for port in ports]
    blobs = [start(n, f"data{n}") for n in range(3)]
    (place.directory / "sos.conf").write_text("".join(f"{url}\n" for url in urls))
    doors = []
    for chunk in (1_000_000, 0):
        up, down = free_ports(2)
        place.twistd(
            f"sos-api --config sos.conf --api-host 127.0.0.1 --upload-port {up} "
            f"--download-port {down} --replicate-every 0 --write-copies 2 --chunk-size {chunk}",
            up,
            down,
        )
        doors.append((f"http://127.0.0.1:{up}/upload", f"http://127.0.0.1:{down}/fetch/"))
    body = body_of(size, 1)
    id = content_id(body)
    assert json.loads(fetch(doors[0][0], body, metadata))["copies"] == 2

    holders = [n for n, url in enumerate(urls) if ask(f"{url}/blob/{id}").status == 200]
    assert len(holders) == 2
    for n in holders:
        blobs[n].stop(signal.SIGKILL)
    lie = {**ground(metadata), "X-Sos-Set-At": "1", "X-Sos_Set-At": "1", "x_sos_set_at": "1"}
    for up, _ in doors:
        ask(up, body, headers=lie)  # which is stored, or refused: there are too few servers
    for n in holders:
        blobs[n] = start(n, f"other{n}" if lost and n == holders[-1] else f"data{n}")

    def settled():
        done = place.sos(f"replicate --min-copies 2 --blob-server {','.join(urls)}")
        return done.returncode == 0 and b"0 made, 0 failed" in done.stdout

    assert wait_until(settled)
    place.sos(f"replicate --min-copies 2 --blob-server {','.join(urls)}")
    names = {name.lower() for name in [*VICTIM, *lie]} - {"x-sos-set-at"}
    for url in [*(f"{each}/blob/" for each in urls), *(down for _, down in doors)]:
        answer = ask(f"{url}{id}")
        if answer.status != 404:
            shown = {n: v for n, v in answer.headers.items() if n.lower() in names}
            assert shown == metadata, url
    for _, down in doors:
        assert fetch(f"{down}{id}") == body
        assert "X-Sos-Set-At" not in ask(f"{down}{id}").headers
