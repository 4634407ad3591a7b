"""``sos replicate``, ``balance`` and ``drain``, on real servers."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from sos.cli.replicate import policy
from sos.model.conf_parser import Config
from tests.support.blobs import body_of, content_id
from tests.support.http import fetch
from tests.support.ports import free_ports


@pytest.mark.parametrize(
    ("settings", "asked", "copies"),
    [
        ({}, None, 2),
        ({"min-copies": 3}, None, 3),
        ({"write-copies": 3}, None, 3),
        ({"write-copies": 1, "min-copies": 2}, None, 2),
        ({"write-copies": 3, "min-copies": 2}, 1, 1),
    ],
)
def test_as_many_copies_are_kept_as_api_servers_keep(settings, asked, copies):
    """Or they would drop what the others make, with one sos.conf for all."""
    assert policy(Config(settings=settings), asked, None).min_copies == copies


class Servers:
    """Blob servers that ~/.sos.conf lists, each with a directory of its own."""

    def __init__(self, place, count):
        self.place = place
        self.ports = free_ports(count)
        self.urls = [f"http://localhost:{port}" for port in self.ports]
        self.daemons = [self.start(number) for number in range(count)]
        self.configure(*self.urls)

    def start(self, number):
        port = self.ports[number]
        return self.place.twistd(f"sos-blob --port {port} --store data{number}", port)

    def configure(self, *lines):
        (self.place.home / ".sos.conf").write_text("\n".join(lines) + "\n")

    def put(self, number, body):
        fetch(f"{self.urls[number]}/blob/{content_id(body)}", body)
        return content_id(body)

    def listing(self, number):
        return json.loads(fetch(f"{self.urls[number]}/blobs"))


@pytest.fixture
def servers(place):
    return Servers(place, 3)


def test_a_dry_run_prints_the_plan_and_does_nothing(place, servers):
    """Each step on a line, and then what it comes to."""
    id = servers.put(0, b"x")
    done = place.sos("replicate --dry-run --min-copies all")
    lines = done.stdout.decode().splitlines()
    first, *others = servers.urls
    assert sorted(lines[:2]) == [f"copy {id} from {first} to {url}" for url in sorted(others)]
    assert "2 copies to make, 0 made" in lines[2]
    assert [servers.listing(n) for n in range(3)] == [[id], [], []]
    assert place.sos("replicate --min-copies all").returncode == 0
    assert [servers.listing(n) for n in range(3)] == [[id]] * 3


def test_one_group_alone(place, servers):
    servers.configure("[first]", servers.urls[0], servers.urls[1], "[second]", servers.urls[2])
    servers.put(0, b"x")
    assert b"0 blobs on 1 servers" in place.sos("replicate --group second --min-copies 1").stdout
    assert servers.listing(1) == []
    done = place.sos("replicate --group third")
    assert done.returncode == 2
    assert b"there is no group third; the groups are first, second" in done.stderr
    place.sos("replicate --group first --rate 1M")
    assert servers.listing(1) == servers.listing(0)


@pytest.mark.parametrize("options", ["--min-copies 0", "--min-copies some", "--rate 0"])
def test_options_that_make_no_sense(place, options):
    assert place.sos(f"replicate {options} --blob-server http://localhost:1").returncode == 2


def test_a_server_is_added_and_takes_its_share(place, servers):
    """The table says what each of them holds, and what it should."""
    servers.configure(*servers.urls[:2])
    ids = [servers.put(0, body_of(10_000, n)) for n in range(60)]
    assert place.sos("replicate").returncode == 0
    servers.configure(*servers.urls)
    done = place.sos("balance")
    assert done.returncode == 0, done.stderr
    held = [servers.listing(n) for n in range(3)]
    assert sorted(id for each in held for id in each) == sorted(2 * ids)
    assert all(20 < len(each) < 60 for each in held)
    output = done.stdout.decode()
    assert all(url in output for url in servers.urls)
    assert len(re.findall(r"33\.3% *$", output, re.MULTILINE)) == 3  # each one's share
    assert "60 blobs on 3 servers" in output


def test_a_server_is_drained(place, servers):
    """When it is marked: it ends empty, and what it had is where it belongs."""
    ids = [servers.put(0, body_of(size, size)) for size in (10, 70_000, 100, 200_000)]
    done = place.sos(f"drain {servers.urls[0]}")
    assert done.returncode == 2
    assert b"is not marked readonly" in done.stderr
    assert len(servers.listing(0)) == 4
    servers.configure(f"{servers.urls[0]} readonly", *servers.urls[1:])
    done = place.sos(f"drain {servers.urls[0]}")
    assert done.returncode == 0, done.stderr
    assert b"is empty" in done.stdout
    assert [sorted(servers.listing(n)) for n in range(3)] == [[], sorted(ids), sorted(ids)]
    bodies = place.directory / "data0/bodies"
    assert [path for path in bodies.rglob("*") if path.is_file()] == []
    assert list((place.directory / "data0/incoming").iterdir()) == []


def test_a_server_is_not_drained_while_another_is_away(place, servers):
    """Which could hold what nobody else does, as far as can be seen."""
    servers.put(0, b"x")
    servers.configure(f"{servers.urls[0]} readonly", *servers.urls[1:])
    servers.daemons[2].stop()
    done = place.sos(f"drain {servers.urls[0]}")
    assert done.returncode == 1
    assert b"still holds blobs" in done.stderr
    assert len(servers.listing(0)) == 1
    assert place.sos("drain http://localhost:1").returncode == 2


def test_a_wiped_server_is_whole_after_one_pass(place, servers):
    """A thousand blobs of many sizes, each looked at."""
    bodies = [body_of(n * n % 3000 + (100_000 if n % 100 == 0 else 0), n) for n in range(1000)]
    ids = {content_id(body): body for body in bodies}
    for n, body in enumerate(bodies):
        servers.put(n % 3, body)
    assert place.sos("replicate --min-copies 3").returncode == 0
    servers.daemons[1].stop()
    shutil.rmtree(place.directory / "data1")
    servers.start(1)
    assert servers.listing(1) == []
    done = place.sos("replicate --min-copies 3")
    assert done.returncode == 0, done.stderr
    assert f"{len(ids)} copies to make, {len(ids)} made, 0 failed".encode() in done.stdout
    for n in range(3):
        assert sorted(servers.listing(n)) == sorted(ids)
    for id, body in ids.items():
        assert fetch(f"{servers.urls[1]}/blob/{id}") == body
    assert b"0 copies to make, 0 made, 0 failed" in place.sos("replicate --min-copies 3").stdout
