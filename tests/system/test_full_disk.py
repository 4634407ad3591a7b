"""A disk that is full: a file system of 8 MiB in memory."""

from __future__ import annotations

import os

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import NoSpace, StoreUnusable
from sos.model.quantities import Reserve
from sos.stores.local import LocalStore
from tests.support.blobs import body_of, content, content_id, put
from tests.support.http import ask, fetch
from tests.support.ports import free_ports
from tests.system.crash.directories import opened


@pytest.mark.parametrize("sizes", [[900], [70_000], [66_000, 900], [3_000_000, 50_000]], ids=str)
@ensureDeferred
async def test_a_full_disk_is_survived(small_disk, reactor, sizes):
    """NoSpace; reads go on, nothing is left over, and with room writes go on by themselves."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 << 20))
    async with opened(small_disk / "store", reactor) as store:
        stored, refused, number = {}, 0, 0
        while refused < 20:
            body = body_of(sizes[number % len(sizes)] + number, seed=number)
            number += 1
            try:
                stored[(await put(store, body)).id] = body
            except NoSpace:
                refused += 1
                with pytest.raises(NoSpace):  # and again, not in some other way
                    await put(store, body_of(4 << 20, seed=number))
        assert stored
        assert sorted(await store.listing()) == sorted(stored)
        for id, body in stored.items():
            assert await content(await store.read(id)) == body
        assert list((small_disk / "store/incoming").iterdir()) == []
        files = [path.name for path in (small_disk / "store/bodies").rglob("*") if path.is_file()]
        assert set(files) <= set(stored)
        ballast.unlink()
        for seed in range(3):
            body = body_of(min(sizes), seed=-1 - seed)
            stored[(await put(store, body)).id] = body
        assert (await store.status()).writable
    async with opened(small_disk / "store", reactor) as store:
        for id, body in stored.items():
            assert await content(await store.read(id)) == body


def fill(disk):
    """Write what there is room for, and return the file."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return disk / "ballast"


async def put_many(store, size, first_seed):
    for seed in range(first_seed, first_seed + 100):
        await put(store, body_of(size, seed=seed))


@pytest.mark.parametrize("size", [900, 60_000, 70_000])
@ensureDeferred
async def test_a_disk_that_someone_else_fills(small_disk, reactor, size):
    """The index finds out in the middle of a write, and is none the worse for it."""
    async with opened(small_disk / "store", reactor) as store:
        for n in range(10):
            stored = await put(store, body_of(size, seed=2 * n))
            ballast = fill(small_disk)
            with pytest.raises(NoSpace):
                await put_many(store, size, first_seed=1000 + 100 * n)
            assert (await store.stat(stored.id)).size == size
            ballast.unlink()
        assert (await store.status()).writable
        for id in await store.listing():
            await content(await store.read(id))
        files = [path.name for path in (small_disk / "store/bodies").rglob("*") if path.is_file()]
        assert set(files) <= set(await store.listing())
        assert list((small_disk / "store/incoming").iterdir()) == []


@ensureDeferred
async def test_a_store_that_there_is_no_room_for(small_disk, reactor):
    """It cannot be opened, which is told, and can be once there is room."""
    ballast = fill(small_disk)
    with pytest.raises(StoreUnusable, match="No space left"):
        LocalStore(small_disk / "store", reactor).open()
    ballast.unlink()
    async with opened(small_disk / "store", reactor) as store:
        await put(store, b"x")


@ensureDeferred
async def test_damage_on_a_full_disk(small_disk, reactor):
    """It is not served, though there is no room to set it aside with a note."""
    async with opened(small_disk / "store", reactor) as store:
        body = body_of(100_000)
        await put(store, body)
        id = content_id(body)
        path = small_disk / "store/bodies" / id[:2] / id[2:4] / id
        with open(path, "r+b") as file:
            file.write(b"!")
        room = os.statvfs(small_disk)
        with open(small_disk / "ballast", "wb") as file:
            file.write(bytes(room.f_bavail * room.f_frsize))
        with pytest.raises(Exception, match="damaged"):
            await content(await store.read(id))
        (small_disk / "ballast").unlink()
        with pytest.raises(Exception, match="damaged"):
            await content(await store.read(id))
        assert await store.listing() == []


@ensureDeferred
async def test_what_is_dropped_on_a_full_disk_is_room_again(small_disk, reactor):
    """The index does not become smaller, and yet small blobs fit; then it is full once more."""
    # To drop one takes a few pages, before it frees others.
    reserve = Reserve(bytes=1 << 20)
    async with opened(small_disk / "store", reactor, reserve=reserve) as store:
        for _ in range(2):
            ids = await filled(store)
            status = await store.status()
            assert (status.writable, status.free < 4 << 20) == (False, True)
            lease = await store.lease(60)
            for id in ids:
                await store.drop(id, lease)
            await store.release(lease)
            status = await store.status()
            assert (status.writable, status.free > 5 << 20) == (True, True)


async def filled(store):
    """Store small blobs until there is no room; return their ids."""
    ids = []
    for seed in range(10_000):
        try:
            ids.append((await put(store, body_of(3000, seed))).id)
        except NoSpace:
            break
    assert len(ids) > 500
    return ids


def test_a_resumable_upload_on_a_disk_that_is_full(place, small_disk):
    """507; what was acknowledged stays, and with room again the upload goes on."""
    up, down = free_ports(2)
    daemon = place.twistd(
        f"sos-api --store data --api-host 127.0.0.1 --upload-port {up} --download-port {down} "
        f"--unfinished-dir {small_disk}/unfinished",
        *(up, down),
    )
    body, mib = body_of(6 << 20), 1 << 20
    headers = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    created = ask(f"http://127.0.0.1:{up}/tus", b"", {**headers, "Upload-Length": str(6 * mib)})
    url = f"http://127.0.0.1:{up}/{created.headers['Location']}"

    def offset():
        return int(ask(url, None, headers, "HEAD").headers["Upload-Offset"])

    def patch(start, part):
        return ask(url, part, {**headers, "Upload-Offset": str(start)}, "PATCH")

    assert patch(0, body[:mib]).status == 204
    (small_disk / "filler").write_bytes(bytes(5 * mib))
    for _ in range(2):
        assert patch(offset(), body[offset() :]).status == 507
        assert offset() >= mib
    (small_disk / "filler").unlink()
    assert patch(offset(), body[offset() :]).headers["X-Sos-Id"] == content_id(body)
    assert fetch(f"http://127.0.0.1:{down}/fetch/{content_id(body)}") == body
    assert "Traceback" not in daemon.log
