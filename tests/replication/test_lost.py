"""Blobs that servers had and cannot give any more: in no listing, and yet not forgotten."""

from __future__ import annotations

import os

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred

from sos.errors import SOSError
from sos.stores.local import LocalStore
from tests.replication.groups import RecordedReport, run
from tests.support.blobs import body_of, content, content_id, put

BODIES = [body_of(100_000, seed) for seed in range(3)]


@async_yield_fixture
async def servers(tmp_path, reactor):
    """Two that hold the same."""
    stores = [LocalStore(tmp_path / name, reactor) for name in "ab"]
    for store in stores:
        store.open()
        for body in BODIES:
            await put(store, body)
    yield stores
    for store in stores:
        await store.close()


def unreadable(path):
    path.unlink()
    path.symlink_to(path)


def damaged(path):
    os.truncate(path, 5)


async def lose(store, body, how=unreadable):
    """Take the file of a body, and let the store notice."""
    how(store._layout.body(content_id(body)))
    with pytest.raises(SOSError):
        await content(await store.read(content_id(body)))


async def lost_by(store):
    status = await store.status()
    assert status.lost == len(status.lost_ids)
    return {*status.lost_ids}


@pytest.mark.parametrize("how", [unreadable, damaged])
@ensureDeferred
async def test_what_another_server_has_comes_back(servers, reactor, how):
    """Then nothing is lost."""
    await lose(servers[0], BODIES[0], how)
    assert await lost_by(servers[0]) == {content_id(BODIES[0])}
    summary = await run(servers, 2, clock=reactor)
    assert (summary.ok, summary.copied, summary.broken) == (True, 1, 0)
    assert await lost_by(servers[0]) == set()


@pytest.mark.parametrize("how", [unreadable, damaged])
@ensureDeferred
async def test_what_no_server_has_is_told(servers, reactor, how):
    """Once, by all passes, until it is uploaded again; the listings are alike all the while."""
    id = content_id(BODIES[1])
    for store in servers:
        await lose(store, BODIES[1], how)
    for dry_run in (False, True):
        recorded = RecordedReport()
        summary = await run(servers, 2, recorded, dry_run=dry_run, clock=reactor)
        assert (summary.ok, summary.broken, summary.planned) == (False, 1, 0)
        assert any(f"{id} is lost: " in line for line in recorded.warnings)
    await put(servers[0], BODIES[1])
    assert (await run(servers, 2, clock=reactor)).ok
    assert (await run(servers, 2, clock=reactor)).idle


@ensureDeferred
async def test_it_is_remembered(servers, reactor):
    """By the store: another process may have noticed."""
    await lose(servers[0], BODIES[0])
    await lose(servers[0], BODIES[1], damaged)
    await servers[0].close()
    servers[0].open()
    assert await lost_by(servers[0]) == {content_id(BODIES[0]), content_id(BODIES[1])}


@ensureDeferred
async def test_what_is_dropped_is_not_lost(servers, reactor):
    """Somebody has asked for that."""
    await lose(servers[0], BODIES[0])
    await lose(servers[0], BODIES[1], damaged)
    lease = await servers[0].lease(60)
    for body in BODIES:
        await servers[0].drop(content_id(body), lease)
    assert await lost_by(servers[0]) == set()


@ensureDeferred
async def test_what_can_be_read_again_is_not_lost(servers):
    """As when a disk was mounted again."""
    path = servers[0]._layout.body(content_id(BODIES[0]))
    path.rename(path.with_suffix(".away"))
    with pytest.raises(SOSError):
        await servers[0].read(content_id(BODIES[0]))
    path.with_suffix(".away").rename(path)
    assert await content(await servers[0].read(content_id(BODIES[0]))) == BODIES[0]
    assert await lost_by(servers[0]) == set()


@ensureDeferred
async def test_a_server_that_lost_more_than_it_tells_of(servers, reactor, monkeypatch):
    """Nobody can say that all is well then."""
    monkeypatch.setattr("sos.stores.local.store._LOST_IDS", 1)
    for body in BODIES[:2]:
        await lose(servers[0], body)
    recorded = RecordedReport()
    assert not (await run(servers, 2, recorded, clock=reactor)).ok
    assert any("lost 2 blobs" in line for line in recorded.warnings)
    assert (await run(servers, 2, clock=reactor)).ok
