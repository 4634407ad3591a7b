"""Group commit, and an index that outgrows its map."""

from __future__ import annotations

import threading

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from sos.errors import ReadOnly, Unavailable
from sos.model.digest import hash_of
from sos.stores.disk_errors import SyncFailed
from sos.stores.local.committer import Committer
from sos.stores.local.index import Index
from sos.stores.record import Record
from tests.stores.local.committing import held_up
from tests.support.blobs import body_of, content_id

SMALL_MAP = 1 << 20


@async_yield_fixture
async def committer(tmp_path, reactor):
    """A committer of an index whose map is soon full."""
    index = Index(tmp_path, durable=True, map_size=SMALL_MAP)
    committer = Committer(index, reactor)
    committer.index = index
    committer.start()
    yield committer
    await deferToThread(committer.stop)
    index.close()


def record_of(seed, size=1000):
    body = body_of(size, seed=seed)
    id = content_id(body)
    return Record(id, size, hash_of(id, body), b"{}", 1.0, body)


@ensureDeferred
async def test_the_map_grows_by_itself(committer):
    """No one meets its limit, and nothing is lost on the way."""
    records = [record_of(seed, 20_000) for seed in range(300)]
    await gatherResults([committer.submit(lambda t, r=record: t.add(r)) for record in records])
    held = committer.index.listing(None, 1000, None)
    assert sorted(held) == sorted(record.id for record in records)
    assert sum(d.count for d in committer.index.digests().values()) == 300


@ensureDeferred
async def test_what_waits_is_taken_together(committer):
    """While one transaction is under way the next gathers, and becomes one as well."""
    transactions = []
    async with held_up(committer):
        waiting = [committer.submit(lambda t: transactions.append(id(t))) for _ in range(50)]
    await gatherResults(waiting)
    assert len(transactions) == 50
    assert len(set(transactions)) == 1


@ensureDeferred
async def test_reads_do_not_wait_for_writes(committer):
    """They see what was committed before."""
    record = record_of(1)
    await committer.submit(lambda t: t.add(record))
    started, release = threading.Event(), threading.Event()

    def slow(transaction):
        transaction.add(record_of(2))
        started.set()
        release.wait(60)

    writing = committer.submit(slow)
    await deferToThread(started.wait, 10)
    assert committer.index.listing(None, 10, None) == [record.id]
    assert committer.index.get(record.id) is not None
    release.set()
    await writing
    assert len(committer.index.listing(None, 10, None)) == 2


@ensureDeferred
async def test_after_a_failed_sync_nothing_is_taken(committer):
    """A second try could succeed without what the first one lost."""

    def unsynced(transaction):
        raise SyncFailed("input/output error")

    with pytest.raises(ReadOnly, match="input/output"):
        await committer.submit(unsynced)
    with pytest.raises(ReadOnly, match="input/output"):
        await committer.submit(lambda t: t.add(record_of(1)))
    assert committer.index.listing(None, 10, None) == []


@ensureDeferred
async def test_after_a_failed_sync_it_takes_no_more(tmp_path, reactor):
    """Another fsync would tell nothing; the first reason stays."""
    index = Index(tmp_path, durable=True)
    committer = Committer(index, reactor)
    committer.start()
    committer.fail(SyncFailed("input/output error"))
    committer.fail(SyncFailed("again"))
    with pytest.raises(ReadOnly, match="input/output error"):
        await committer.submit(lambda t: t.add(record_of(1)))
    await deferToThread(committer.stop)
    index.close()


@ensureDeferred
async def test_what_comes_later_does_not_spoil_an_answer(committer):
    """Answers wait for the steps of the next transaction, whatever becomes of that."""
    started, release = threading.Event(), threading.Event()

    def first(transaction):
        started.set()
        release.wait(60)
        return "first"

    def broken(transaction):
        raise ValueError("a mistake in a step")

    answered = committer.submit(first)
    await deferToThread(started.wait, 10)
    later = [committer.submit(broken), committer.submit(lambda t: "beside it")]
    release.set()
    assert await answered == "first"
    for failed in later:
        with pytest.raises(ValueError, match="a mistake"):
            await failed


@ensureDeferred
async def test_after_the_stop_nothing_waits_for_ever(tmp_path, reactor):
    """What comes too late is refused."""
    index = Index(tmp_path, durable=True)
    committer = Committer(index, reactor)
    committer.start()
    before = committer.submit(lambda t: "done")
    await deferToThread(committer.stop)
    assert await before == "done"
    with pytest.raises(Unavailable):
        await committer.submit(lambda t: "late")
    index.close()


@ensureDeferred
async def test_commits_are_told_of(tmp_path, reactor):
    """With how many changes each made durable, and the seconds that this took."""
    commits = []
    index = Index(tmp_path, durable=True)
    committer = Committer(index, reactor, committed=lambda *commit: commits.append(commit))
    committer.start()
    await gatherResults([committer.submit(lambda t, n=n: t.add(record_of(n))) for n in range(5)])
    await committer.submit(lambda t: t.add(record_of(5)))
    await deferToThread(committer.stop)
    index.close()
    assert [changes for changes, _ in commits] == [5, 1]
    assert all(0 < seconds < 10 for _, seconds in commits)


@ensureDeferred
async def test_a_failed_sync_is_not_put_down_to_a_full_disk(committer):
    """But where LMDB says so, which takes one for the other."""

    def unsynced(transaction):
        raise SyncFailed("fsync failed: Input/output error")

    committer.index.is_nearly_full = lambda: True
    with pytest.raises(ReadOnly, match="could not be made durable"):
        await committer.submit(unsynced)
    assert committer.failure is not None
