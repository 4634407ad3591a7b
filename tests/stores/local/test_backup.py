"""Backups of stores, in use or not."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from threading import Event, Thread

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred

from sos.errors import StoreUnusable
from sos.stores.local import LocalStore
from sos.stores.local.backup import backup
from sos.stores.local.check import check
from sos.stores.local.disk import Layout
from sos.stores.local.rebuild import rebuild
from tests.stores.local.directories import (
    LARGE,
    NAME,
    NAMED,
    bare,
    body_path,
    everything,
    fill,
    overwrite,
    read_all,
    states,
)
from tests.stores.local.test_check import of_before
from tests.support.blobs import body_of, content, content_id, manifest_of, put
from tests.support.http import fetch
from tests.support.kills import killed_at
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

ID = content_id(LARGE[0])
IN_FILES = len(LARGE) + 1
LATER = body_of(400_000, 50)


@async_yield_fixture
async def directory(tmp_path, reactor):
    """A store with everything, closed."""
    directory = tmp_path / "store"
    await fill(directory, reactor)
    yield directory


@pytest.fixture
def target(tmp_path):
    return tmp_path / "backup"


@pytest.fixture(params=["linked", "cloned", "copied"])
def way(request, monkeypatch):
    """How bodies come into the backup: as where it is on the same disk, or on another."""

    link = os.link

    def other_disk(source, target):
        if "/backup/" not in str(target):
            return link(source, target)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def clone(descriptor, request, source):
        assert request == 0x40049409
        os.write(descriptor, os.pread(source, 1 << 30, 0))

    if request.param != "linked":
        monkeypatch.setattr(os, "link", other_disk)
        monkeypatch.setattr(fcntl, "ioctl", clone if request.param == "cloned" else _refused)
    return request.param


async def drop(directory, reactor, *ids):
    store = LocalStore(directory, reactor)
    store.open()
    token = await store.lease(60)
    for id in ids:
        await store.drop(id, token)
    await store.close()


@ensureDeferred
async def test_a_backup_opens_as_the_store(directory, target, reactor, way):
    """With all its blobs and its id, and nothing of the store is changed."""
    before = states(directory / "bodies")
    report = backup(directory, target)
    assert report.ok
    assert report.blobs == len(everything())
    assert report.bytes == sum(map(len, everything().values()))
    assert getattr(report, way) == report.linked + report.cloned + report.copied == IN_FILES
    assert states(directory / "bodies") == before
    assert check(target).findings == []
    assert await read_all(target, reactor) == everything()
    assert (target / "store.json").read_bytes() == (directory / "store.json").read_bytes()


@ensureDeferred
async def test_the_next_one_brings_what_is_new(directory, target, reactor, way):
    """And takes away what the store has no more."""
    backup(directory, target)
    report = backup(directory, target)
    assert (getattr(report, way), report.kept, report.removed) == (0, IN_FILES, 0)
    await fill(directory, reactor, {content_id(LATER): LATER})
    await drop(directory, reactor, ID)
    report = backup(directory, target)
    assert (getattr(report, way), report.kept, report.removed) == (1, IN_FILES - 1, 1)
    assert check(target).findings == []
    left = {id: body for id, body in everything().items() if id != ID}
    assert await read_all(target, reactor) == left | {content_id(LATER): LATER}
    assert backup(directory, target).ok  # to have been read has not made it another store


@ensureDeferred
async def test_bodies_with_nothing_behind_them(directory, target, reactor, way):
    """They are verified before they count."""
    for body in LARGE:
        bare(body_path(directory, content_id(body)), len(body))
    overwrite(body_path(directory, ID), 10, b"??")
    report = backup(directory, target)
    assert [each.id for each in report.left_out] == [ID]
    assert check(target).findings == []
    left = {id: body for id, body in everything().items() if id != ID}
    assert await read_all(target, reactor) == left
    assert backup(directory, target).kept == IN_FILES - 1


def test_a_damaged_body_is_not_copied(directory, target, monkeypatch):
    """It is left out, and told; a file that is missing as well."""
    monkeypatch.setattr(os, "link", _refused)
    overwrite(body_path(directory, ID), 10, b"??")
    body_path(directory, NAME).unlink()
    warnings = []
    report = backup(directory, target, warnings.append)
    assert not report.ok
    assert {each.id: each.reason for each in report.left_out} == {
        ID: "the body does not match its hash",
        NAME: "its file is missing",
    }
    assert len(warnings) == 2
    assert check(target).findings == []


def _refused(*arguments):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("described", [True, False])
@ensureDeferred
async def test_what_the_store_has_lost_stays_in_the_backup(directory, target, reactor, described):
    """As long as it has the record."""
    if not described:
        bare(body_path(directory, ID), len(LARGE[0]))
    backup(directory, target)
    body_path(directory, ID).unlink()
    report = backup(directory, target)
    assert (report.ok, report.kept) == (True, IN_FILES)
    assert await read_all(target, reactor) == everything()


def refusal(directory, target):
    """Return why there is no backup; what is at its place stays as it is."""
    before = states(target) if target.exists() else None
    with pytest.raises(StoreUnusable) as caught:
        backup(directory, target)
    after = states(target) if target.exists() else None
    assert (before or {}).items() >= {
        path: state for path, state in (after or {}).items() if path.name != "lock"
    }.items()
    return str(caught.value)


class TestATarget:
    def test_that_is_not_empty(self, directory, target):
        target.mkdir()
        (target / "file").write_bytes(b"x")
        assert "is neither a backup nor empty: it contains file" in refusal(directory, target)

    @ensureDeferred
    async def test_that_is_a_store(self, directory, target, reactor):
        """Even the same, as where the two were confused."""
        shutil.copytree(directory, target)
        assert "is neither a backup" in refusal(directory, target)

    @ensureDeferred
    async def test_that_is_a_backup_of_another(self, directory, target, tmp_path, reactor):
        await fill(tmp_path / "other", reactor, {})
        backup(tmp_path / "other", target)
        assert "is a backup of another store" in refusal(directory, target)

    @ensureDeferred
    async def test_that_was_used_as_a_store(self, directory, target, reactor):
        """What was stored there since would be lost."""
        backup(directory, target)
        await fill(target, reactor, {content_id(b"new"): b"new"})
        assert "a daemon has written to it since" in refusal(directory, target)

    def test_that_is_open(self, directory, target, reactor):
        backup(directory, target)
        store = LocalStore(target, reactor)
        store.open()
        assert "in use" in refusal(directory, target)
        store._committer.give_up("test")

    @pytest.mark.parametrize("path", [".", "inside", "..", "bodies/.."])
    def test_that_is_the_store_or_in_it(self, directory, path):
        with pytest.raises(
            StoreUnusable, match="are the same directory, or one contains the other"
        ):
            backup(directory, directory / path)
        assert not (directory / "inside").exists()

    def test_that_is_beside_nothing(self, directory, tmp_path):
        with pytest.raises(StoreUnusable, match="is its disk mounted"):
            backup(directory, tmp_path / "none/backup")


class TestASource:
    def test_that_is_no_store(self, tmp_path, target):
        (tmp_path / "store").mkdir()
        assert "is not a store" in refusal(tmp_path / "store", target)

    def test_that_has_no_id(self, directory, target):
        of_before(directory)
        assert "start its daemon once" in refusal(directory, target)

    @pytest.mark.parametrize("size", [0, 4096, 100_000])
    def test_whose_index_is_lost(self, directory, target, size):
        """The backup that there is stays."""
        backup(directory, target)
        os.truncate(directory / "index/data.mdb", size)
        assert "repair it with sos rebuild" in refusal(directory, target)

    @ensureDeferred
    async def test_whose_index_is_of_another(self, directory, target, tmp_path, reactor):
        await fill(tmp_path / "other", reactor, {})
        os.truncate(directory / "lock", 0)
        shutil.copy(tmp_path / "other/index/data.mdb", directory / "index/data.mdb")
        with pytest.raises(StoreUnusable, match="belongs to another store"):
            backup(directory, target)


async def exchanged(directory, reactor):
    """Store an object in the place of its manifest, and another body under a name."""
    store = LocalStore(directory, reactor)
    store.open()
    token = await store.lease(60)
    await store.drop(NAME, token)
    await put(store, LATER, NAME)
    await put(store, WHOLE, WHOLE_ID)
    await store.close()


WHOLE = body_of(150_000)
WHOLE_ID, MANIFEST, METADATA = manifest_of(WHOLE, 100)


async def with_manifest(directory, reactor):
    store = LocalStore(directory, reactor)
    store.open()
    for body, id, metadata in ((MANIFEST, WHOLE_ID, METADATA), (NAMED, NAME, {}), (b"1", None, {})):
        await put(store, body, id, metadata)
    await store.close()


async def bodies_of(directory, reactor):
    """Return what a directory serves, by id, or None when it is not opened as a store."""
    store = LocalStore(directory, reactor, require=True)
    try:
        store.open()
    except StoreUnusable:
        return None
    found = {id: await content(await store.read(id)) for id in await store.listing()}
    await store.close()
    return found


ONE = {content_id(b"1"): b"1"}
FIRST = ONE | {WHOLE_ID: MANIFEST, NAME: NAMED}
SECOND = ONE | {WHOLE_ID: WHOLE, NAME: LATER}


@ensureDeferred
async def test_another_body_of_a_name_takes_its_place(directory, tmp_path, target, reactor, way):
    """Which is the one thing for which the backup is none for a moment."""
    await with_manifest(tmp_path / "one", reactor)
    backup(tmp_path / "one", target)
    assert await bodies_of(target, reactor) == FIRST
    await exchanged(tmp_path / "one", reactor)
    backup(tmp_path / "one", target)
    assert await bodies_of(target, reactor) == SECOND
    assert check(target).findings == []


@pytest.mark.parametrize("change", ["dropped", "exchanged"])
@ensureDeferred
async def test_what_changes_while_it_is_made(tmp_path, target, reactor, monkeypatch, change):
    """A dropped blob is left out, and of another that has its place that one is taken."""
    store = tmp_path / "store"
    await with_manifest(store, reactor)
    link = os.link

    def change_first(source, target):
        monkeypatch.setattr(os, "link", link)
        subprocess.run([sys.executable, "-c", _IN_USE.format(change, str(store))], check=True)
        link(source, target)

    monkeypatch.setattr(os, "link", change_first)
    assert backup(store, target).ok
    assert check(target).findings == []
    found = await bodies_of(target, reactor)
    if change == "dropped":
        assert found == {id: body for id, body in FIRST.items() if id != NAME}
    else:
        assert found == SECOND


_IN_USE = """
from pathlib import Path
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
from tests.stores.local.test_backup import {0}
react(lambda reactor: ensureDeferred({0}(Path({1!r}), reactor)))
"""


async def dropped(directory, reactor):
    await drop(directory, reactor, NAME)


async def grown(directory, reactor):
    await fill(directory, reactor, {content_id(LATER): LATER})
    await drop(directory, reactor, NAME)


@pytest.mark.parametrize("change", [exchanged, grown, None])
@ensureDeferred
async def test_that_is_killed(tmp_path, reactor, change, long):
    """At each step: it is the earlier backup or the new one, or not opened; the next is whole."""
    store = tmp_path / "store"
    await with_manifest(store, reactor)
    states = [None]
    if change is not None:
        backup(store, tmp_path / "original")
        states.append(await bodies_of(tmp_path / "original", reactor))
        await change(store, reactor)
    backup(store, tmp_path / "whole")
    states.append(await bodies_of(tmp_path / "whole", reactor))
    if change is grown:
        states.remove(None)  # there is no moment without a backup
    step = 0
    while True:
        target = tmp_path / f"step{step}"
        if change is not None:
            shutil.copytree(tmp_path / "original", target)
        if not killed_at(step, lambda target=target: backup(store, target)):
            break
        if target.exists():
            shutil.copytree(target, tmp_path / "opened")
            assert await bodies_of(tmp_path / "opened", reactor) in states
            shutil.rmtree(tmp_path / "opened")
        backup(store, target)
        assert check(target).findings == []
        assert await bodies_of(target, reactor) == states[-1]
        step += 1 if long else 4  # each is as one of its neighbours, mostly
    assert step > 10


def test_an_unfinished_backup_says_so(directory, target, monkeypatch, reactor):
    """To who wants to open, check, or rebuild it."""
    assert killed_at(15, lambda: backup(directory, target))
    for use in (check, rebuild, lambda target: LocalStore(target, reactor).open()):
        with pytest.raises(StoreUnusable, match="is an unfinished backup; run sos backup again"):
            use(target)
    with pytest.raises(StoreUnusable, match="is an unfinished backup"):
        backup(target, directory)


def test_a_disk_that_is_full(directory, target, monkeypatch):
    """The backup fails in one line, and is none; when there is room it is made."""
    monkeypatch.setattr(os, "link", _refused)

    def full(self, descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Layout, "sync_file", full)
        with pytest.raises(StoreUnusable, match="No space left"):
            backup(directory, target)
    assert backup(directory, target).copied == IN_FILES
    assert check(target).findings == []


@ensureDeferred
async def test_of_a_store_in_use(place, reactor):
    """All that was acknowledged before is in it, and what came meanwhile is whole or not there."""
    (port,) = free_ports(1)
    store, target = place.directory / "data", place.directory / "backup"
    place.twistd(f"sos-blob --port {port} --store data", port)
    url = f"http://127.0.0.1:{port}"
    stop, stored = Event(), []

    def upload():
        number = 0
        while not stop.is_set():
            body = body_of((90_000 if number % 3 == 0 else 200) + number, number)
            fetch(f"{url}/blob/{content_id(body)}", body)
            stored.append(body)
            number += 1

    thread = Thread(target=upload)
    thread.start()
    try:
        for _ in range(3):
            seen = len(stored)
            assert wait_until(lambda seen=seen: len(stored) > seen + 30)
            before = list(stored)
            done = place.sos("backup --store data --to backup")
            assert (done.returncode, done.stderr) == (0, b"")
            assert check(target).findings == []
            found = await bodies_of(target, reactor)
            assert found.items() >= {content_id(body): body for body in before}.items()
    finally:
        stop.set()
        thread.join()
    place.stop()
    assert check(store).findings == []
