"""Bodies that the disk does not give back: no copies, until they can be read or are stored anew."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from random import Random

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import DeferredList
from twisted.internet.defer import ensureDeferred as deferred
from twisted.logger import capturedLogs, formatEvent

from sos.errors import Conflict, NoSpace, NotFound, Quarantined, SOSError, Unavailable
from sos.model.metadata import SET_AT
from sos.scrub import Report, scrub
from sos.stores.local import LocalStore
from sos.stores.local.body_file import read_trailer
from tests.support.blobs import body_of, content, content_id, manifest_of, put, shown

BODY = body_of(300_000)
ID = content_id(BODY)


def path_of(store, id=ID):
    return store._layout.body(id)


def gone(path):
    path.rename(path.with_suffix(".away"))


def loops(path):
    """What is there cannot be opened, by root neither."""
    gone(path)
    path.symlink_to(path)


def restore(path):
    path.unlink(missing_ok=True)
    path.with_suffix(".away").rename(path)


ways = pytest.mark.parametrize("take", [gone, loops])


@pytest.fixture
def failing_reads(monkeypatch):
    """Lets reading a file fail, with the number of an error; the files can be opened."""
    error: list[int] = []
    pread = os.pread

    def failing(*args):
        if error:
            raise OSError(error[0], os.strerror(error[0]))
        return pread(*args)

    monkeypatch.setattr("sos.stores.local.reading.os.pread", failing)
    return error


async def assert_no_copy(store, id=ID):
    assert await store.listing() == []
    assert await store.digests() == {}
    assert await store.blob_digests(id[:3]) == {}
    assert (await store.status()).blobs == 0
    for ask in (store.stat, store.read):
        with pytest.raises(Unavailable):  # which is not to say that there is none
            await ask(id)


@ways
@ensureDeferred
async def test_it_leaves_listings_and_digests(local_store, take):
    """So that replication makes another copy; the log tells it."""
    before = dict(await local_store.digests())
    await put(local_store, BODY)
    take(path_of(local_store))
    with capturedLogs() as logged, pytest.raises(Unavailable):
        await local_store.read(ID)
    assert any(f"id={ID}: " in formatEvent(event) for event in logged)
    assert dict(await local_store.digests()) == before
    await assert_no_copy(local_store)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE, errno.EUCLEAN])
@pytest.mark.parametrize("span", [None, (0, 10), (299_000, 300_000)])
@ensureDeferred
async def test_the_disk_fails_in_the_middle(local_store, failing_reads, number, span):
    """The reader is told, and it is no copy."""
    await put(local_store, BODY)
    blob = await local_store.read(ID, span)
    failing_reads.append(number)
    with pytest.raises(Unavailable):
        await content(blob)
    await assert_no_copy(local_store)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@ensureDeferred
async def test_a_process_that_is_out_of_files_says_nothing_of_the_disk(
    local_store, failing_reads, number
):
    """The copy is one."""
    await put(local_store, BODY)
    blob = await local_store.read(ID)
    failing_reads.append(number)
    with pytest.raises(Unavailable):
        await content(blob)
    failing_reads.clear()
    assert await local_store.listing() == [ID]
    assert await content(await local_store.read(ID)) == BODY


@ways
@ensureDeferred
async def test_it_is_no_copy_after_a_restart(local_store, reactor, take):
    """The mark is in the index."""
    await put(local_store, BODY)
    take(path_of(local_store))
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    await local_store.close()
    local_store.open()
    await assert_no_copy(local_store)


@ways
@ensureDeferred
async def test_uploading_it_again_heals(local_store, take):
    """Whether or not anybody had noticed; the first metadata is not needed for that."""
    await put(local_store, BODY)
    digests = dict(await local_store.digests())
    for noticed in (True, False):
        take(path_of(local_store))
        if noticed:
            with pytest.raises(Unavailable):
                await local_store.read(ID)
        await put(local_store, BODY)
        assert await content(await local_store.read(ID)) == BODY
        assert await local_store.listing() == [ID]
        assert dict(await local_store.digests()) == digests


@ways
@ensureDeferred
async def test_it_counts_again_when_it_can_be_read(local_store, take):
    """A disk was mounted again, or rights were put in order: who reads it finds that out."""
    await put(local_store, BODY)
    digests = dict(await local_store.digests())
    take(path_of(local_store))
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    restore(path_of(local_store))
    assert await content(await local_store.read(ID, (10, 20))) == BODY[10:20]
    assert dict(await local_store.digests()) == digests
    assert (await local_store.stat(ID)).size == len(BODY)


@ensureDeferred
async def test_what_came_back_is_verified_first(local_store, tmp_path):
    """Other bytes are set aside."""
    await put(local_store, BODY)
    path = path_of(local_store)
    gone(path)
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    path.write_bytes(body_of(300_000, seed=1))
    with pytest.raises(Quarantined):
        await local_store.read(ID, (10, 20))
    with pytest.raises(NotFound):
        await local_store.stat(ID)


@ways
@ensureDeferred
async def test_a_scrub_marks_it_and_takes_the_mark_away(local_store, reactor, take):
    """It looks at those that are marked, too."""
    await put(local_store, BODY)
    await put(local_store, b"small")
    take(path_of(local_store))
    for _ in range(2):
        report, warnings = Report(), []
        await scrub(local_store.disk_order(), report, reactor, 0, lambda: 1.0, warn=warnings.append)
        assert (report.checked, report.unreadable, report.damaged, report.ok) == (2, 1, 0, False)
        assert ID in warnings[0]
        assert await local_store.listing() == [content_id(b"small")]
    restore(path_of(local_store))
    report = Report()
    await scrub(local_store.disk_order(), report, reactor, 0, lambda: 1.0)
    assert (report.checked, report.ok) == (2, True)
    assert len(await local_store.listing()) == 2


@ways
@ensureDeferred
async def test_a_name_still_stands_for_its_bytes(local_store, take):
    """They are not there, and yet no others take the name."""
    await put(local_store, BODY, "name")
    take(path_of(local_store, "name"))
    with pytest.raises(Conflict):
        await put(local_store, body_of(300_000, seed=1), "name")
    await put(local_store, BODY, "name")
    assert await content(await local_store.read("name")) == BODY


@ways
@ensureDeferred
async def test_an_object_gives_way_to_its_manifest(local_store, take):
    """The manifest can be read; the file that cannot leaves nothing behind."""
    id, text, metadata = manifest_of(BODY, 100_000)
    await put(local_store, BODY)
    take(path_of(local_store))
    await put(local_store, text, id, metadata)
    assert await content(await local_store.read(id)) == text
    assert await local_store.listing() == [id]
    assert not path_of(local_store).exists()


@ways
@ensureDeferred
async def test_a_large_manifest_gives_way_to_its_object(local_store, take):
    """As one that can be read does."""
    id, text, metadata = manifest_of(BODY, 200)
    await put(local_store, text, id, metadata)
    take(path_of(local_store))
    await put(local_store, BODY)
    assert await content(await local_store.read(id)) == BODY


@ways
@ensureDeferred
async def test_it_can_be_dropped(local_store, take):
    """But not as what was told of it before."""
    await put(local_store, BODY)
    known = (await local_store.blob_digests(ID[:3]))[ID]
    take(path_of(local_store))
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    token = await local_store.lease(60)
    with pytest.raises(Conflict):
        await local_store.drop(ID, token, known)
    await local_store.drop(ID, token)
    with pytest.raises(NotFound):
        await local_store.stat(ID)


@ways
@ensureDeferred
async def test_where_it_cannot_be_marked_nothing_is_said_of_the_whole(local_store, take):
    """Or it would go on counting as a copy."""
    await put(local_store, BODY)
    local_store._committer.give_up("the disk is mounted read-only")
    take(path_of(local_store))
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    for ask in (local_store.digests(), local_store.listing(), local_store.blob_digests(ID[:3])):
        with pytest.raises(Unavailable, match=ID):
            await ask
    assert (await local_store.status()).blobs is None


@ensureDeferred
async def test_a_damaged_one_that_stays_is_no_copy_either(local_store):
    """It cannot be set aside in a store that is read-only."""
    await put(local_store, BODY)
    os.truncate(path_of(local_store), 10)
    local_store._committer.give_up("read-only")
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    with pytest.raises(Unavailable, match=ID):
        await local_store.digests()


@ensureDeferred
async def test_the_doubt_ends_with_the_mark(local_store, monkeypatch):
    """The disk was full for a moment."""
    await put(local_store, BODY)
    gone(path_of(local_store))
    with monkeypatch.context() as patch:
        patch.setattr(local_store._committer, "failure", "full for now")
        with pytest.raises(Unavailable):
            await local_store.read(ID)
    with pytest.raises(Unavailable):
        await local_store.digests()
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    await assert_no_copy(local_store)


@pytest.fixture
def full_for_a_moment(local_store, monkeypatch):
    """Lets no change be made while it is entered."""

    @contextmanager
    def full():
        with monkeypatch.context() as patch:
            patch.setattr(local_store._committer, "failure", "full for now")
            yield

    return full


@pytest.fixture
def doubted(local_store, full_for_a_moment):
    """Returns a body that could not be read, nor marked."""

    async def doubted():
        await put(local_store, BODY)
        gone(path_of(local_store))
        with full_for_a_moment(), pytest.raises(Unavailable):
            await local_store.read(ID)
        with pytest.raises(Unavailable, match=ID):
            await local_store.digests()
        status = await local_store.status()
        assert (status.writable, status.blobs) == (True, None)
        assert ID in status.reason

    return doubted


class TestADoubt:
    """Lasts as long as there is a reason for it."""

    @ensureDeferred
    async def test_it_ends_when_the_blob_is_stored_anew(self, local_store, doubted):
        await doubted()
        await put(local_store, BODY)
        assert await local_store.listing() == [ID]
        assert await content(await local_store.read(ID)) == BODY

    @ensureDeferred
    async def test_it_ends_when_the_body_can_be_read(self, local_store, doubted):
        await doubted()
        restore(path_of(local_store))
        assert await content(await local_store.read(ID, (5, 10))) == BODY[5:10]
        assert await local_store.listing() == [ID]

    @ensureDeferred
    async def test_it_ends_when_the_blob_is_dropped(self, local_store, doubted):
        await doubted()
        await local_store.drop(ID, await local_store.lease(60))
        assert await local_store.listing() == []

    @ensureDeferred
    async def test_a_scrub_ends_it(self, local_store, doubted, reactor):
        """It finds out again, and can mark it now."""
        await doubted()
        report = Report()
        await scrub(local_store.disk_order(), report, reactor, 0, lambda: 1.0)
        assert report.unreadable == 1
        await assert_no_copy(local_store)


@pytest.mark.parametrize("ask", [LocalStore.stat, LocalStore.read])
@ensureDeferred
async def test_one_that_is_marked_already_raises_no_doubt(local_store, ask):
    """In a store that takes nothing any more, the others are told as before."""
    await put(local_store, BODY)
    await put(local_store, b"other")
    gone(path_of(local_store))
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    local_store._committer.give_up("read-only")
    with capturedLogs() as logged, pytest.raises(Unavailable):
        await ask(local_store, ID)
    assert logged == []
    assert await local_store.listing() == [content_id(b"other")]


@ensureDeferred
async def test_it_is_read_where_the_mark_cannot_be_taken_away(local_store):
    """It may be the last copy."""
    await put(local_store, BODY)
    gone(path_of(local_store))
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    restore(path_of(local_store))
    local_store._committer.give_up("read-only")
    for _ in range(2):
        assert await content(await local_store.read(ID)) == BODY


@pytest.mark.parametrize(
    ("call", "error"), [("link", NoSpace), ("replace", NoSpace), ("fsync", SOSError)]
)
@ensureDeferred
async def test_an_upload_that_fails_takes_nothing_away(
    local_store, failing_reads, monkeypatch, call, error
):
    """What could not be read for a moment can be the last copy: it stays till another is there."""
    await put(local_store, BODY)
    real = os.fsync

    def refused(target, *arguments):
        if call == "fsync" and "bodies" not in os.readlink(f"/proc/self/fd/{target}"):
            return real(target)
        failing_reads.clear()
        raise OSError(errno.ENOSPC, "No space left on device")

    failing_reads.append(errno.EIO)
    with monkeypatch.context() as patch:
        patch.setattr(f"sos.stores.local.disk.os.{call}", refused)
        with pytest.raises(error):
            await put(local_store, BODY)
    await local_store.close()
    local_store.open()
    assert await content(await local_store.read(ID)) == BODY
    assert list(local_store._layout.incoming.iterdir()) == []


@pytest.mark.parametrize("received", [{}, {"X-A": "later", SET_AT: "9"}])
@ensureDeferred
async def test_the_first_metadata_stays(local_store, received):
    """The record can be read, and only the body cannot."""
    first = {"X-A": "first", SET_AT: "5"}
    await put(local_store, BODY, metadata=first)
    gone(path_of(local_store))
    stored = await put(local_store, BODY, metadata=received)
    assert shown(stored.metadata) == shown(first)
    assert shown((await local_store.stat(ID)).metadata) == shown(first)


@ensureDeferred
async def test_what_stands_behind_a_body_does_not_say_that_it_cannot_be_read(local_store):
    """An index that is made anew of it would believe that."""
    await put(local_store, BODY)
    path = path_of(local_store)
    os.truncate(path, len(BODY))  # as older versions stored it
    gone(path)
    with pytest.raises(Unavailable):
        await local_store.read(ID)
    restore(path)
    assert await content(await local_store.read(ID)) == BODY
    with open(path, "rb", buffering=0) as file:
        assert read_trailer(file)[0].readable


@pytest.mark.parametrize("seed", range(3))
@ensureDeferred
async def test_whatever_happens_no_wrong_byte_is_given(local_store, failing_reads, seed):
    """Uploads, reads and questions at once, of a body that things happen to."""
    random, odd = Random(seed), []
    path = path_of(local_store)

    async def read(span):
        assert await content(await local_store.read(ID, span)) == BODY[slice(*(span or (None,)))]

    async def work():
        kind = random.randrange(5)
        if kind < 2:
            await put(local_store, BODY)
        elif kind == 2:
            await local_store.stat(ID)
        else:
            await read(random.choice([None, (1000, 290_000), (5, 6)]))

    for _ in range(40):
        failing_reads[:] = [errno.EIO] if random.random() < 0.2 else []
        happens = random.randrange(6)
        if happens == 0 and path.exists():
            os.truncate(path, random.randrange(400_000))
        elif happens == 1 and path.exists():
            with open(path, "r+b") as file:
                file.seek(random.randrange(299_000))
                file.write(b"\xff\x00\xff")
        elif happens == 2:
            path.unlink(missing_ok=True)
        outcomes = await DeferredList([deferred(work()) for _ in range(6)], consumeErrors=True)
        odd += [value for well, value in outcomes if not well and not value.check(SOSError)]
    assert odd == []
    failing_reads.clear()
    await put(local_store, BODY)
    await read(None)
    assert await local_store.listing() == [ID]
    assert sum(digest.count for digest in (await local_store.digests()).values()) == 1
    assert list(local_store._layout.incoming.iterdir()) == []
