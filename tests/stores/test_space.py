"""The reserve of the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred

from sos import config
from sos.config import Reserve
from sos.errors import NoSpace
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
    assert config.reserve(text).of(1000) == of_1000


@pytest.mark.parametrize("text", ["", "%", "100%", "-1%", "x%", "-1", "nan%", "1%%"])
def test_anything_else_is_none(text):
    """It is refused where it is written."""
    with pytest.raises(ValueError, match=r"size|reserve|float"):
        config.reserve(text)


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
