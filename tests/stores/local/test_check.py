"""A store is checked: what is wrong with it is found, and nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
from random import Random

import lmdb
import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred

from sos.errors import StoreUnusable
from sos.stores.local import LocalStore
from sos.stores.local.body_file import read_trailer, write_trailer
from sos.stores.local.check import check
from tests.stores.local.directories import (
    LARGE,
    NAME,
    NAMED,
    SMALL,
    bare,
    body_path,
    damage_index,
    everything,
    fill,
    overwrite,
    states,
)
from tests.support.blobs import content_id

ID = content_id(LARGE[0])
SMALL_ID = content_id(SMALL[5])


@async_yield_fixture
async def directory(tmp_path, reactor):
    """A store with everything, closed."""
    directory = tmp_path / "store"
    await fill(directory, reactor)
    yield directory


def found_in(directory):
    """Return what a check finds, by kind and what it is of; it changes nothing."""
    before = states(directory)
    warnings = []
    report = check(directory, warnings.append)
    assert states(directory) == before
    assert warnings == report.findings
    assert report.ok == (not warnings)
    return {(each.kind, each.of): each.reason for each in report.findings}


def change(directory, database, function):
    """Have *function* change a *database* of the index."""
    with lmdb.open(str(directory / "index"), max_dbs=5, map_size=1 << 30) as environment:
        opened = environment.open_db(database)
        with environment.begin(opened, write=True) as transaction:
            function(transaction)


def key(id):
    return (id[:3] + id).encode()


def test_a_sound_store(directory):
    """Everything in it is counted."""
    report = check(directory)
    assert report.ok
    assert (report.checked, report.undescribed) == (len(everything()), 0)
    assert report.bytes == sum(map(len, everything().values()))


def test_what_is_no_finding_is_counted(directory):
    """What the next start settles, what was set aside, and bodies of an earlier version."""
    (directory / "incoming/NEW.0.abc").write_bytes(b"half")
    (directory / "quarantine/abc.1").write_bytes(b"bad")
    (directory / "quarantine/abc.1.json").write_bytes(b"{}")
    bare(body_path(directory, ID), len(LARGE[0]))
    report = check(directory)
    assert report.ok
    assert (report.unfinished, report.quarantined, report.undescribed) == (1, 1, 1)


def test_a_store_in_use_is_refused(directory, reactor):
    """As is what is no store."""
    store = LocalStore(directory, reactor)
    store.open()
    with pytest.raises(StoreUnusable, match="in use by another process"):
        check(directory)
    store._committer.give_up("test")


def test_what_is_no_store_is_refused(tmp_path):
    """It is not made one."""
    with pytest.raises(StoreUnusable, match="is not a store"):
        check(tmp_path)
    assert not list(tmp_path.iterdir())


class TestTheIndex:
    def test_that_is_lost(self, directory):
        shutil.rmtree(directory / "index")
        assert found_in(directory) == {("index", "index"): "it is missing"}

    @pytest.mark.parametrize("size", [0, 1, 4096, 5000, 40_000, -1])
    def test_that_is_cut_short(self, directory, size):
        data = directory / "index/data.mdb"
        os.truncate(data, size if size >= 0 else data.stat().st_size - 4096)
        assert ("index", "index") in found_in(directory)

    def test_that_is_junk(self, directory):
        data = directory / "index/data.mdb"
        data.write_bytes(Random(1).randbytes(data.stat().st_size))
        assert "cannot be opened" in found_in(directory)["index", "index"]

    @ensureDeferred
    async def test_that_is_of_another_store(self, directory, tmp_path, reactor):
        await fill(tmp_path / "other", reactor)
        os.truncate(directory / "lock", 0)
        shutil.copy(tmp_path / "other/index/data.mdb", directory / "index/data.mdb")
        assert "belongs to another store" in found_in(directory)["index", "index"]

    @ensureDeferred
    async def test_that_is_an_older_copy(self, directory, tmp_path, reactor):
        shutil.copy(directory / "index/data.mdb", tmp_path / "copy")
        await fill(directory, reactor, {content_id(b"later"): b"later"})
        size = (directory / "index/data.mdb").stat().st_size
        shutil.copy(tmp_path / "copy", directory / "index/data.mdb")
        os.truncate(directory / "index/data.mdb", size)
        assert "is an older copy" in found_in(directory)["index", "index"]

    def test_whose_digests_are_wrong(self, directory):
        """The last of the log counts."""
        change(directory, b"records", lambda records: records.delete(key(SMALL_ID)))
        found = found_in(directory)
        assert "blobs" in found.pop(("digest", SMALL_ID[:3]))
        assert "no record refers to the inline body" in found.pop(("index", "bodies"))
        assert not found

    def test_whose_digests_are_damaged(self, directory):
        change(directory, b"digests", lambda rows: rows.put(b"\xff" * 8, b"x"))
        assert found_in(directory) == {
            ("index", "digests"): "the log of partition digests in the index is damaged"
        }

    def test_whose_record_is_damaged(self, directory):
        change(directory, b"records", lambda records: records.put(key(ID), b"x" * 60))
        assert found_in(directory) == {
            ("record", ID): "the index record does not match its checksum",
        }

    @pytest.mark.parametrize("row", [b"", b"x", b"\0" * 8])
    def test_whose_record_is_short(self, directory, row):
        change(directory, b"records", lambda records: records.put(key(ID), row))
        assert found_in(directory)["record", ID] == "the index record is truncated"

    @pytest.mark.parametrize("odd", [b"zzz", b"\xff\xfe", b"abc" + b"d" * 40])
    def test_that_has_a_record_of_what_is_no_id(self, directory, odd):
        change(directory, b"records", lambda records: records.put(odd, b"x" * 60))
        assert len(found_in(directory)) == 1

    def test_that_lacks_an_inline_body(self, directory):
        def remove_first(bodies):
            with bodies.cursor() as cursor:
                cursor.first()
                cursor.delete()

        change(directory, b"bodies", remove_first)
        ((kind, _),) = found_in(directory)
        assert kind == "body"

    def test_that_has_two_records_of_one_body(self, directory):
        def copy(records):
            row, other = records.get(key(SMALL_ID)), records.get(key(content_id(SMALL[6])))
            records.put(key(SMALL_ID), other[:8] + row[8:])

        change(directory, b"records", copy)
        assert {kind for kind, _ in found_in(directory)} == {"record", "body", "index"}


class TestABody:
    """Of its own file."""

    def test_that_is_damaged(self, directory):
        overwrite(body_path(directory, ID), 1000, b"?")
        assert found_in(directory) == {("body", ID): "the body does not match its hash"}

    def test_that_is_too_short(self, directory):
        os.truncate(body_path(directory, ID), 1000)
        assert "has 1000 bytes" in found_in(directory)["body", ID]

    def test_that_is_missing(self, directory):
        body_path(directory, NAME).unlink()
        assert found_in(directory) == {("body", NAME): "its file is missing"}

    def test_whose_blocks_have_other_hashes(self, directory):
        with body_path(directory, ID).open("r+b", buffering=0) as file:
            record, blocks = read_trailer(file)
            write_trailer(file, record, blocks.hashes[::-1])
        assert "block hashes in its trailer" in found_in(directory)["body", ID]

    def test_at_another_place(self, directory):
        path = body_path(directory, ID)
        path.rename(path.parent.parent / ID)
        found = found_in(directory)
        assert found.pop(("body", ID)) == "its file is missing"
        assert "not where the body" in found.pop(("file", f"bodies/{ID[:2]}/{ID}"))

    def test_without_a_record(self, directory):
        """Or whose record has it inline."""
        path = body_path(directory, SMALL_ID)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SMALL[5])
        name = str(path.relative_to(directory))
        assert found_in(directory) == {("file", name): "no record refers to it"}


def test_files_that_are_none_of_a_store(directory):
    """In the directory, and among the bodies, whatever they are called."""
    (directory / "notes.txt").write_bytes(b"")
    (directory / "bodies/x").write_bytes(b"")
    (directory / os.fsdecode(b"bodies/\xff")).write_bytes(b"")
    (directory / "lost+found").mkdir()
    assert {of for _, of in found_in(directory)} == {"notes.txt", "bodies/x", "bodies/\\xff"}


@pytest.mark.parametrize("text", ["", "{}", '{"format": "sos-local-store", "version": 7}'])
def test_a_marker_that_is_damaged(directory, text):
    (directory / "store.json").write_text(text)
    assert list(found_in(directory)) == [("store", "store.json")]


def test_a_marker_that_is_missing(directory):
    (directory / "store.json").unlink()
    assert found_in(directory) == {("store", "store.json"): "it is missing"}


def test_a_store_of_the_release_before(directory):
    """Without an id, and with nothing behind its bodies."""
    of_before(directory)
    report = check(directory)
    assert (report.findings, report.undescribed) == ([], len(LARGE) + 1)


def of_before(directory):
    """Make it a store of the release before."""
    for id, body in everything().items():
        if body in LARGE or body == NAMED:
            bare(body_path(directory, id), len(body))
    marker = json.loads((directory / "store.json").read_text())
    del marker["id"]
    (directory / "store.json").write_text(json.dumps(marker))
    with lmdb.open(str(directory / "index"), max_dbs=5) as index, index.begin(write=True) as change:
        change.drop(index.open_db(b"identity", change))
    os.truncate(directory / "lock", 0)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_damaged_is_no_reason_to_break_off(directory, seed):
    """There is a report, and what it counts as sound is no more than there was."""
    random = Random(seed)
    damage_index(directory, random)
    for id in (ID, NAME):
        overwrite(body_path(directory, id), random.randrange(100_000), random.randbytes(50))
    report = check(directory)
    assert not report.ok
    assert report.bytes <= sum(map(len, everything().values()))
