"""How a daemon says that it is doing."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from sos import __version__
from sos.daemon.status import ClusterPart, DaemonStatus, StorePart
from sos.interfaces import Member
from sos.monitoring.server_health import LEFT_ALONE, UP, parse_health
from sos.replication import Policy, ReplicationService
from sos.scrub import Report
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from tests.support.blobs import content_id, put
from tests.support.doubles import FailingStore


@pytest.fixture
def clock():
    clock = Clock()
    clock.advance(1000)
    return clock


class Cluster:
    """Two servers, and an API server's overview of them."""

    def __init__(self, clock, b, replicates=False):
        groups = {"default": (Member(MemoryStore("a")), Member(b, preferred=True))}
        self.store = ReplicatedStore(groups, maybeDeferred, clock, copy_counts=CopyCounts(1, 2))
        replication = None
        if replicates:
            replication = ReplicationService(groups, Policy(2), 10.0, clock, set(), lambda: 5000.0)
            replication.startService()
        self.overview = DaemonStatus(ClusterPart(self.store, replication), {"min-copies": 2}, clock)


@ensureDeferred
async def test_a_cluster(clock):
    """The servers with what was asked of each, and the copies that nobody waits for."""
    cluster = Cluster(clock, MemoryStore("b"))
    for number in range(6):
        await put(cluster.store, b"%d" % number)
    work = Deferred()
    cluster.store.background.add(100, work, work.cancel)
    clock.advance(7)
    document_ = await cluster.overview.document()
    assert (document_["version"], document_["uptime"]) == (__version__, 7.0)
    assert document_["settings"] == {"min-copies": 2}
    assert document_["background"] == {"copies": 1, "bytes": 100}
    assert document_["replication"] is None
    (servers,) = parse_health(document_["groups"]).values()
    assert [(each.url, each.state, each.requests) for each in servers] == [
        ("a", UP, 6),
        ("b", UP, 6),
    ]
    assert [each.p95_ms for each in servers] == [0.0, 0.0]


@ensureDeferred
async def test_a_server_that_is_down(clock):
    """It is left alone, and the reason is told."""
    cluster = Cluster(clock, FailingStore("b"))
    await put(cluster.store, b"x")
    (servers,) = parse_health((await cluster.overview.document())["groups"]).values()
    assert [each.state for each in servers] == [UP, LEFT_ALONE]
    assert servers[1].reason == "b is down"
    cluster.store.stop()


@ensureDeferred
async def test_replication(clock):
    """When, how long, and what it did."""
    cluster = Cluster(clock, MemoryStore("b"), replicates=True)
    assert (await cluster.overview.document())["replication"] == {
        "running_since": None,
        "last": None,
        "lag": 0.0,
        "hints": 0,
        "passes": {"ok": 0, "incomplete": 0, "failed": 0},
        "made": {"copied": 0, "bytes": 0, "failed": 0, "moved": 0},
    }
    clock.advance(12)
    document_ = (await cluster.overview.document())["replication"]
    assert document_["passes"]["ok"] == 1
    last = document_["last"]
    assert (last["started_at"], last["seconds"], last["error"]) == (5000.0, 0.0, None)
    assert (last["summary"]["servers"], last["summary"]["copied"]) == (2, 0)


@ensureDeferred
async def test_a_store_with_its_scrub(clock, local_store):
    """As it is now."""
    await put(local_store, b"x", content_id(b"x"))
    report = Report()
    overview = DaemonStatus(StorePart(local_store, report), {}, clock)
    for checked in (0, 5):
        report.checked = checked
        document_ = await overview.document()
        assert document_["scrub"]["checked"] == checked
        assert (document_["store"]["writable"], document_["store"]["blobs"]) == (True, 1)


@ensureDeferred
async def test_a_disk_that_failed(clock, local_store):
    """The store takes nothing more, and says why."""
    overview = DaemonStatus(StorePart(local_store, None), {}, clock)
    local_store._committer.give_up("the disk failed")
    document_ = (await overview.document())["store"]
    assert (document_["writable"], document_["reason"]) == (
        False,
        "the store is read-only because the disk failed",
    )
