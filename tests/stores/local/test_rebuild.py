"""A new index is made of what is left of a store."""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha1
from random import Random

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred

from sos.errors import StoreUnusable
from sos.stores.local import LocalStore
from sos.stores.local.check import check
from sos.stores.local.rebuild import rebuild
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
    read_all,
    states,
)
from tests.stores.local.test_check import change, key, of_before
from tests.support.blobs import body_of, content, content_id, manifest_of, put
from tests.support.kills import killed_at

ID = content_id(LARGE[0])
IN_FILES = {NAME: NAMED} | {content_id(body): body for body in LARGE}


@async_yield_fixture
async def directory(tmp_path, reactor):
    """A store with everything, closed."""
    directory = tmp_path / "store"
    await fill(directory, reactor)
    yield directory


def identity_of(directory):
    return json.loads((directory / "store.json").read_text())["id"]


def rebuilt(directory):
    """Rebuild the store; then a check finds nothing, and no body is on the disk no more."""
    before = bodies_in(directory)
    report = rebuild(directory)
    assert check(directory).findings == []
    assert before <= bodies_in(directory)
    return report


def bodies_in(directory):
    """Return the hashes of all files that can be bodies, wherever they are."""
    return {
        sha1(path.read_bytes()).digest()
        for path in directory.rglob("*")
        if path.is_file() and path.stat().st_size > 50_000 and path.parent.name[:5] != "index"
    }


@ensureDeferred
async def test_a_sound_store_stays_what_it_is(directory, reactor):
    """All its blobs, its id, and the old index under another name."""
    id = identity_of(directory)
    report = rebuilt(directory)
    assert report.ok
    assert (report.kept, report.from_files) == (len(everything()), 0)
    assert report.bytes == sum(map(len, everything().values()))
    assert (directory / report.old_index / "data.mdb").exists()
    assert identity_of(directory) == id
    assert await read_all(directory, reactor) == everything()
    assert rebuilt(directory).ok


def remove(directory):
    shutil.rmtree(directory / "index")


def empty(directory):
    os.truncate(directory / "index/data.mdb", 0)


def junk(directory):
    (directory / "index/data.mdb").write_bytes(Random(1).randbytes(100_000))


@pytest.mark.parametrize("lose", [remove, empty, junk])
@ensureDeferred
async def test_bodies_in_files_need_no_index(directory, reactor, lose):
    """They come back with their names and metadata; and the store takes what it has lost."""
    id = identity_of(directory)
    lose(directory)
    report = rebuilt(directory)
    assert not report.ok
    assert len(report.faults) > 0
    assert (report.kept, report.from_files) == (0, len(IN_FILES))
    assert identity_of(directory) == id
    assert await read_all(directory, reactor) == IN_FILES
    await fill(directory, reactor)
    assert await read_all(directory, reactor) == everything()


@pytest.mark.parametrize("seed", range(10))
@ensureDeferred
async def test_nothing_is_lost_that_a_file_can_prove(directory, reactor, seed):
    """However the index is damaged; what is damaged itself is not served."""
    random = Random(seed)
    damage_index(directory, random)
    damaged = content_id(random.choice(LARGE))
    overwrite(body_path(directory, damaged), random.randrange(300_000), random.randbytes(50))
    rebuilt(directory)
    found = await read_all(directory, reactor)
    assert found.keys() >= IN_FILES.keys() - {damaged}
    assert found.items() <= everything().items()
    assert damaged not in found


@ensureDeferred
async def test_rows_of_a_damaged_page_alone_are_lost(directory, reactor):
    """Of a leaf with records; inline bodies without a record come to recovered/."""
    content = (directory / "index/data.mdb").read_bytes()
    for at in range(0, len(content), 4096):
        if sum(key(content_id(body)) in content[at : at + 4096] for body in SMALL) < 10:
            continue
        shutil.copytree(directory, directory := directory.with_name(f"at{at}"))
        overwrite(directory / "index/data.mdb", at, b"\xff" * 4096)
        if (report := rebuilt(directory)).faults:
            break  # else the page is of an earlier transaction
    found = await read_all(directory, reactor)
    assert len(everything()) - 60 < len(found)
    kept = {path.name: path.read_bytes() for path in (directory / "recovered").iterdir()}
    assert sorted(kept) == sorted(report.without_metadata)
    assert all(content_id(body) == id for id, body in kept.items())
    assert found.keys() | kept.keys() == everything().keys()
    assert not report.lost


@ensureDeferred
async def test_a_lost_blob_is_named(directory, reactor):
    """It is not in the index any more, so that replication brings it; its file is kept."""
    overwrite(body_path(directory, ID), 5, b"?????")
    body_path(directory, NAME).unlink()
    report = rebuilt(directory)
    assert {lost.of: lost.reason for lost in report.lost} == {
        ID: "the body does not match its hash",
        NAME: "its file is missing",
    }
    assert [each.of for each in report.quarantined] == [f"bodies/{ID[:2]}/{ID[2:4]}/{ID}"]
    assert (await read_all(directory, reactor)).keys() == everything().keys() - {ID, NAME}


@ensureDeferred
async def test_a_damaged_record_is_made_anew_of_its_file(directory, reactor):
    change(directory, b"records", lambda records: records.put(key(ID), b"x" * 60))
    report = rebuilt(directory)
    assert (report.lost, report.from_files) == ([], 1)
    assert await read_all(directory, reactor) == everything()


def test_a_body_that_the_disk_refuses_stays_known(directory, monkeypatch):
    """It is marked, and its file stays where it is, for the disk may give it again."""
    path = body_path(directory, ID)
    content = path.read_bytes()
    path.unlink()
    path.mkdir()  # reading it is an error that is not that it is missing
    report = rebuild(directory)
    assert [each.of for each in report.unreadable] == [ID]
    assert {each.of for each in check(directory).findings} == {ID}
    path.rmdir()
    path.write_bytes(content)
    assert rebuilt(directory).ok


@ensureDeferred
async def test_a_body_of_which_only_the_id_is_known(directory, reactor, place):
    """It does not go into the index: it would win over copies that have their metadata."""
    bare(body_path(directory, ID), len(LARGE[0]))
    bare(body_path(directory, NAME), len(NAMED))
    remove(directory)
    report = rebuilt(directory)
    assert report.without_metadata == [ID]
    assert (directory / "recovered" / ID).read_bytes() == LARGE[0]
    # Nothing tells whether the bytes are those of the name.
    assert NAME in report.quarantined[0].of
    assert (await read_all(directory, reactor)).keys() == IN_FILES.keys() - {ID, NAME}
    # Where there is no other copy:
    done = place.sos("import store/recovered --store store")
    assert done.stdout == b"1 blobs imported, 0 already stored, 0 failed\n"


@ensureDeferred
async def test_a_store_of_the_release_before(directory, reactor):
    """Its index tells all of its bodies; it has an id then."""
    of_before(directory)
    report = rebuilt(directory)
    assert (report.ok, report.kept) == (True, len(everything()))
    assert await read_all(directory, reactor) == everything()
    assert identity_of(directory)


@ensureDeferred
async def test_files_that_are_elsewhere(directory, reactor):
    """A body is known by what stands behind it, wherever it is, and gets its place again."""
    for number, id in enumerate(IN_FILES):
        body_path(directory, id).rename(directory / f"bodies/{number}")
    body_path(directory, ID).write_bytes(b"not it")
    (directory / "bodies/junk").write_bytes(b"junk")
    shutil.copy(directory / "bodies/1", directory / "bodies/copy")
    remove(directory)
    report = rebuilt(directory)
    assert report.from_files == len(IN_FILES)
    assert len(report.quarantined) == 3
    assert await read_all(directory, reactor) == IN_FILES


@ensureDeferred
async def test_an_index_of_another_store_proves_nothing(directory, tmp_path, reactor):
    """Nor is its id taken over."""
    id = identity_of(directory)
    await fill(tmp_path / "other", reactor, {content_id(b"other"): b"other"})
    shutil.copy(tmp_path / "other/index/data.mdb", directory / "index/data.mdb")
    os.truncate(directory / "lock", 0)
    report = rebuilt(directory)
    assert any("belongs to another store" in fault for fault in report.faults)
    assert identity_of(directory) == id
    assert await read_all(directory, reactor) == IN_FILES


@ensureDeferred
async def test_an_older_copy_of_the_index(directory, tmp_path, reactor):
    """What came later is found among the files, or told to be lost as a whole."""
    shutil.copy(directory / "index/data.mdb", tmp_path / "copy")
    later = body_of(200_000, 77)
    await fill(directory, reactor, {content_id(later): later, content_id(b"1"): b"1"})
    shutil.copy(tmp_path / "copy", directory / "index/data.mdb")
    report = rebuilt(directory)
    assert any("is an older copy" in fault for fault in report.faults)
    assert await read_all(directory, reactor) == everything() | {content_id(later): later}


@ensureDeferred
async def test_the_object_that_took_the_place_of_its_manifest(tmp_path, reactor):
    """By an index from before, the file is that of the manifest; what stands behind it is right."""
    whole = body_of(150_000)
    id, manifest, metadata = manifest_of(whole, 100)
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    await put(store, manifest, id, metadata)
    await store.close()
    shutil.copy(tmp_path / "store/index/data.mdb", tmp_path / "copy")
    store.open()
    await put(store, whole, id)
    await store.close()
    shutil.copy(tmp_path / "copy", tmp_path / "store/index/data.mdb")
    rebuilt(tmp_path / "store")
    store.open()
    assert await content(await store.read(id)) == whole
    await store.close()


@pytest.mark.parametrize("text", [None, "", "x", "{}", "[]"])
@ensureDeferred
async def test_a_lost_marker_is_written_by_what_the_index_tells(directory, reactor, text):
    """With another index as well the store has an id."""
    id = identity_of(directory)
    (directory / "store.json").unlink()
    if text is not None:
        (directory / "store.json").write_text(text)
    assert rebuilt(directory).ok
    assert identity_of(directory) == id
    (directory / "store.json").unlink()
    remove(directory)
    rebuilt(directory)
    assert identity_of(directory) != id
    assert await read_all(directory, reactor) == IN_FILES


def refusal(directory):
    """Return why a directory is not rebuilt; it stays as it was."""
    before = states(directory)
    with pytest.raises(StoreUnusable) as caught:
        rebuild(directory)
    assert states(directory) == before
    return str(caught.value)


def test_what_is_refused(directory, tmp_path, reactor):
    """A store that is open, of a later format, or none."""
    store = LocalStore(directory, reactor)
    store.open()
    assert "in use" in refusal(directory)
    store._committer.give_up("test")
    (tmp_path / "empty").mkdir()
    assert "is not a store" in refusal(tmp_path / "empty")


def test_a_later_format_is_refused(directory):
    (directory / "store.json").write_text('{"format": "sos-local-store", "version": 2}')
    assert "has an unknown store format" in refusal(directory)


@pytest.mark.parametrize("lose", [remove, lambda directory: None])
@ensureDeferred
async def test_that_is_killed_goes_on(tmp_path, reactor, lose, long):
    """At each step: the store is as it was, or is refused, and the next rebuild is as good."""
    original = tmp_path / "original"
    bodies = {content_id(body): body for body in (b"inline", LARGE[0], LARGE[1])}
    await fill(original, reactor, bodies)
    overwrite(body_path(original, content_id(LARGE[1])), 0, b"?")
    bare(body_path(original, content_id(LARGE[0])), len(LARGE[0]))
    lose(original)
    shutil.copytree(original, tmp_path / "whole")
    rebuild(tmp_path / "whole")
    expected = await read_all_but_metadata(tmp_path / "whole", reactor)
    step = 0
    while True:
        directory = tmp_path / f"step{step}"
        shutil.copytree(original, directory)
        if not killed_at(step, lambda directory=directory: rebuild(directory)):
            break
        shutil.copytree(directory, tmp_path / "opened")
        found = await read_all_but_metadata(tmp_path / "opened", reactor)
        assert found is None or found.items() >= expected.items()
        shutil.rmtree(tmp_path / "opened")
        rebuilt(directory)
        assert await read_all_but_metadata(directory, reactor) == expected
        step += 1 if long else 4  # each is as one of its neighbours, mostly
    assert step > 10


async def read_all_but_metadata(directory, reactor):
    """Return all that can be read by id, None where there is no store to open."""
    store = LocalStore(directory, reactor, require=True)
    try:
        store.open()
    except StoreUnusable:
        return None
    found = {}
    for id in await store.listing():
        try:
            found[id] = await content(await store.read(id))
        except Exception:
            continue
    await store.close()
    return found
