"""The reserve of the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import NoSpace
from sos.model import quantities
from sos.model.quantities import Reserve
from sos.stores.local import LocalStore
from tests.support.blobs import body_of, content, put


def free(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


@pytest.mark.parametrize(
    ("text", "of_1000"), [("0", 0), ("100", 100), ("1%", 10), ("2.5 %", 25), ("0%", 0)]
)
def test_a_reserve_is_a_size_or_a_percentage(text, of_1000):
    """Of what the disk holds in all."""
    assert quantities.reserve(text).of(1000) == of_1000


@pytest.mark.parametrize("text", ["", "%", "100%", "-1%", "x%", "-1", "nan%", "1%%"])
def test_anything_else_is_none(text):
    """It is refused where it is written."""
    with pytest.raises(ValueError, match=r"size|reserve|float"):
        quantities.reserve(text)


@ensureDeferred
async def test_at_the_reserve_nothing_is_taken_and_all_is_read(tmp_path, reactor):
    """NoSpace, with the reason in the status; room again, and it goes on."""
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    held = await put(store, body_of(100_000))
    await store.close()
    store = LocalStore(tmp_path / "store", reactor, reserve=Reserve(bytes=2 * free(tmp_path)))
    store.open()
    for size in (10, 100_000):
        with pytest.raises(NoSpace, match="reserve"):
            await put(store, body_of(size, seed=1))
    with pytest.raises(NoSpace, match="reserve"):
        await store.put(None, {}, b"small")
    status = await store.status()
    assert not status.writable
    assert "reserve" in status.reason
    assert await content(await store.read(held.id)) == body_of(100_000)
    assert list((tmp_path / "store/incoming").iterdir()) == []
    await store.close()


@ensureDeferred
async def test_what_is_announced_has_to_fit(tmp_path, reactor):
    """It is refused before any of it is sent."""
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    with pytest.raises(NoSpace):
        store.writer(size=2 * free(tmp_path))
    store.writer(size=1000).abort()
    await store.close()


@ensureDeferred
async def test_what_is_not_announced_is_counted_as_it_comes(tmp_path, reactor):
    """It is refused in the middle, and leaves nothing."""
    reserve = Reserve(bytes=free(tmp_path) - (64 << 20))
    store = LocalStore(tmp_path / "store", reactor, reserve=reserve)
    store.open()
    writer = store.writer()

    async def fill() -> None:
        for _ in range(1000):
            await writer.write(bytes(1 << 20))

    with pytest.raises(NoSpace, match="reserve"):
        await fill()
    writer.abort()
    await store.close()
    assert list((tmp_path / "store/incoming").iterdir()) == []


@pytest.fixture
def disk(monkeypatch):
    """Lets the file system tell of something else than it has."""
    real = os.statvfs

    class Disk:
        left: int | None = None
        inodes: int | None = None

        def __call__(self, path):
            found = list(real(path))
            if self.left is not None:
                found[4] = self.left // found[1]  # f_bavail
            if self.inodes is not None:
                found[5:8] = [1000, self.inodes, self.inodes]
            return os.statvfs_result(found)

    statvfs = Disk()
    monkeypatch.setattr("sos.stores.local.space.os.statvfs", statvfs)
    # A look is good for a moment; here each counts.
    monkeypatch.setattr("sos.stores.local.space._FRESH", -1)
    return statvfs


async def emptied(store, count=300):
    """Store many small blobs, and drop them again."""
    ids = [(await put(store, body_of(30_000, seed))).id for seed in range(count)]
    lease = await store.lease(60)
    for id in ids:
        await store.drop(id, lease)
    await store.release(lease)


@ensureDeferred
async def test_what_dropped_blobs_left_in_the_index_is_room(local_store, disk):
    """For small ones; before, a server that was drained stayed full for ever."""
    await emptied(local_store)
    disk.left = 0
    status = await local_store.status()
    assert status.writable
    assert 5_000_000 < status.free < 20_000_000
    size = os.stat(local_store._layout.index / "data.mdb").st_size
    for seed in range(100):
        await put(local_store, body_of(30_000, seed))
    assert os.stat(local_store._layout.index / "data.mdb").st_size == size
    with pytest.raises(NoSpace):
        await put(local_store, body_of(100_000))
    assert (await local_store.status()).free < status.free - 2_000_000


@ensureDeferred
async def test_a_small_body_of_unknown_size_is_a_small_one(local_store, disk):
    """It goes into the index; what is larger than that needs room on the disk."""
    await emptied(local_store)
    disk.left = 0
    writer = local_store.writer()
    await writer.write(bytes(30_000))
    await writer.write(bytes(30_000))
    await writer.commit()
    writer = local_store.writer()
    await writer.write(bytes(60_000))
    with pytest.raises(NoSpace):
        await writer.write(bytes(60_000))
    writer.abort()


@ensureDeferred
async def test_what_was_in_pieces_too_small_is_room_once_it_was_used(local_store, disk):
    """A full disk says nothing of what is freed later."""
    await emptied(local_store)
    disk.left = 0
    local_store._space.correct()
    assert not (await local_store.status()).writable
    disk.left = None
    kept = [(await put(local_store, body_of(30_000, seed))).id for seed in range(250)]
    disk.left = 0
    assert not (await local_store.status()).writable
    lease = await local_store.lease(60)
    for id in kept:
        await local_store.drop(id, lease)
    assert (await local_store.status()).writable


@ensureDeferred
async def test_a_few_free_pages_are_no_room(local_store, disk):
    """Each change of the index needs some."""
    await emptied(local_store, 5)
    disk.left = 0
    status = await local_store.status()
    assert (status.writable, status.reason) == (False, "the disk is full up to its reserve")


@ensureDeferred
async def test_a_file_takes_an_inode(local_store, disk):
    """Without any left larger bodies are refused, and the reason is told; small ones need none."""
    disk.inodes = 16
    with pytest.raises(NoSpace, match="no inodes left"):
        local_store.writer(size=100_000)
    await put(local_store, b"small")
    disk.inodes = 0
    with pytest.raises(NoSpace, match="no inodes left"):
        local_store.writer(size=100_000)
    disk.inodes = 17
    await put(local_store, body_of(100_000))


@ensureDeferred
async def test_a_file_system_that_tells_of_no_inodes_has_them(local_store, monkeypatch):
    """As btrfs does."""
    real = os.statvfs
    monkeypatch.setattr(
        "sos.stores.local.space.os.statvfs",
        lambda path: os.statvfs_result([*list(real(path))[:5], 0, 0, 0, *list(real(path))[8:]]),
    )
    await put(local_store, body_of(100_000))
