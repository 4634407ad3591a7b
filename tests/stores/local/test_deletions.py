"""Deleted objects in a store in a directory: nothing is left of their bytes."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.defer import gatherResults

from sos.errors import Deleted, NoSpace
from sos.model.merge import tombstone
from sos.model.metadata import SET_AT, STORED_AT
from sos.stores.local import LocalStore
from sos.stores.local.backup import backup
from sos.stores.local.blob_writes import BlobWrites
from sos.stores.local.check import check
from sos.stores.local.compact import compact
from sos.stores.local.rebuild import rebuild
from tests.support.blobs import body_of, content, content_id, put

# In ticks: in 2026.
BASE = 179 * 10**12
LARGE = body_of(100_000)
ID = content_id(LARGE)


def files(path):
    """Return the files of bodies, and those that are to become some."""
    return [each for name in ("bodies", "incoming") for each in (path / name).rglob("*/*/*")]


async def with_a_deleted_object(path, reactor):
    store = LocalStore(path, reactor)
    store.open()
    await put(store, LARGE, metadata={SET_AT: str(BASE)})
    assert len(files(path)) == 1
    await store.reconcile(ID, tombstone(BASE + 1))
    assert files(path) == []
    return store


@ensureDeferred
async def test_the_file_is_gone_and_stays_gone(tmp_path, reactor):
    """Also when the store is opened again, and when the object is stored again."""
    path = tmp_path / "store"
    store = await with_a_deleted_object(path, reactor)
    await store.close()
    store = LocalStore(path, reactor)
    store.open()
    with pytest.raises(Deleted):
        await store.read(ID)
    assert store.peek(ID) is None
    await put(store, LARGE, ID, {SET_AT: str(BASE + 2)})
    assert await content(await store.read(ID)) == LARGE
    assert len(files(path)) == 1
    await store.reconcile(ID, tombstone(BASE + 3))
    assert files(path) == []
    await store.close()


@ensureDeferred
async def test_whoever_reads_the_body_reads_it_to_its_end(tmp_path, reactor):
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    await put(store, LARGE, metadata={SET_AT: str(BASE)})
    blob = await store.read(ID)
    await store.reconcile(ID, tombstone(BASE + 1))
    assert await content(blob) == LARGE
    await store.close()


@ensureDeferred
async def test_a_failed_commit_leaves_the_object(tmp_path, reactor, monkeypatch):
    """With its file."""
    path = tmp_path / "store"
    store = LocalStore(path, reactor)
    store.open()
    await put(store, LARGE, metadata={SET_AT: str(BASE)})

    def full(*arguments):
        raise NoSpace("full")

    with monkeypatch.context() as patched:
        patched.setattr("sos.stores.local.transaction.Transaction.replace", full)
        with pytest.raises(NoSpace):
            await store.reconcile(ID, tombstone(BASE + 1))
    assert await content(await store.read(ID)) == LARGE
    assert len(files(path)) == 1
    await store.close()


@ensureDeferred
async def test_tools_keep_the_tombstone(tmp_path, reactor):
    """It is what keeps the object from coming back."""
    path = tmp_path / "store"
    store = await with_a_deleted_object(path, reactor)
    digests = await store.digests()
    await store.close()
    assert check(path).ok
    assert compact(path).blobs == 1
    assert backup(path, tmp_path / "backup").ok
    (tmp_path / "backup/backup.json").unlink()
    rebuild(path)
    for each in (path, tmp_path / "backup"):
        store = LocalStore(each, reactor, require=True)
        store.open()
        assert await store.digests() == digests
        with pytest.raises(Deleted):
            await store.stat(ID)
        await store.close()


@ensureDeferred
async def test_many_uploads_of_the_same_bytes_verify_them_once_each(tmp_path, reactor, monkeypatch):
    """None begins anew because another was noted, and the last time stays."""
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    await put(store, LARGE, metadata={SET_AT: str(BASE)})
    verified = []
    verify = BlobWrites.verify

    def counted(*arguments):
        verified.append(True)
        return verify(*arguments)

    monkeypatch.setattr(BlobWrites, "verify", counted)
    uploads = [put(store, LARGE, ID, {SET_AT: str(BASE + n)}) for n in range(20)]
    await gatherResults([deferred(each) for each in uploads])
    assert len(verified) == 20
    assert (await store.stat(ID)).metadata[STORED_AT] == str(BASE + 19)
    await store.close()
