"""Compacting the index of a store: smaller, the same blobs, and never without an index."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import StoreUnusable
from sos.stores.local import LocalStore
from sos.stores.local import compact as compacting
from sos.stores.local.backup import backup
from sos.stores.local.check import check
from sos.stores.local.compact import compact
from sos.stores.local.disk import Layout
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
    assert not (path / "index/compacting").exists()
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
        (os, "fchown"),
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
    assert not (path / "index/compacting").exists()
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
async def test_a_read_only_store_is_refused(tmp_path, reactor, monkeypatch):
    path = tmp_path / "store"
    await filled(path, reactor)
    monkeypatch.setattr(Layout, "readonly", True)
    with pytest.raises(StoreUnusable, match="is mounted read-only"):
        compact(path)


@ensureDeferred
async def test_a_copy_that_differs_is_not_used(tmp_path, reactor, monkeypatch):
    """A fault of the memory or the disk would change it."""
    path = tmp_path / "store"
    before = await filled(path, reactor)
    with monkeypatch.context() as patched:
        counts = iter([10, 9])
        patched.setattr(compacting.Index, "rows", lambda index: next(counts))
        with pytest.raises(StoreUnusable, match=r"the copy differs .*see sos check"):
            compact(path)
    assert await contents(path, reactor) == before


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


@pytest.mark.parametrize("by", ["compact", "daemon"])
@ensureDeferred
async def test_what_a_killed_compaction_has_left_is_removed(tmp_path, reactor, by):
    """It can be as large as the index."""
    path = tmp_path / "store"
    before = await filled(path, reactor)
    (path / "index/compacting").mkdir()
    (path / "index/compacting/data.mdb").write_bytes(b"half")
    if by == "compact":
        compact(path)
    assert await contents(path, reactor) == before
    assert not (path / "index/compacting").exists()


@ensureDeferred
async def test_an_index_that_others_read_is_refused(tmp_path, reactor):
    """Such as a backup: what it shares with the next daemon is of the old index."""
    path = tmp_path / "store"
    before = await filled(path, reactor)
    layout = Layout(path, durable=True)
    with layout.locked_index(fcntl.LOCK_SH):
        with pytest.raises(StoreUnusable, match="being backed up or compacted"):
            compact(path)
        assert backup(path, tmp_path / "backup").ok
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, str(path / "index")], stdin=-1, stdout=-1
    )
    assert reader.stdout.readline() == b"reading\n"
    with pytest.raises(StoreUnusable, match="another process reads the index"):
        compact(path)
    assert await contents(path, reactor) == before
    reader.communicate()
    compact(path)
    assert await contents(path, reactor) == before


_READER = """
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, max_dbs=8) as environment, environment.begin():
    print("reading", flush=True)
    sys.stdin.read()
"""


@ensureDeferred
async def test_an_index_that_is_being_compacted_is_not_backed_up(tmp_path, reactor):
    path = tmp_path / "store"
    await filled(path, reactor)
    with (
        Layout(path, durable=True).locked_index(fcntl.LOCK_EX),
        pytest.raises(StoreUnusable, match="being backed up or compacted"),
    ):
        backup(path, tmp_path / "backup")


@ensureDeferred
async def test_a_backup_is_refused(tmp_path, reactor):
    """By the number of its last transaction a backup knows whether a daemon has written to it."""
    path, copy = tmp_path / "store", tmp_path / "backup"
    before = await filled(path, reactor)
    backup(path, copy)
    with pytest.raises(StoreUnusable, match=r"is a backup.*remove backup\.json"):
        compact(copy)
    compact(path)
    assert backup(path, copy).ok
    (copy / "backup.json").unlink()
    compact(copy)
    assert await contents(copy, reactor) == before


@pytest.mark.parametrize("linked", ["index", "index/data.mdb"])
@ensureDeferred
async def test_an_index_on_another_disk_stays_there(tmp_path, reactor, linked):
    """A link to it stays a link."""
    path, other = tmp_path / "store", tmp_path / "other"
    before = await filled(path, reactor)
    (path / linked).rename(other)
    (path / linked).symlink_to(other)
    report = compact(path)
    assert (path / linked).is_symlink()
    assert size(path) == report.after < report.before
    assert await contents(path, reactor) == before


@ensureDeferred
async def test_the_file_keeps_its_mode(tmp_path, reactor):
    """And its owner: an administrator compacts the store of another user."""
    path = tmp_path / "store"
    await filled(path, reactor)
    data = path / "index/data.mdb"
    data.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(data, 12345, 23456)
    before = data.stat()
    compact(path)
    after = data.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
