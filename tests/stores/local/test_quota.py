"""The quota of a store in a directory."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.defer import ensureDeferred as deferred

from sos.errors import Incomplete, NoSpace
from sos.interfaces import SMALL_BODY
from sos.model import quantities
from sos.model.quantities import Quota
from sos.stores.local import LocalStore
from tests.support.blobs import body_of, content, put

LARGE = 3 * SMALL_BODY


@asynccontextmanager
async def opened(path, **quota):
    store = LocalStore(path / "store", reactor, quota=Quota(**quota))
    store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("quota", "shown"),
    [
        (Quota(), ""),
        (Quota(bytes=5), "5 bytes"),
        (Quota(blobs=7), "7 blobs"),
        (Quota(bytes=5, blobs=7), "5 bytes and 7 blobs"),
    ],
)
def test_a_quota_is_shown_with_its_units(quota, shown):
    assert str(quota) == shown


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "x", "1K", "٣", "9" * 30])
def test_anything_else_is_no_count(text):
    with pytest.raises(ValueError, match=r"number"):
        quantities.count(text)


@ensureDeferred
async def test_blobs_over_the_quota_are_refused(tmp_path):
    """What is stored can be read and dropped, and then there is room again."""
    async with opened(tmp_path, blobs=2) as store:
        first = await store.put(None, {}, b"first")
        await put(store, body_of(LARGE))
        for size in (10, LARGE):
            with pytest.raises(NoSpace, match="its quota is 2 blobs"):
                await put(store, body_of(size, seed=1))
        with pytest.raises(NoSpace):
            await store.put(None, {}, b"small")
        status = await store.status()
        assert (status.writable, status.reason) == (
            False,
            "the store is full: its quota is 2 blobs",
        )
        assert await content(await store.read(first.id)) == b"first"
        assert list((tmp_path / "store/incoming").iterdir()) == []
        await store.drop(first.id, await store.lease(60))
        assert (await store.status()).writable
        await store.put(None, {}, b"small")


@ensureDeferred
async def test_bytes_over_the_quota_are_refused(tmp_path):
    """Up to its last byte; the status shows capacity and free space within the quota."""
    async with opened(tmp_path, bytes=LARGE + 10) as store:
        await put(store, body_of(LARGE))
        status = await store.status()
        assert (status.writable, status.capacity, status.free) == (True, LARGE + 10, 10)
        with pytest.raises(NoSpace, match=f"its quota is {LARGE + 10} bytes"):
            await store.put(None, {}, bytes(11))
        await store.put(None, {}, bytes(10))
        status = await store.status()
        assert (status.writable, status.free, status.size) == (False, 0, LARGE + 10)
    async with opened(tmp_path, bytes=10) as store:  # a quota that was lowered
        status = await store.status()
        assert (status.writable, status.capacity, status.free) == (False, 10, 0)


@ensureDeferred
async def test_uploads_in_flight_count(tmp_path):
    """Until they are stored or given up, once each."""
    async with opened(tmp_path, bytes=2 * LARGE) as store:
        writers = [store.writer(size=LARGE) for _ in range(2)]
        for _ in range(2):
            with pytest.raises(NoSpace):
                store.writer(size=1)
        writers[0].abort()
        writers[0].abort()
        with pytest.raises(NoSpace):
            store.writer(size=LARGE + 1)
        await put(store, body_of(LARGE))
        await writers[1].write(bytes(5))
        with pytest.raises(Incomplete):
            await writers[1].commit()
        await put(store, body_of(LARGE, seed=1))
        with pytest.raises(NoSpace):
            store.writer(size=1)


@ensureDeferred
async def test_an_upload_of_unknown_size_counts_as_it_comes(tmp_path):
    """It is refused in the middle, and leaves room for another."""
    async with opened(tmp_path, bytes=LARGE) as store:
        for _ in range(3):
            writer = store.writer()
            await writer.write(bytes(LARGE))
            with pytest.raises(NoSpace):
                await writer.write(b"x")
            writer.abort()
        writer = store.writer()
        await writer.write(bytes(LARGE))
        await writer.commit()


@ensureDeferred
async def test_uploads_that_are_cancelled_count_until_they_are_decided(tmp_path):
    """Some of them are stored, since the transaction had begun."""
    async with opened(tmp_path, blobs=3) as store:
        ended = []
        for number in range(20):
            with suppress(NoSpace):
                upload = deferred(store.put(None, {}, b"%d" % number))
                upload.addErrback(
                    lambda failure: ended.append(failure.trap(CancelledError, NoSpace))
                )
                upload.cancel()
        assert NoSpace in ended
    async with opened(tmp_path, blobs=3) as store:
        assert (await store.status()).blobs <= 3


@ensureDeferred
async def test_a_suspect_blob_can_be_stored_anew(tmp_path):
    """The quota counts it, though no listing is possible until then."""
    async with opened(tmp_path, bytes=1000) as store:
        info = await store.put(None, {}, b"suspect")
        index = store._index
        index.mark_suspect(info.id, index.get(info.id))
        status = await store.status()
        assert (status.blobs, status.free) == (None, 993)
        await store.put(None, {}, b"another")


steps = st.tuples(st.sampled_from(["put", "begin", "end", "abort", "drop"]), st.integers(0, 600))


@given(steps=st.lists(steps, max_size=15))
@ensureDeferred
async def test_uploads_together_never_exceed_the_quota(steps):
    """Whatever their order, sizes and ends; and when they have ended, all of it can be used."""
    with TemporaryDirectory() as place:
        async with opened(Path(place), bytes=1000, blobs=6) as store:
            token = await store.lease(300)
            writers = []
            for seed, (step, size) in enumerate(steps):
                with suppress(NoSpace):
                    match step:
                        case "put":
                            await store.put(None, {}, body_of(size, seed))
                        case "begin":
                            writers.append((store.writer(size=size), body_of(size, seed)))
                        case "end" if writers:
                            writer, body = writers.pop(0)
                            await writer.write(body)
                            await writer.commit()
                        case "abort" if writers:
                            writers.pop(0)[0].abort()
                        case "drop" if held := await store.listing():
                            await store.drop(held[0], token)
                status = await store.status()
                assert status.blobs <= 6
                assert status.size <= 1000
            for writer, _ in writers:
                writer.abort()
            status = await store.status()
            if status.blobs < 6:
                await store.put(None, {}, body_of(1000 - status.size, 1000))
                assert (await store.status()).size == 1000
