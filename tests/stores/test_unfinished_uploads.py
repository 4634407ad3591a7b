"""The directory of unfinished uploads: what crashes leave of it, and what is deleted in it."""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sos.errors import Locked, NotFound, Unavailable
from sos.interfaces import Upload
from sos.model.metadata import EMPTY
from sos.stores import unfinished_uploads
from sos.stores.unfinished_uploads import UnfinishedUploads

DAY = 86_400.0
BODY = bytes(range(1, 200))  # 199 of them


def uploads_in(directory, now=lambda: 0.0):
    found = UnfinishedUploads(directory, 10_000, DAY, now)
    found.prepare()
    return found


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "unfinished"


@pytest.fixture
def uploads(directory):
    return uploads_in(directory)


def begin(uploads, length=199):
    return uploads.create(Upload(length, EMPTY, ""))


def keep(uploads, token):
    with closing(uploads.open(token)) as opened:
        opened.keep(1)


def test_a_crash_anywhere(directory, uploads, tmp_path, monkeypatch):
    """Before and after each change of the disk: what was acknowledged is there.

    It is that of a power cut: of each file there is what was there when it was synchronized.
    """
    crashed = []
    acknowledged = 0
    token = None
    durable = {}

    def photograph():
        copy = tmp_path / f"crash{len(crashed)}"
        shutil.copytree(directory, copy)
        for path in directory.rglob("*.*"):
            status = path.stat()
            lost = bytes(status.st_size)
            (copy / path.relative_to(directory)).write_bytes(durable.get(status.st_ino, lost))
        crashed.append((copy, token, acknowledged))

    def photographed(change):
        def call(*arguments):
            photograph()
            change(*arguments)
            if change.__name__ == "fsync" and stat.S_ISREG(os.fstat(arguments[0]).st_mode):
                data = Path(f"/proc/self/fd/{arguments[0]}").read_bytes()
                durable[os.fstat(arguments[0]).st_ino] = data
            photograph()

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "replace", "ftruncate"):
            patch.setattr(os, name, photographed(getattr(os, name)))
        opened = begin(uploads)
        token = opened.token
        for stop in (50, 120, len(BODY)):
            opened.write(BODY[acknowledged:stop], acknowledged)
            opened.keep(stop)
            acknowledged = stop
        opened.stored("abc")
        opened.close()
    assert len(crashed) > 20
    for copy, token, least in crashed:
        again = uploads_in(copy)
        if token is None:
            continue
        opened = again.open(token)
        if isinstance(opened, Upload):
            assert opened.id == "abc"
            continue
        offset = opened.upload.offset
        assert offset >= least
        opened.write(BODY[offset:], offset)
        opened.keep(len(BODY))
        assert opened.read(0) == BODY
        opened.close()


def test_one_at_a_time(directory, uploads):
    """Whoever comes second is told, in whatever process, and the first one that it is wanted."""
    opened = begin(uploads)
    other = uploads_in(directory)
    assert not opened.is_wanted()
    with pytest.raises(Locked):
        other.open(opened.token)
    assert opened.is_wanted()
    opened.close()
    again = other.open(opened.token)
    assert not again.is_wanted()
    again.close()


def test_fsync_is_not_believed_after_it_has_failed(uploads, monkeypatch):
    """The pages that it was for can be gone, and the next one says nothing of them."""
    opened = begin(uploads)
    opened.write(b"abc", 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fails)
        with pytest.raises(Unavailable) as failure:
            opened.keep(3)
    assert "/somewhere" not in str(failure.value)
    with pytest.raises(Unavailable):
        opened.keep(3)
    opened.close()
    assert uploads.open(opened.token).upload.offset == 0


def _fails(*arguments):
    raise OSError(5, "Input/output error", "/somewhere/of/the/token")


def test_what_has_expired_is_removed_and_nothing_else(directory):
    """Not what somebody works on, no foreign names, no links, and no directories."""
    now = 0.0
    uploads = uploads_in(directory, lambda: now)
    left, held, fresh, stored = (begin(uploads) for _ in range(4))
    stored.stored("abc")
    for each in (left, fresh, stored):
        each.close()
    orphan, link, folder, pipe = ("A" * 32, "B" * 32, "C" * 32, "D" * 32)
    (directory / f"{orphan}.wanted").touch()
    elsewhere = directory.parent / "elsewhere"
    elsewhere.write_bytes(b"precious")
    (directory / f"{link}.part").symlink_to(elsewhere)
    (directory / f"{folder}.json").mkdir()
    os.mkfifo(directory / f"{pipe}.part")
    for token in (pipe, link):
        (directory / f"{token}.json").touch()
    for name in ("notes.json", "A.part", "A" * 32, "A" * 32 + ".part~", "A" * 32 + ".part\n"):
        (directory / name).touch()
    now = max(os.lstat(directory / name).st_mtime for name in os.listdir(directory)) + DAY + 1
    os.utime(directory / f"{fresh.token}.json", (now, now))
    before = set(os.listdir(directory))
    assert uploads.sweep() == 2  # one, and what a crash has left of another
    gone = {f"{left.token}.part", f"{left.token}.json", f"{orphan}.wanted"}
    assert before - set(os.listdir(directory)) == gone
    assert elsewhere.read_bytes() == b"precious"
    assert os.listdir(directory / "stored") == []
    held.close()
    for token in (held.token, link, folder, pipe, stored.token):
        with pytest.raises((NotFound, Unavailable)):
            uploads.open(token)
    assert uploads.sweep() == 1
    uploads.open(fresh.token).close()


def test_a_link_in_the_place_of_a_file_is_not_followed(directory, uploads):
    """Who can write to the directory cannot have another file read or written."""
    opened = begin(uploads)
    opened.close()
    precious = directory.parent / "precious"
    precious.write_bytes(b"precious")
    for kind in ("part", "json", "new"):
        path = directory / f"{opened.token}.{kind}"
        kept = path.read_bytes() if path.exists() else None
        path.unlink(missing_ok=True)
        path.symlink_to(precious)
        with pytest.raises(Unavailable):
            keep(uploads, opened.token)
        path.unlink()
        if kept is not None:
            path.write_bytes(kept)
    assert precious.read_bytes() == b"precious"
    keep(uploads, opened.token)


def test_so_many_and_no_more(uploads, monkeypatch):
    """However small they are."""
    monkeypatch.setattr(unfinished_uploads, "MOST_UPLOADS", 2)
    begin(uploads, 1).close()
    begin(uploads, 1).close()
    with pytest.raises(Unavailable):
        begin(uploads, 1)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
_FIELDS = ("length", "offset", "metadata", "told", "id")


@given(
    st.binary(max_size=20)
    | _JSON.map(lambda found: json.dumps(found).encode())
    | st.fixed_dictionaries({}, optional=dict.fromkeys(_FIELDS, _JSON)).map(
        lambda found: json.dumps(found).encode()
    )
)
@example(b'{"length": 1, "offset": 2, "metadata": {}, "told": "", "id": null}')
def test_any_record_is_read_or_refused(tmp_path_factory, data):
    """One that is damaged says so."""
    directory = tmp_path_factory.mktemp("any")
    uploads = uploads_in(directory)
    opened = begin(uploads)
    opened.close()
    (directory / f"{opened.token}.json").write_bytes(data)
    try:
        found = uploads.open(opened.token).upload
    except Unavailable:
        return
    assert 0 <= found.acknowledged <= found.offset <= found.length
