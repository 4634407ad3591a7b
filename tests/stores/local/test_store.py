"""The local store: the contract, and what only a directory can go through."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import get_ident

import pytest
from attrs import evolve
from pytest_twisted import blockon, ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent

from sos.errors import Mismatch, NotFound, Quarantined, StoreUnusable, Unavailable
from sos.interfaces import SMALL_BODY
from sos.stores.local import LocalStore
from sos.stores.local.blob_writes import _whole
from sos.stores.local.reading import open_body
from sos.stores.record import Encoded
from sos.transfer import transfer
from tests.contract import ManifestContract, PromptContract, ReplicaContract, StoreContract
from tests.stores.local.committing import held_up, mistake
from tests.support.blobs import body_of, content, content_id, manifest_of, put


class TestLocalStore(StoreContract, ReplicaContract, ManifestContract, PromptContract):
    @pytest.fixture
    def store(self, local_store):
        return local_store


class TestLocalStoreWithoutFsync(StoreContract, ReplicaContract):
    @pytest.fixture
    def store(self, tmp_path, reactor):
        store = LocalStore(tmp_path / "store", reactor, durable=False)
        store.open()
        yield store
        blockon(deferred(store.close()))


def files(directory: Path, name: str) -> list[str]:
    return sorted(path.name for path in (directory / name).rglob("*") if path.is_file())


async def reopened(store: LocalStore, reactor) -> LocalStore:
    await store.close()
    store = LocalStore(Path(store.name), reactor)
    store.open()
    return store


@pytest.mark.parametrize(
    "read",
    [
        lambda store, id: store.disk_order().listing(None, 10),
        lambda store, id: store.disk_order().read(id),
        lambda store, id: store.blob_digests(id[:3]),
    ],
    ids=["a page of a scrub", "a blob of a scrub", "a partition"],
)
@ensureDeferred
async def test_what_may_wait_for_the_disk_does_not_hold_up_the_reactor(local_store, read):
    """It reads the index on another thread, by what keeps the index in place meanwhile."""
    id = (await put(local_store, b"abc")).id
    index, reads = local_store._index, []
    reading = index._reading

    def noted(**options):
        reads.append((get_ident() == reactor_thread, index._mapping.locked()))
        return reading(**options)

    index._reading, reactor_thread = noted, get_ident()
    assert await read(local_store, id)
    assert reads == [(False, True)]


@ensureDeferred
async def test_only_larger_bodies_are_files(local_store, tmp_path):
    """Up to 64 KiB a body lives in the index; nothing stays in incoming/."""
    await put(local_store, body_of(SMALL_BODY))
    assert files(tmp_path, "store/bodies") == []
    large = await put(local_store, body_of(SMALL_BODY + 1))
    assert files(tmp_path, "store/bodies") == [large.id]
    path = tmp_path / "store/bodies" / large.id[:2] / large.id[2:4] / large.id
    assert path.read_bytes().startswith(body_of(SMALL_BODY + 1))
    assert files(tmp_path, "store/incoming") == []


@ensureDeferred
async def test_nothing_is_left_of_what_was_refused(local_store, tmp_path):
    """A refused body and an aborted one leave no file behind."""
    with pytest.raises(Mismatch):
        await put(local_store, body_of(100_000), "0" * 40)
    writer = local_store.writer(size=200_000)
    await writer.write(body_of(100_000))
    writer.abort()
    assert files(tmp_path, "store/incoming") == []
    assert files(tmp_path, "store/bodies") == []


@ensureDeferred
async def test_nothing_is_left_of_a_body_that_breaks_off(local_store, tmp_path):
    """When what is read fails, the writer is told."""

    async def broken():
        yield body_of(100_000)
        raise Unavailable("broke off")

    with pytest.raises(Unavailable):
        await transfer(broken(), local_store.writer())
    assert files(tmp_path, "store/incoming") == []


@pytest.mark.parametrize("size", [10, 300_000])
@ensureDeferred
async def test_a_commit_that_is_cancelled_happens_whole(tmp_path, reactor, size):
    """The client may be gone; the blob is stored all the same, and nothing is left over."""
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    writer = store.writer()
    await writer.write(body_of(size))
    commit = deferred(writer.commit())
    commit.cancel()
    writer.abort()
    with pytest.raises(CancelledError):
        await commit
    await store.close()
    store.open()
    assert await content(await store.read(content_id(body_of(size)))) == body_of(size)
    assert files(tmp_path, "store/incoming") == []
    await store.close()


@ensureDeferred
async def test_blobs_outlive_the_process(tmp_path, reactor):
    """What was stored before is there after the store is opened again."""
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    for size in (10, 100_000):
        await put(store, body_of(size), metadata={"X-Size": str(size)})
    store = await reopened(store, reactor)
    for size in (10, 100_000):
        blob = await store.read(content_id(body_of(size)))
        assert blob.info.metadata == {"X-Size": str(size)}
        assert await content(blob) == body_of(size)
    await store.close()


@ensureDeferred
async def test_a_directory_has_one_process(local_store, reactor):
    """A second store on the same directory is refused, and told why."""
    with pytest.raises(StoreUnusable, match="in use"):
        LocalStore(Path(local_store.name), reactor).open()


@ensureDeferred
async def test_a_directory_of_something_else_is_refused(tmp_path, reactor):
    """Neither another format nor a directory with files in it is made a store."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("dear")
    with pytest.raises(StoreUnusable, match=r"letter\.txt"):
        LocalStore(tmp_path / "other", reactor).open()
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer/store.json").write_text('{"format": "sos-local-store", "version": 2}')
    with pytest.raises(StoreUnusable, match="unknown store format"):
        LocalStore(tmp_path / "newer", reactor).open()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable):
        LocalStore(tmp_path / "file", reactor).open()


@ensureDeferred
async def test_a_change_that_fails_takes_none_of_another_with_it(local_store, tmp_path):
    """The uploads that share its transaction fail as well, and leave nothing."""

    committer = local_store._blob_writes.committer
    for size in (10, 100_000):
        writer = local_store.writer()
        await writer.write(body_of(size))
        async with held_up(committer):
            upload = deferred(writer.commit())
            while committer._queue.empty():  # a file is synced before it queues up
                await deferLater(local_store._reactor, 0.01)
            second = committer.submit(mistake)
            await deferLater(local_store._reactor, 0.01)
        for failing in (second, upload):
            with pytest.raises(ZeroDivisionError):
                await failing
    assert await local_store.listing() == []
    assert files(tmp_path, "store/bodies") == []
    assert files(tmp_path, "store/incoming") == []
    await put(local_store, b"and on it goes")


@pytest.mark.parametrize("undone", [True, False])
@ensureDeferred
async def test_a_name_that_is_dropped_and_taken_again_in_one_transaction(local_store, undone):
    """Who undoes that finds the body that was there."""

    async def queued(count):
        while committer._queue.qsize() < count:
            await deferLater(local_store._reactor, 0.01)

    old, new = body_of(100_000, 1), body_of(100_000, 2)
    await put(local_store, old, "name")
    token = await local_store.lease(60)
    committer = local_store._blob_writes.committer
    async with held_up(committer):
        changes = [deferred(local_store.drop("name", token))]
        await queued(1)
        changes.append(deferred(put(local_store, new, "name")))
        await queued(2)
        if undone:
            changes.append(committer.submit(mistake))
            await queued(3)
    for change in changes:
        if undone:
            with pytest.raises(ZeroDivisionError):
                await change
        else:
            await change
    assert await content(await local_store.read("name")) == (old if undone else new)


@ensureDeferred
async def test_a_manifest_that_gives_way_while_it_is_opened(local_store):
    """Its object is read: the id was never missing."""
    body = body_of(100_000)
    id, text, metadata = manifest_of(body, 30)
    await put(local_store, text, id, metadata)
    threads, gate, held = local_store._run_in_thread, Deferred(), []

    def late(function, *args):
        if function is not open_body or held:
            return threads(function, *args)
        held.append(function)
        return gate.addCallback(lambda _: threads(function, *args))

    local_store._run_in_thread = late
    reading = deferred(local_store.read(id))
    assert held
    await put(local_store, body, id)
    gate.callback(None)
    assert await content(await reading) == body


@ensureDeferred
async def test_a_manifest_whose_file_is_gone_before_it_can_give_way(local_store, tmp_path):
    """Another upload has taken it, or it is damaged: that is decided anew."""
    body = body_of(100_000)
    id, text, metadata = manifest_of(body, 30)
    await put(local_store, text, id, metadata)
    threads = local_store._blob_writes.run_in_thread

    def without(function, *args):
        if function is _whole:
            args[0].unlink()
        return threads(function, *args)

    local_store._blob_writes = evolve(local_store._blob_writes, run_in_thread=without)
    assert (await put(local_store, body, id)).size == len(body)
    assert await content(await local_store.read(id)) == body


class TestLeftovers:
    """What a crash leaves in incoming/ is settled at the next start."""

    @ensureDeferred
    async def test_an_unfinished_upload_is_removed(self, local_store, tmp_path, reactor):
        """A file that has no place yet goes."""
        await local_store.close()
        (tmp_path / "store/incoming/NEW.1234").write_bytes(b"half")
        local_store.open()
        assert files(tmp_path, "store/incoming") == []

    @pytest.mark.parametrize("name", ["named", "new"])
    @ensureDeferred
    async def test_a_body_without_a_record_is_withdrawn(self, local_store, tmp_path, name):
        """A crash after the link and before the commit leaves no blob and no file."""
        body = body_of(100_000)
        id = content_id(body)
        await put(local_store, body_of(100_000, seed=1))
        await local_store.close()
        leftover = tmp_path / f"store/incoming/{id if name == 'named' else 'NEW'}.1234"
        leftover.write_bytes(body)
        place = tmp_path / "store/bodies" / id[:2] / id[2:4] / id
        place.parent.mkdir(parents=True)
        os.link(leftover, place)
        local_store.open()
        assert files(tmp_path, "store/incoming") == []
        assert files(tmp_path, "store/bodies") == [content_id(body_of(100_000, seed=1))]
        with pytest.raises(NotFound):
            await local_store.stat(id)

    @pytest.mark.parametrize("name", ["named", "new"])
    @ensureDeferred
    async def test_a_committed_body_stays(self, local_store, tmp_path, name):
        """A crash after the commit leaves the blob, and only the second name goes."""
        body = body_of(100_000)
        id = (await put(local_store, body)).id
        await local_store.close()
        place = tmp_path / "store/bodies" / id[:2] / id[2:4] / id
        os.link(place, tmp_path / f"store/incoming/{id if name == 'named' else 'NEW'}.1234")
        local_store.open()
        assert files(tmp_path, "store/incoming") == []
        assert await content(await local_store.read(id)) == body

    @ensureDeferred
    async def test_a_file_in_the_place_of_a_new_body_gives_way(self, local_store, tmp_path):
        """A file that no record tells of is not taken for the blob."""
        body = body_of(100_000)
        id = content_id(body)
        place = tmp_path / "store/bodies" / id[:2] / id[2:4] / id
        place.parent.mkdir(parents=True)
        place.write_bytes(b"torn")
        await put(local_store, body)
        assert await content(await local_store.read(id)) == body


def overwrite(path, position, data):
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(data)


class TestDamage:
    """A copy that is not what was stored is set aside, never served."""

    @pytest.fixture
    def damaged(self, local_store, tmp_path):
        def damage(id: str, change) -> None:
            path = tmp_path / "store/bodies" / id[:2] / id[2:4] / id
            change(path)

        return damage

    @pytest.mark.parametrize(
        "change",
        [
            lambda path: overwrite(path, 99_999, b"?"),
            lambda path: overwrite(path, 0, b"?"),
            lambda path: os.truncate(path, 99_999),
            lambda path: os.truncate(path, 0),
            lambda path: path.write_bytes(bytes(100_000)),
            lambda path: path.write_bytes(bytes(200_000)),
        ],
        ids=["last byte", "first byte", "cut", "empty", "zeroed", "another"],
    )
    @ensureDeferred
    async def test_a_damaged_body_is_set_aside(self, local_store, damaged, tmp_path, change):
        """It never comes back whole, and reads as missing from then on."""
        id = (await put(local_store, body_of(100_000))).id
        damaged(id, change)
        with pytest.raises((Mismatch, Quarantined)):
            await content(await local_store.read(id))
        with pytest.raises(NotFound):
            await local_store.stat(id)
        assert await local_store.listing() == []
        (note,) = [name for name in files(tmp_path, "store/quarantine") if name.endswith("json")]
        assert json.loads((tmp_path / "store/quarantine" / note).read_text())["id"] == id
        assert (await local_store.status()).blobs == 0

    @ensureDeferred
    async def test_it_is_told_to_the_log_whoever_waits_for_it(self, local_store, damaged):
        """Also when the client that found it goes away meanwhile."""
        id = (await put(local_store, body_of(100_000))).id
        damaged(id, lambda path: os.truncate(path, 1))
        with capturedLogs() as logged:
            reading = deferred(local_store.read(id))
            while not local_store._blob_writes.committer._gathered:
                await deferLater(local_store._reactor, 0)
            reading.cancel()
            with pytest.raises(CancelledError):
                await reading
            await local_store._blob_writes.underway.finish()
        assert await local_store.listing() == []
        assert any(
            f"quarantined a damaged blob, store={local_store.name}, id={id}: " in formatEvent(event)
            for event in logged
        )

    @ensureDeferred
    async def test_a_damaged_copy_is_replaced_by_a_new_upload(self, local_store, damaged):
        """Uploading the content again makes it whole again."""
        body = body_of(100_000)
        id = (await put(local_store, body)).id
        damaged(id, lambda path: path.write_bytes(bytes(100_000)))
        await put(local_store, body)
        assert await content(await local_store.read(id)) == body
        assert (await local_store.status()).blobs == 1

    @ensureDeferred
    async def test_a_cut_body_is_noticed_before_any_of_it_is_sent(self, local_store, damaged):
        """Its size tells, and the answer can still be that there is none."""
        id = (await put(local_store, body_of(100_000))).id
        damaged(id, lambda path: os.truncate(path, 99_999))
        with pytest.raises(NotFound):
            await local_store.read(id)

    @pytest.mark.parametrize("mark", [b"look for me", b"X-Findme"], ids=["body", "record"])
    @ensureDeferred
    async def test_damage_in_the_index_is_found(self, local_store, tmp_path, mark):
        """A changed byte of an inline body, or of a record, is noticed as well."""
        info = await put(local_store, b"some look for me body", metadata={"X-Findme": "1"})
        other = await put(local_store, b"a sound one")
        data = (tmp_path / "store/index/data.mdb").read_bytes()
        with open(tmp_path / "store/index/data.mdb", "r+b") as file:
            start = data.find(mark)
            assert start >= 0
            while start >= 0:
                file.seek(start)
                file.write(mark.upper())
                start = data.find(mark, start + 1)
        with pytest.raises(NotFound):
            await local_store.read(info.id)
        with pytest.raises(NotFound):
            await local_store.stat(info.id)
        assert await local_store.listing() == [other.id]
        assert (await local_store.status()).blobs == 1

    @ensureDeferred
    async def test_only_the_copy_that_was_judged_is_set_aside(self, local_store):
        """Not one that has taken its place meanwhile."""
        info = await put(local_store, b"sound")
        await local_store._quarantine.move(info.id, Encoded(b"other", None), "damaged")
        assert await content(await local_store.read(info.id)) == b"sound"


@ensureDeferred
async def test_all_who_read_a_damaged_body_are_told_that_it_is(local_store):
    """Not that another has replaced it: the first of them has only quarantined it."""
    info = await put(local_store, body_of(1_000_000))
    blobs = [await local_store.read(info.id) for _ in range(2)]
    with local_store._layout.body(info.id).open("r+b") as file:
        file.seek(300_000)
        file.write(b"damage")
    for blob in blobs:
        with pytest.raises(Mismatch):
            await content(blob)
        await blob.body.aclose()
    with pytest.raises(NotFound):
        await local_store.stat(info.id)


@ensureDeferred
async def test_a_manifest_that_is_damaged_is_set_aside(local_store, tmp_path):
    """It is verified by its own hash, which is not its id."""
    id, text, metadata = manifest_of(body_of(50_000), 30)
    await put(local_store, text, id, metadata)
    path = tmp_path / "store/bodies" / id[:2] / id[2:4] / id
    overwrite(path, len(text) - 1, b" ")
    with pytest.raises(Mismatch):
        await content(await local_store.read(id))
    assert await local_store.listing() == []
    await put(local_store, text, id, metadata)
    assert await content(await local_store.read(id)) == text
