"""What a directory is opened as: the store that it is, a new one, or nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from random import Random

import lmdb
import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.defer import gatherResults

from sos.errors import ReadOnly, SOSError, StoreUnusable, Unavailable
from sos.stores.local import LocalStore
from sos.stores.local.disk import Layout
from tests.support.blobs import body_of, content, content_id, put

BODIES = [body_of(100 + 70 * seed, seed) for seed in range(200)] + [body_of(100_000)]
PAGE = 4096


@async_yield_fixture
async def directory(tmp_path, reactor):
    """A store that was used, and closed; others of its kind are made by ``fill``."""
    directory = tmp_path / "store"
    await fill(directory, reactor, BODIES)
    yield directory


async def fill(directory, reactor, bodies):
    store = LocalStore(directory, reactor)
    store.open()
    await gatherResults([deferred(put(store, body)) for body in bodies])
    await store.close()


def files_of(directory):
    return {path: path.stat().st_size for path in directory.rglob("*") if path.is_file()}


def refusal(directory, reactor, **options):
    """Return what is said of a directory that cannot be opened; it stays as it was."""
    before = files_of(directory) if directory.exists() else None
    with pytest.raises(StoreUnusable) as caught:
        LocalStore(directory, reactor, **options).open()
    after = files_of(directory) if directory.exists() else None
    assert before == after
    return str(caught.value)


@ensureDeferred
async def test_a_store_is_opened_again(directory, reactor):
    """By its id, which stays; and the index may have come further than was noted."""
    id = json.loads((directory / "store.json").read_text())["id"]
    lock = directory / "lock"
    lock.write_bytes(lock.read_bytes().replace(b"2", b"1"))
    store = LocalStore(directory, reactor, require=True)
    store.open()
    assert sorted(await store.listing()) == sorted(map(content_id, BODIES))
    await store.close()
    assert json.loads((directory / "store.json").read_text())["id"] == id


class TestALostIndex:
    """The store is refused, and not mistaken for an empty one."""

    def test_that_is_gone(self, directory, reactor):
        shutil.rmtree(directory / "index")
        assert "index is missing; run sos rebuild" in refusal(directory, reactor)

    def test_whose_file_is_gone(self, directory, reactor):
        (directory / "index/data.mdb").unlink()
        assert "is missing" in refusal(directory, reactor)

    def test_that_is_empty(self, directory, reactor):
        os.truncate(directory / "index/data.mdb", 0)
        assert "is empty" in refusal(directory, reactor)

    @pytest.mark.parametrize("pages", [1, 2, 100])
    def test_that_is_cut_short(self, directory, reactor, pages):
        data = directory / "index/data.mdb"
        size = data.stat().st_size
        os.truncate(data, size - pages * PAGE)
        assert f"has {size - pages * PAGE} bytes, but had {size}" in refusal(directory, reactor)

    def test_that_is_no_index(self, directory, reactor):
        data = directory / "index/data.mdb"
        data.write_bytes(bytes(data.stat().st_size))
        assert "cannot be opened" in refusal(directory, reactor)

    @ensureDeferred
    async def test_that_is_of_another_store(self, directory, tmp_path, reactor):
        await fill(tmp_path / "other", reactor, [*BODIES, b"more"])
        data = directory / "index/data.mdb"
        size = data.stat().st_size
        shutil.copy(tmp_path / "other/index/data.mdb", data)
        # How large it is depends on how many bodies went into one transaction.
        os.truncate(data, max(size, data.stat().st_size))
        assert "belongs to another store" in refusal(directory, reactor)

    @ensureDeferred
    async def test_that_is_an_older_copy(self, directory, tmp_path, reactor):
        shutil.copy(directory / "index/data.mdb", tmp_path / "copy")
        await fill(directory, reactor, [b"acknowledged later"])
        data = directory / "index/data.mdb"
        size = data.stat().st_size
        shutil.copy(tmp_path / "copy", data)
        os.truncate(data, size)
        assert "is an older copy" in refusal(directory, reactor)

    def test_that_is_new(self, directory, tmp_path, reactor):
        """As LMDB makes one where it finds none."""
        data = directory / "index/data.mdb"
        size = data.stat().st_size
        data.unlink()
        lmdb.open(str(data.parent)).close()
        os.truncate(data, size)
        assert "is new: it belongs to no store" in refusal(directory, reactor)


@ensureDeferred
async def test_an_index_that_is_cut_short_unnoticed_ends_no_process(directory, reactor):
    """Where nothing was noted: what is missing is damage, and the rest is read."""
    os.truncate(directory / "lock", 0)
    data = directory / "index/data.mdb"
    os.truncate(data, data.stat().st_size - 20 * PAGE)
    with suppress(StoreUnusable):
        await read_all(directory, reactor)


async def read_all(directory, reactor):
    """Read each blob, which is right or an error; return how many were right, and why it fails."""
    store = LocalStore(directory, reactor)
    store.open()
    right = 0
    for body in BODIES:
        with suppress(SOSError):
            assert await content(await store.read(content_id(body))) == body
            right += 1
    failure = store.failure
    if failure is not None:
        status = await store.status()
        assert (status.writable, status.reason, status.blobs) == (False, failure, None)
        for ask in (store.listing, store.digests, lambda: store.blob_digests("abc")):
            with pytest.raises(Unavailable, match="is damaged"):
                await ask()
        with pytest.raises(ReadOnly):
            await put(store, b"more")
    await store.close()
    return right, failure


@pytest.mark.parametrize("junk", [bytes(PAGE), b"\xff" * PAGE, Random(1).randbytes(PAGE)])
@ensureDeferred
async def test_a_page_that_is_overwritten_is_damage(directory, reactor, tmp_path, junk):
    """What is elsewhere is read, nothing wrong is, no more is taken, and it is said why."""
    data = (directory / "index/data.mdb").read_bytes()
    pages = len(data) // PAGE
    met = 0
    for page in range(2, pages, pages // 12):
        copy = tmp_path / f"copy{page}"
        shutil.copytree(directory, copy)
        damaged = data[: page * PAGE] + junk + data[(page + 1) * PAGE :]
        (copy / "index/data.mdb").write_bytes(damaged)
        try:
            right, failure = await read_all(copy, reactor)
        except StoreUnusable:
            met += 1
            continue
        if failure is not None:
            assert "is damaged: " in failure
            met += 1
        assert right > len(BODIES) // 2 or failure is not None
    assert met > 0


class TestANewStore:
    @ensureDeferred
    async def test_is_made_where_there_is_nothing(self, tmp_path, reactor):
        """In a directory that is empty, or that does not exist."""
        (tmp_path / "empty").mkdir()
        for name in ("empty", "absent"):
            await fill(tmp_path / name, reactor, [b"abc"])

    def test_is_not_made_beside_a_missing_parent(self, tmp_path, reactor):
        """As where a disk is not mounted."""
        message = refusal(tmp_path / "disk/store", reactor)
        assert f"{tmp_path / 'disk'} does not exist; is its disk mounted?" in message

    @pytest.mark.parametrize("made", [True, False])
    def test_is_not_made_where_one_is_required(self, tmp_path, reactor, made):
        """Nor is the directory."""
        directory = tmp_path / "store"
        if made:
            directory.mkdir()
        assert "is not a store: it has no store.json" in refusal(directory, reactor, require=True)

    def test_is_not_made_of_a_store_without_its_marker(self, directory, reactor):
        """It holds blobs, and only somebody can have removed that."""
        (directory / "store.json").unlink()
        assert "its store.json is missing" in refusal(directory, reactor)
        shutil.rmtree(directory / "bodies")
        assert "its store.json is missing" in refusal(directory, reactor)

    @ensureDeferred
    async def test_that_was_not_finished_is_made_anew(self, directory, reactor):
        """A crash leaves its marker under another name, and an index of whatever kind."""
        shutil.rmtree(directory / "bodies")
        (directory / "store.json").rename(directory / "store.json.new")
        (directory / "index/data.mdb").write_bytes(b"half of it")
        await fill(directory, reactor, [b"abc"])

    @pytest.mark.parametrize("id", ["", 7, "x", "550E8400-e29b-41d4-a716-446655440000", ["a"]])
    def test_with_an_id_that_is_none_is_refused(self, directory, reactor, id):
        """It is of no format that is known."""
        marker = json.loads((directory / "store.json").read_text())
        (directory / "store.json").write_text(json.dumps({**marker, "id": id}))
        assert "has an unknown store format" in refusal(directory, reactor)


@ensureDeferred
async def test_a_store_from_before_stores_had_an_id_gets_one(directory, reactor):
    """It keeps its blobs; and from then on its index is known."""
    marker = directory / "store.json"
    marker.write_text('{"format": "sos-local-store", "version": 1}')
    with lmdb.open(str(directory / "index"), max_dbs=5) as index, index.begin(write=True) as change:
        change.drop(index.open_db(b"identity", change))
    os.truncate(directory / "lock", 0)
    await fill(directory, reactor, [b"more"])
    id = json.loads(marker.read_text())["id"]
    await fill(directory, reactor, [b"and more"])
    assert json.loads(marker.read_text())["id"] == id
    assert (await read_all(directory, reactor)) == (len(BODIES), None)


def rename(directory):
    directory.rename(directory.with_name("away"))


def empty(directory):
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def restore(directory):
    copy = directory.with_name("copy")
    shutil.copytree(directory, copy)
    rename(directory)
    copy.rename(directory)


def replace_index(directory):
    data = directory / "index/data.mdb"
    data.write_bytes(shutil.copy(data, directory.with_name("copy")) and data.read_bytes())
    os.replace(directory.with_name("copy"), data)


@pytest.mark.parametrize("replace", [rename, empty, restore, replace_index])
@pytest.mark.parametrize("size", [10, 100_000])
@ensureDeferred
async def test_a_directory_that_is_replaced_underneath_takes_no_more(
    tmp_path, reactor, replace, size
):
    """Nothing is acknowledged into files that nobody will find."""
    directory = tmp_path / "store"
    store = LocalStore(directory, reactor)
    store.open()
    await put(store, b"kept")
    replace(directory)
    with pytest.raises(SOSError):
        await put(store, body_of(size, 1))
    with pytest.raises(SOSError):
        await put(store, body_of(size, 2))
    if size == 10:
        assert "was removed or replaced while it was in use" in store.failure
        assert await content(await store.read(content_id(b"kept"))) == b"kept"
        status = await store.status()
        assert (status.writable, status.reason) == (False, store.failure)
    await store.close()


@pytest.fixture
def mounted_read_only(monkeypatch):
    """Lets the file system tell that it is."""
    real = os.statvfs

    def statvfs(path):
        found = list(real(path))
        found[8] |= os.ST_RDONLY  # f_flag
        return os.statvfs_result(found)

    monkeypatch.setattr("sos.stores.local.disk.os.statvfs", statvfs)


def without_identity(directory):
    """Take what older versions had not out of the index."""
    environment = lmdb.open(str(directory / "index"), max_dbs=5, readonly=False)
    identity = environment.open_db(b"identity")
    with environment.begin(write=True) as transaction:
        transaction.drop(identity)
    environment.close()
    os.truncate(directory / "lock", 0)


class TestAReadOnlyMount:
    """Is served, and nothing is written."""

    @ensureDeferred
    async def test_it_is_read(self, directory, reactor, mounted_read_only):
        before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
        store = LocalStore(directory, reactor)
        store.open()
        status = await store.status()
        assert not status.writable
        assert f"{directory} is mounted read-only" in status.reason
        assert sorted(await store.listing()) == sorted(map(content_id, BODIES))
        for body in BODIES:
            assert await content(await store.read(content_id(body))) == body
        with pytest.raises(ReadOnly, match="mounted read-only"):
            await put(store, b"more")
        with pytest.raises(ReadOnly, match="mounted read-only"):
            await store.put(None, {}, b"more")
        with pytest.raises(ReadOnly):
            await store.lease(60)
        await store.close()
        assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before

    @ensureDeferred
    async def test_one_of_before_stores_had_ids(self, directory, reactor, mounted_read_only):
        marker = directory / "store.json"
        document = json.loads(marker.read_text())
        del document["id"]
        marker.write_text(json.dumps(document))
        without_identity(directory)
        store = LocalStore(directory, reactor)
        store.open()
        assert len(await store.listing()) == len(BODIES)
        await store.close()
        assert json.loads(marker.read_text()) == document

    def test_a_lost_index_is_noticed(self, directory, reactor, mounted_read_only):
        os.truncate(directory / "index/data.mdb", 0)
        assert "is empty" in refusal(directory, reactor)

    def test_a_truncated_index_is_noticed(self, directory, reactor, mounted_read_only):
        """It cannot be padded there, and to read past its end would end the process."""
        os.truncate(directory / "lock", 0)
        data = directory / "index/data.mdb"
        os.truncate(data, data.stat().st_size - 20 * PAGE)
        assert "is shorter than" in refusal(directory, reactor)

    def test_no_store_is_made(self, tmp_path, reactor, mounted_read_only):
        (tmp_path / "store").mkdir()
        refusal(tmp_path / "store", reactor)
        assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOMEM, errno.EMFILE, errno.EIO])
def test_an_index_that_the_system_does_not_open_is_not_lost(
    directory, reactor, monkeypatch, number
):
    """What is said is true, and nobody is told to begin anew."""

    def refused(path, **options):
        raise lmdb.Error(f"{path}: {os.strerror(number)}")

    monkeypatch.setattr(lmdb, "open", refused)
    message = refusal(directory, reactor)
    assert message.endswith(os.strerror(number))
    assert "move" not in message
    assert "restore" not in message


@ensureDeferred
async def test_bodies_on_another_file_system_take_no_blobs(directory, reactor, monkeypatch):
    """They are read; the reason is told."""
    real = Path.stat

    def stat(path, **options):
        found = real(path, **options)
        if path == directory / "bodies":
            found = os.stat_result([*found[:2], found.st_dev + 1, *found[3:]])
        return found

    monkeypatch.setattr(Path, "stat", stat)
    store = LocalStore(directory, reactor)
    store.open()
    status = await store.status()
    assert not status.writable
    assert "bodies is on another file system than" in status.reason
    with pytest.raises(ReadOnly):
        await put(store, b"more")
    for body in BODIES:
        assert await content(await store.read(content_id(body))) == body
    await store.close()


def test_a_file_that_the_disk_takes_in_part_is_an_error(tmp_path):
    """As where it is full: the first write comes out short, and the next fails."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            Layout(tmp_path, durable=True).write_file(tmp_path / "file", b"x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["quarantine", "bodies", "incoming"])
@ensureDeferred
async def test_a_copy_that_lacks_an_empty_directory(tmp_path, reactor, name):
    """As some programs leave out: it is made."""
    await fill(tmp_path / "store", reactor, [b"x"])
    (tmp_path / "store" / name).rmdir()
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    await put(store, body_of(100_000))
    await store.close()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@ensureDeferred
async def test_what_an_older_version_left_unfinished(tmp_path, reactor, algorithm):
    """Nothing stands behind the body: it is known by its hash, whichever that is."""
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    await store.close()
    body = body_of(300_000)
    left = tmp_path / "store/incoming/NEW.0.abcd"
    left.write_bytes(body)
    placed = store._layout.body(hashlib.new(algorithm, body).hexdigest())
    placed.parent.mkdir(parents=True)
    os.link(left, placed)
    store.open()
    await store.close()
    assert not left.exists()
    assert not placed.exists()


@ensureDeferred
async def test_an_index_that_is_to_be_completed_is_not_told_as_lost(
    directory, reactor, mounted_read_only
):
    """It is sound, and cannot be read safely as it is."""
    data = directory / "index/data.mdb"
    os.truncate(directory / "lock", 0)
    os.truncate(data, data.stat().st_size - PAGE)
    message = refusal(directory, reactor)
    assert "mount it writable once" in message
    assert "rebuild" not in message


def test_a_lock_that_cannot_be_had_for_another_reason(directory, reactor, monkeypatch):
    """Nobody else is said to have it."""

    def refused(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("sos.stores.local.disk.fcntl.flock", refused)
    assert "No locks available" in refusal(directory, reactor)


@ensureDeferred
async def test_a_disk_that_is_new_becomes_a_store(tmp_path, reactor):
    """A file system has a directory of its own in it."""
    (tmp_path / "store/lost+found").mkdir(parents=True)
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    await store.close()


@ensureDeferred
async def test_a_store_that_went_away_does_not_say_that_it_is_well(directory, reactor):
    """Though nobody writes to it: its disk was unmounted, say."""
    store = LocalStore(directory, reactor)
    store.open()
    directory.rename(directory.with_name("away"))
    directory.mkdir()
    status = await store.status()
    assert (status.writable, status.blobs) == (False, None)
    assert "was removed or replaced" in status.reason
    with pytest.raises(Unavailable, match="removed or replaced"):
        await store.digests()
    await store.close()
