"""Real mounts: a store on a disk that is read-only, or in two file systems."""

from __future__ import annotations

import subprocess

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import ReadOnly
from tests.support.blobs import body_of, content, put
from tests.system.crash.directories import opened


@ensureDeferred
async def test_a_disk_that_is_mounted_read_only_is_served(small_disk, reactor):
    """As a file system is that has met an error."""
    async with opened(small_disk / "store", reactor) as store:
        ids = {size: (await put(store, body_of(size))).id for size in (100, 100_000)}
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    async with opened(small_disk / "store", reactor) as store:
        assert "mounted read-only" in (await store.status()).reason
        for size, id in ids.items():
            assert await content(await store.read(id)) == body_of(size)
        with pytest.raises(ReadOnly, match="mounted read-only"):
            await put(store, b"more")


@ensureDeferred
async def test_bodies_on_a_disk_of_their_own_take_no_blobs(small_disk, tmp_path, reactor):
    """They cannot be moved there in one step."""
    async with opened(tmp_path / "store", reactor):
        pass
    bodies = tmp_path / "store/bodies"
    subprocess.run(["mount", "--bind", str(small_disk), str(bodies)], check=True)
    try:
        async with opened(tmp_path / "store", reactor) as store:
            assert "another file system" in (await store.status()).reason
            with pytest.raises(ReadOnly, match="another file system"):
                await put(store, body_of(100_000))
    finally:
        subprocess.run(["umount", str(bodies)], check=True)
