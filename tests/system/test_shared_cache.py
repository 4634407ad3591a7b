"""API servers that share the places of blobs, as real processes beside real caches."""

from __future__ import annotations

import itertools
import signal

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.caches import KINDS, CacheServer
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.processes import Place
from tests.support.waiting import wait_until


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.stop()


@pytest.fixture(params=KINDS)
def cache(request, tmp_path):
    password = "open-sesame" if request.param == "redis" else None
    server = CacheServer(tmp_path, request.param, password)
    yield server
    server.signal(signal.SIGCONT)
    server.kill()


class Archive:
    """Four readonly blob servers, which every API server asks in the same order."""

    def __init__(self, place):
        self.place = place
        self.ports = free_ports(4)
        self.blobs = [
            place.twistd(
                f"sos-blob --port {port} --store data{number} --access-log access{number}", port
            )
            for number, port in enumerate(self.ports)
        ]
        servers = "".join(f"http://127.0.0.1:{port} readonly\n" for port in self.ports)
        (place.directory / "sos.conf").write_text(servers)

    def api_server(self, options=""):
        """Start an API server; returns it, and the URL of its fetches."""
        up, down = free_ports(2)
        daemon = self.place.twistd(
            f"sos-api --config sos.conf --api-host 127.0.0.1 --upload-port {up} "
            f"--download-port {down} --replicate-every 0 {options}",
            up,
            down,
        )
        return daemon, f"http://127.0.0.1:{down}/fetch/"

    def add(self, seed, number):
        """Put a blob on one of the servers; returns its bytes."""
        body = body_of(1000, seed)
        fetch(f"http://127.0.0.1:{self.ports[number]}/blob/{content_id(body)}", body)
        return body

    def asked(self, number, body):
        """Tell how often one of the servers has been asked for a blob."""
        log = (self.place.directory / f"access{number}").read_text()
        return log.count(f'"GET /blob/{content_id(body)} ')


def test_what_one_found_another_finds_with_a_request_less(place, cache):
    """It skips those that come before the one where the blob is."""
    archive = Archive(place)
    one, one_fetches = archive.api_server(f"--cache {cache.url}")
    other, other_fetches = archive.api_server(f"--cache {cache.url}")
    _, alone_fetches = archive.api_server()
    saved = []
    seeds = itertools.count()

    def try_another():
        # The first requests find no connection yet, and a machine that is busy
        # with something else may answer too late.
        body = archive.add(next(seeds), 3)
        assert fetch(one_fetches + content_id(body)) == body
        second = archive.blobs[1].process
        second.send_signal(signal.SIGSTOP)  # or it could be sooner than the cache
        assert fetch(other_fetches + content_id(body)) == body
        second.send_signal(signal.SIGCONT)
        assert wait_until(lambda: archive.asked(3, body) == 2)
        if archive.asked(2, body) == 1:
            saved.append(body)
        return len(saved) == 3

    assert wait_until(try_another, 60)
    for body in saved:
        assert fetch(alone_fetches + content_id(body)) == body
    for each in archive.blobs:
        each.stop()
    for body in saved:
        # The first server, the one that has it, and for the first who looks for
        # it as for who has no cache also the two in between.
        assert [archive.asked(number, body) for number in (0, 2, 3)] == [3, 2, 3]
    for daemon in (one, other):
        assert f"uses the shared cache {cache.shown}" in daemon.log
        assert "sesame" not in daemon.log
        assert "Traceback" not in daemon.log


@pytest.mark.parametrize("trouble", ["killed", "frozen", "full of lies"])
def test_a_cache_in_trouble_costs_no_answer(place, cache, trouble):
    """Each is right, and none takes long, while it is in trouble and after that."""
    archive = Archive(place)
    _, one_fetches = archive.api_server(f"--cache {cache.url}")
    other, other_fetches = archive.api_server(f"--cache {cache.url}")
    bodies = [archive.add(seed, seed % 4) for seed in range(12)]
    for body in bodies:
        assert fetch(one_fetches + content_id(body)) == body
    if trouble == "killed":
        cache.kill()
    elif trouble == "frozen":
        cache.signal(signal.SIGSTOP)
    else:
        first = f"http://127.0.0.1:{archive.ports[0]}"
        lies = ["http://127.0.0.1:1", "\x00\r\n junk", first, f"{first}/x"]
        for body, lie in zip(bodies, itertools.cycle(lies), strict=False):
            cache.put(f"sos:where:{content_id(body)}", lie)
    for body in bodies:
        assert fetch(other_fetches + content_id(body)) == body
    assert ask(other_fetches + "0" * 40).status == 404
    if trouble != "full of lies":
        assert wait_until(lambda: "circuit breaker opened" in other.log)
    assert "sesame" not in other.log
    assert "Traceback" not in other.log


def test_uploads_go_on_without_the_cache(place, tmp_path):
    """Also those that would be told to it."""
    cache = CacheServer(tmp_path, "memcached")
    (port,) = free_ports(1)
    place.twistd(f"sos-blob --port {port} --store data", port)
    up, down = free_ports(2)
    # Half of the ids belong to a server that is not there.
    place.twistd(
        f"sos-api --blob-server http://127.0.0.1:1,http://127.0.0.1:{port} --min-copies 1 "
        f"--cache {cache.url} --api-host 127.0.0.1 --upload-port {up} --download-port {down}",
        up,
        down,
    )
    for seed in range(20):
        if seed == 5:
            cache.kill()
        body = body_of(1000, seed)
        fetch(f"http://127.0.0.1:{up}/upload", body)
        assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(body)}") == body


def test_small_blobs_come_from_the_cache(place, cache):
    """Sealed by the servers' key; without the cache, or after a lie, they come all the same."""
    (place.directory / "secret").write_bytes(place.sos("secret").stdout)
    (place.directory / "secret").chmod(0o600)
    up, down = free_ports(2)
    place.twistd(
        f"sos-api --store memory: --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"--secret-file secret --cache {cache.url}",
        up,
        down,
    )
    body, large = body_of(1000), body_of(100_000)
    for each in (body, large):
        fetch(f"http://127.0.0.1:{up}/upload", each, {"X-Name": "a name"})
    url = f"http://127.0.0.1:{down}/fetch/{content_id(body)}"
    assert fetch(url) == body
    assert wait_until(lambda: cache.get(f"sos:blob:{content_id(body)}"))
    assert body in cache.get(f"sos:blob:{content_id(body)}")
    assert fetch(url) == body
    assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(large)}") == large
    assert cache.get(f"sos:blob:{content_id(large)}") is None
    cache.put(f"sos:blob:{content_id(body)}", "a lie")
    assert fetch(url) == body
    cache.kill()
    assert fetch(url) == body
