"""Servers fail, one way and another, while clients upload and fetch all the time."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections import Counter
from random import Random

import pytest

from sos.replication.leases import SECONDS
from tests.support.http import ask
from tests.support.waiting import wait_until
from tests.system.faults import network
from tests.system.faults.audit import copies
from tests.system.faults.cluster import Api, Server
from tests.system.faults.collecting import collected
from tests.system.faults.load import Load

SERVERS = 3
COPIES = 2
#: What harms nothing that is stored, and what does: that befalls one server in a round.
PASSING = (Server.cut, Server.kill, Server.freeze, Server.fill, Server.replace)
LASTING = (Server.wipe, Server.corrupt, Server.hide, Server.lose_index)
#: What happens to an API server.
OF_APIS = (Api.kill, Api.split)

SEED = 20261124
# Longer than any upload takes while servers fail.
GRACE_SECONDS = 600
# Objects of the latest, and of all others, of which it is looked whether they have their copies.
_SAMPLE = 100


@pytest.fixture
def hosts():
    hosts = network.make(SERVERS)
    yield hosts
    hosts.remove()


@pytest.fixture
def servers(place, hosts):
    servers = [Server(place, hosts, number) for number in range(SERVERS)]
    yield servers
    for server in servers:
        server.remove()


def test_nothing_that_was_acknowledged_is_lost(place, servers, long, capsys):
    """With two copies acknowledged, and one server at a time that loses what it has."""
    random, counts = Random(SEED), Counter()
    acknowledged: dict[str, tuple[int, int]] = {}
    deleted: dict[str, tuple[int, int]] = {}
    place.end_seconds = 600  # a pass over all that is stored by then
    apis = [Api(place, servers) for _ in range(2)]
    for number in range(10 if long else 1):
        ports = [api.ports for api in apis]
        load = Load(ports, acknowledged, deleted, counts, random.getrandbits(32))
        with load:
            torment(
                place, load, servers, apis, 60 if long else 20, 6 if long else 3, random, counts
            )
        assert load.wrong == []
        for api in apis:
            api.stop()
        converge(place, servers, counts)
        collect_all(place, servers, counts)
        for api in apis:
            api.start()
        look_at_everything(load, servers, apis, counts)
        assert load.wrong == []
        with capsys.disabled():
            summary = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
            print(f"\nround {number + 1}, seed {SEED}: {summary}; 0 lost, 0 back, 0 wrong")
    assert counts["acknowledged"] > 0
    if long:  # a short round on a busy machine may come to neither
        assert counts["deleted"] > 0
        assert counts["garbage removed"] > 0
    assert counts["fetched"] > 0
    for daemon in place.running:
        assert "Traceback" not in daemon.log, daemon.log_path


def torment(place, load, servers, apis, seconds, pause, random, counts):
    """Let things happen for so many *seconds*, some of them at the same time.

    :param pause: seconds from one to the next, at most.
    """
    until = time.monotonic() + seconds
    victim, left = random.choice(servers), []
    while time.monotonic() < until:
        every = [*PASSING, *LASTING, *OF_APIS]
        left = left or random.sample(every, len(every))
        fault = left.pop()
        server = victim if fault in LASTING else random.choice(servers)
        if random.random() < 0.3:  # of what is older than the uploads under way
            urls = [each.url for each in servers]
            summary = collected(place, urls, COPIES, GRACE_SECONDS)
            counts[f"collections {'done' if summary.ok else 'refused'}"] += 1
            counts["garbage removed"] += summary.copies
        fault(random.choice(apis) if fault in OF_APIS else server, random)
        counts[f"x {fault.__qualname__}"] += 1
        time.sleep(random.uniform(0.5, pause))
        if random.random() < 0.7:
            server.recover()
        check_what_is_said(place, load, servers, random, counts)


def check_what_is_said(place, load, servers, random, counts):
    """Where it is said that all is well, every object can be read from as many as are wanted.

    Looked at are those that something was done to, the latest, and others by chance.

    Damage that nobody has read yet is not known to anybody: it is read before.
    """
    if not all(server.meets() for server in servers):
        return
    config = place.directory / "all.conf"
    urls = "".join(f"{server.url}\n" for server in servers)
    config.write_text(f"{urls}[sos]\nmin-copies = {COPIES}\n")
    for command in ("status", "replicate"):
        stored = list(load.acknowledged)
        touched = set(stored) & set().union(*(each.touched for each in servers))
        try:
            done = place.sos(f"{command} --config {config}")
        except subprocess.TimeoutExpired:
            continue
        counts[f"{command} ended with {done.returncode}"] += 1
        if done.returncode == 0:
            others = random.sample(stored, min(len(stored), _SAMPLE))
            looked_at = {*touched, *stored[-_SAMPLE:], *others}
            counts["objects looked at"] += len(looked_at)
            few = [id for id in looked_at if sum(reads(server, id) for server in servers) < COPIES]
            few = [id for id in few if id not in load.doomed]
            assert not few, (command, done.stdout, few, counts)


def reads(server, id):
    try:
        return server.read(id)
    except (OSError, http.client.HTTPException):
        return False


def converge(place, servers, counts):
    """End all faults, and let one pass make good what they have done; at last there is no more."""
    for server in servers:
        server.recover()
        server.restart()
    urls = ",".join(server.url for server in servers)
    assert wait_until(lambda: place.sos(f"status --blob-server {urls}").returncode == 0)
    first = place.sos(f"balance --min-copies {COPIES} --blob-server {urls}")
    assert b", 0 failed" in first.stdout, (first.stdout, first.stderr)

    def settled() -> bool:
        # An API server that was killed in the midst of a pass has left its lease.
        again = place.sos(f"balance --min-copies {COPIES} --blob-server {urls}")
        assert b": 0 copies to make, 0 made, 0 failed" in again.stdout, again.stdout
        return again.stdout.endswith(b"failed\n")

    assert wait_until(settled, SECONDS + 30)
    counts["copies made afterwards"] += int(first.stdout.split(b"to make, ")[1].split()[0])


def collect_all(place, servers, counts):
    """While no upload is under way, all garbage goes: of broken uploads and of deleted objects."""
    time.sleep(1)
    urls = [server.url for server in servers]
    summary = collected(place, urls, COPIES, 0.5)
    assert summary.ok, summary
    counts["garbage removed"] += summary.copies
    assert collected(place, urls, COPIES, 0.5).garbage == 0


def look_at_everything(load, servers, apis, counts):
    """Each blob is where it should be, sound, as often as it should; each object can be fetched."""
    held = sum((copies(server.url) for server in servers), Counter())
    assert set(held.values()) <= {COPIES}, "not as many copies as there should be"
    assert set(load.acknowledged) <= set(held), "lost"
    for id in load.acknowledged:
        assert load.check(id, apis[0].ports[1])
    for id in load.deleted:
        for api in apis:
            answer = ask(f"http://127.0.0.1:{api.ports[1]}/fetch/{id}")
            assert answer.status == 410, (id, answer)
    counts["deletions looked at"] += len(load.deleted)
    counts["copies looked at"] += sum(held.values())
