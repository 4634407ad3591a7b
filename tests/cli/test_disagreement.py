"""API servers and commands that go by different servers, in real processes."""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.blobs import body_of, content_id
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.support.waiting import wait_until


class Cluster:
    """Four blob servers, and API servers that know those that their files list."""

    def __init__(self, place):
        self.place = place
        self.ports = free_ports(4)
        self.urls = [f"http://localhost:{port}" for port in self.ports]
        for n, port in enumerate(self.ports):
            place.twistd(f"sos-blob --port {port} --store data{n}", port)

    def configure(self, name, *urls):
        (self.place.directory / name).write_text("\n".join(urls) + "\n")

    def api(self, name, options="--replicate-every 1"):
        return API(self, name, options)

    def held(self):
        """Return how many copies of each blob there are."""
        found = {}
        for url in self.urls:
            for id in json.loads(fetch(f"{url}/blobs")):
                found[id] = found.get(id, 0) + 1
        return found


class API:
    def __init__(self, cluster, name, options):
        self.up, self.down, self.admin = free_ports(3)
        self.place = cluster.place
        self.daemon = cluster.place.twistd(
            f"sos-api --config {name} --api-host 127.0.0.1 --upload-port {self.up} "
            f"--download-port {self.down} --admin-port {self.admin} {options}",
            self.admin,
        )

    def upload(self, body):
        return json.loads(fetch(f"http://127.0.0.1:{self.up}/upload", body))["id"]

    def status_of(self, id):
        return ask(f"http://127.0.0.1:{self.down}/fetch/{id}").status

    def status(self):
        return json.loads(fetch(f"http://127.0.0.1:{self.admin}/status"))

    def passes(self):
        return sum(self.status()["replication"]["passes"].values())


@pytest.fixture
def cluster(place):
    return Cluster(place)


def test_two_that_disagree_do_no_harm(place, cluster):
    """One has read of two servers more: nothing is 404 at the other, and nothing is dropped."""
    for name in ("one.conf", "two.conf"):
        cluster.configure(name, *cluster.urls[:2])
    one, two = cluster.api("one.conf"), cluster.api("two.conf")
    assert two.status_of(content_id(b"nothing")) == 404
    early = [one.upload(body_of(100, n)) for n in range(20)]
    cluster.configure("one.conf", *cluster.urls)
    one.daemon.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: "reloaded the configuration" in one.daemon.log)
    assert wait_until(lambda: two.status_of(content_id(b"nothing")) == 503)
    late = [one.upload(body_of(100, n)) for n in range(20, 60)]
    assert {two.status_of(id) for id in [*early, *late]} <= {200, 503}
    assert {one.status_of(id) for id in [*early, *late]} == {200}
    assert one.status_of(content_id(b"nothing")) == 404  # it knows all that there are
    for each in (one, two):
        assert wait_until(lambda each=each: each.status()["errors"])
        assert wait_until(lambda each=each: "uses another set of servers" in each.daemon.log)
        done = place.sos(f"status --url http://127.0.0.1:{each.admin}")
        assert done.returncode == 1
        assert "uses another set of servers" in done.stdout.decode()
    (error,) = two.status()["errors"]
    assert f"group default also has {cluster.urls[2]}" in error or cluster.urls[3] in error
    for name in ("one.conf", "two.conf"):  # each names the one that goes by the other file
        done = place.sos(f"status --config {name}")
        assert done.returncode == 1
        assert done.stdout.decode().count("uses another set of servers") == 1
    cluster.configure("three.conf", *cluster.urls[:3])
    done = place.sos("status --config three.conf")
    assert done.stdout.decode().count("uses another set of servers") == 2
    # Some passes of both: copies are made, and none is dropped.
    seen = {each: each.passes() for each in (one, two)}
    before = cluster.held()
    assert wait_until(lambda: all(each.passes() > seen[each] + 2 for each in seen))
    after = cluster.held()
    assert all(after[id] >= count for id, count in before.items())
    for each in (one, two):
        assert each.status()["replication"]["made"]["moved"] == 0
        assert each.status()["replication"]["last"]["summary"]["errors"]
    done = place.sos("balance --config one.conf")
    assert done.returncode == 1
    assert "uses another set of servers" in done.stderr.decode()
    assert all(cluster.held()[id] >= count for id, count in after.items())
    # And then they agree.
    cluster.configure("two.conf", *reversed(cluster.urls))
    two.daemon.process.send_signal(signal.SIGHUP)
    assert wait_until(lambda: not one.status()["errors"] and not two.status()["errors"])
    assert wait_until(lambda: set(cluster.held().values()) == {2})
    assert {two.status_of(id) for id in [*early, *late]} == {200}
    assert two.status_of(content_id(b"nothing")) == 404
    assert wait_until(lambda: place.sos("status --config one.conf").returncode == 0)


def test_a_command_that_disagrees_drops_nothing(place, cluster):
    """And is gone when it has ended."""
    cluster.configure("one.conf", *cluster.urls)
    cluster.configure("two.conf", *cluster.urls[:3], f"{cluster.urls[3]} readonly")
    one = cluster.api("one.conf", "--replicate-every 0")
    ids = [one.upload(body_of(100, n)) for n in range(20)]
    done = place.sos(f"drain {cluster.urls[3]} --config two.conf")
    assert done.returncode == 1
    assert f"{cluster.urls[3]} is weight=1, here readonly" in done.stderr.decode()
    assert "still holds blobs" in done.stderr.decode()
    assert wait_until(lambda: one.status()["errors"] == [])
    place.sos("replicate --config one.conf")
    cluster.configure("one.conf", *cluster.urls[:3], f"{cluster.urls[3]} readonly")
    one.daemon.stop()
    assert place.sos(f"drain {cluster.urls[3]} --config two.conf").returncode == 0
    held = cluster.held()
    assert all(held[id] >= 2 for id in ids)
