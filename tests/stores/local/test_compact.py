"""Compacting the index of a store: smaller, the same blobs, and never without an index."""

from __future__ import annotations

import os
import shutil

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import StoreUnusable
from sos.stores.local import LocalStore
from sos.stores.local import compact as compacting
from sos.stores.local.check import check
from sos.stores.local.compact import compact
from tests.support.blobs import body_of, content, put


async def filled(path, reactor):
    """Make a store from which most blobs were dropped; return its digests and listing."""
    store = LocalStore(path, reactor, durable=False)
    store.open()
    bodies = [body_of(20_000, seed) for seed in range(100)]
    for body in bodies:
        await store.put(None, {"X-Name": "n"}, body)
    await put(store, body_of(100_000))
    token = await store.lease(300)
    for id in (await store.listing())[:90]:
        await store.drop(id, token)
    found = await store.digests(), await store.listing()
    await store.close()
    return found


async def contents(path, reactor):
    """Return digests, listing and bodies of a store that opens."""
    store = LocalStore(path, reactor, require=True)
    store.open()
    digests, listing = await store.digests(), await store.listing()
    for id in listing:
        await content(await store.read(id))
    await store.close()
    return digests, listing


def size(path):
    return (path / "index/data.mdb").stat().st_size


@ensureDeferred
async def test_the_index_shrinks_and_nothing_is_lost(tmp_path, reactor):
    """Neither blobs nor files; and the store goes on to be written to."""
    path = tmp_path / "store"
    before = await filled(path, reactor)
    large = size(path)
    report = compact(path)
    assert (report.before, report.after, report.blobs) == (large, size(path), 11)
    assert report.after < large / 3
    assert str(report) == f"11 blobs; the index has {size(path)} bytes, {large} before"
    assert await contents(path, reactor) == before
    assert check(path).ok
    assert not (path / "index.making").exists()
    store = LocalStore(path, reactor)
    store.open()
    await store.put(None, {}, b"another")
    await store.close()
    assert compact(path).blobs == 12


@ensureDeferred
async def test_an_older_copy_is_still_noticed(tmp_path, reactor):
    """The note of how far the index is counts from the new index on."""
    path = tmp_path / "store"
    await filled(path, reactor)
    compact(path)
    store = LocalStore(path, reactor)
    store.open()
    shutil.copytree(path / "index", tmp_path / "older")
    await store.put(None, {}, b"new")
    await store.close()
    shutil.copy(tmp_path / "older/data.mdb", path / "index/data.mdb")
    with pytest.raises(StoreUnusable, match=r"older copy|but had"):
        LocalStore(path, reactor).open()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (compacting.Index, "copy"),
        (compacting.Layout, "sync_file"),
        (os, "truncate"),
        (os, "replace"),
        (compacting.Layout, "sync_directory"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
@ensureDeferred
async def test_a_failure_leaves_a_whole_store(tmp_path, reactor, monkeypatch, module, name, late):
    """Before or after each step; the next attempt succeeds."""
    path = tmp_path / "store"
    before = await filled(path, reactor)
    real = getattr(module, name)

    def broken(*arguments, **options):
        if late:
            real(*arguments, **options)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, name, broken)
        with pytest.raises(StoreUnusable, match=r"cannot compact .*No space left"):
            compact(path)
    assert not (path / "index.making").exists()
    assert await contents(path, reactor) == before
    assert compact(path).blobs == 11
    assert await contents(path, reactor) == before


@ensureDeferred
async def test_a_store_in_use_is_refused(tmp_path, reactor):
    """So is a directory that is no store, which stays as it is."""
    path = tmp_path / "store"
    store = LocalStore(path, reactor)
    store.open()
    with pytest.raises(StoreUnusable, match="in use by another process"):
        compact(path)
    await store.close()
    (tmp_path / "other").mkdir()
    for name in ("other", "none"):
        with pytest.raises(StoreUnusable, match="is not a store"):
            compact(tmp_path / name)
    assert list((tmp_path / "other").iterdir()) == []
    assert not (tmp_path / "none").exists()


@ensureDeferred
async def test_a_damaged_index_is_refused(tmp_path, reactor):
    """It stays for sos rebuild, which finds more than a copy would have."""
    path = tmp_path / "store"
    await filled(path, reactor)
    data = path / "index/data.mdb"
    text = bytearray(data.read_bytes())
    text[8192:] = bytes(len(text) - 8192)
    data.write_bytes(text)
    with pytest.raises(StoreUnusable, match=r"rebuild|check"):
        compact(path)
    assert data.read_bytes() == text


@ensureDeferred
async def test_what_an_interrupted_rebuild_has_left_is_removed(tmp_path, reactor):
    path = tmp_path / "store"
    before = await filled(path, reactor)
    (path / "index.making").mkdir()
    (path / "index.making/data.mdb").write_bytes(b"half")
    compact(path)
    assert await contents(path, reactor) == before
