"""Directories of stores in which something else is where a file was."""

from __future__ import annotations

import os
import shutil

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred

from sos.errors import StoreUnusable
from sos.scrub import load, save
from sos.stores.local import LocalStore
from sos.stores.local.backup import backup
from sos.stores.local.check import check
from sos.stores.local.rebuild import rebuild
from tests.stores.local.directories import body_path, fill, read_all
from tests.support.blobs import body_of, content_id

LARGE, SMALL = body_of(200_000), b"small"
ID = content_id(LARGE)


@async_yield_fixture
async def directory(tmp_path, reactor):
    """A store with a body in a file, closed."""
    directory = tmp_path / "store"
    await fill(directory, reactor, {ID: LARGE, content_id(SMALL): SMALL})
    yield directory


def piped(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def linked(path):
    """Let *path* lead to a file that is not to be written to."""
    precious = path.parents[3] / "precious"
    precious.write_bytes(b"precious")
    path.unlink(missing_ok=True)
    path.symlink_to(precious)
    return precious


def opened(directory, reactor):
    LocalStore(directory, reactor).open()


@pytest.mark.parametrize("name", ["store.json", "index/data.mdb", "index/lock.mdb", "lock"])
def test_a_pipe_is_not_waited_for(directory, reactor, tmp_path, name):
    """A store that has one is not opened, checked, or backed up; the error names it."""
    piped(directory / name)
    for work in (
        lambda: opened(directory, reactor),
        lambda: backup(directory, tmp_path / "copy"),
    ):
        with pytest.raises(StoreUnusable, match=f"{name}: it is a pipe, not a regular file"):
            work()
    if name.startswith("index/"):
        (finding,) = check(directory).findings
        assert f"{name}: it is a pipe" in finding.reason
    else:
        with pytest.raises(StoreUnusable, match=f"{name}: it is a pipe"):
            check(directory)


@pytest.mark.parametrize("replace", [piped, linked])
def test_a_body_that_is_no_file(directory, tmp_path, replace):
    """It is found, left out of a backup, and set aside by a rebuild as it is."""
    path = body_path(directory, ID)
    replace(path)
    assert {finding.kind for finding in check(directory).findings} == {"body", "file"}
    (left_out,) = backup(directory, tmp_path / "copy").left_out
    assert (left_out.id, "not a regular file" in left_out.reason) == (ID, True)
    shutil.rmtree(directory / "index")
    report = rebuild(directory)
    assert len(report.quarantined) == 1
    assert not os.path.lexists(path)


@ensureDeferred
async def test_what_is_left_of_an_upload_is_no_file(directory, reactor):
    """It is removed, unread; what has no name that can be is not looked for."""
    for name in ("NEW.1.a", "\udcff.1.b"):
        piped(directory / "incoming" / name)
        os.link(directory / "incoming" / name, directory / "incoming" / f"{name}2")
    linked(directory / "incoming/NEW.1.c")
    assert set(await read_all(directory, reactor)) == {ID, content_id(SMALL)}
    assert os.listdir(directory / "incoming") == []


def test_a_marker_is_not_written_through_a_link(directory):
    """Nor is what a scrub has found; the file that the link leads to stays."""
    precious = linked(directory / "store.json.new")
    os.unlink(directory / "store.json")
    with pytest.raises(StoreUnusable, match="symbolic link, not a regular file"):
        rebuild(directory)
    assert precious.read_bytes() == b"precious"
    piped(directory / "scrub.json")
    report = load(directory / "scrub.json")
    assert report.checked == 0
    save(report, directory / "scrub.json")
    assert load(directory / "scrub.json") == report


def test_a_backup_follows_no_link(directory, tmp_path):
    """It removes what the store has not, and would do so elsewhere."""
    backup(directory, tmp_path / "copy")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"precious")
    shutil.rmtree(tmp_path / "copy/bodies")
    (tmp_path / "copy/bodies").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnusable, match="copy/bodies is a symbolic link"):
        backup(directory, tmp_path / "copy")
    assert (tmp_path / "elsewhere/file").read_bytes() == b"precious"


def test_a_link_to_a_directory_below_the_bodies_is_found(directory, tmp_path):
    """Nothing that SOS does makes one."""
    (tmp_path / "elsewhere").mkdir()
    (directory / "bodies/more").symlink_to(tmp_path / "elsewhere")
    (finding,) = check(directory).findings
    assert (finding.kind, finding.of) == ("file", "bodies/more")
