"""Files with secrets, read again when they have changed."""

from __future__ import annotations

import errno
import os
import time

import pytest
from twisted.logger import capturedLogs, formatEvent

from sos.errors import ConfigError
from sos.files.watched import GONE_SECONDS, WatchedFile, read, read_all_again


def number(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError("it is no number")
    return int(text)


class File:
    """A watched file, and a clock to turn."""

    def __init__(self, path, without=None):
        self.path = path
        self.now = 0.0
        self.parsed = 0
        self.write("1")
        self.watched = WatchedFile(str(path), self._parse, lambda: self.now, without)

    def _parse(self, text):
        self.parsed += 1
        return number(text)

    def write(self, text, mode=0o600):
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.chmod(mode)
        new.replace(self.path)

    def after(self, seconds):
        self.now += seconds
        return self.watched()


@pytest.fixture
def file(tmp_path):
    return File(tmp_path / "file")


def test_a_change_is_seen_within_a_second_and_not_before(file):
    """The file is looked at once a second, and read only when it is another."""
    file.write("2")
    assert file.after(0.9) == 1
    assert file.after(0.1) == 2
    assert file.after(5) == 2
    assert file.parsed == 2


@pytest.mark.parametrize("trouble", ["malformed", "empty", "open", "gone", "binary", "long"])
def test_a_file_that_has_become_unusable_changes_nothing(file, trouble):
    """What it said holds; the log tells why, once; and it is read when it is well again."""
    if trouble == "open":
        file.write("2", mode=0o644)
    elif trouble == "gone":
        file.path.unlink()
    elif trouble == "binary":
        file.path.write_bytes(b"\xff")
    else:
        file.write({"malformed": "x", "empty": "", "long": " " * 1024 * 1024 + "2"}[trouble])
    with capturedLogs() as logged:
        assert file.after(1) == 1
        assert file.after(1) == 1
    (line,) = map(formatEvent, logged)
    assert str(file.path) in line
    assert "keeping its old content" in line
    assert file.watched.trouble() == line
    file.write("3")
    assert file.after(1) == 3
    assert file.watched.trouble() is None


@pytest.fixture
def revocable(tmp_path):
    """A file whose absence means 0."""
    return File(tmp_path / "file", without=0)


def test_a_file_that_is_gone_holds_no_more_where_that_is_meant(revocable):
    """After some seconds, of which the log and the status tell; and again once it is back."""
    revocable.path.unlink()
    with capturedLogs() as logged:
        assert [revocable.after(1) for _ in range(5)] == [1] * 5
        assert revocable.watched.trouble() is None
        assert not logged
        assert [revocable.after(1) for _ in range(3)] == [0] * 3
    (line,) = map(formatEvent, logged)
    assert line == f"{revocable.path} no longer exists: all of its entries are revoked"
    assert revocable.watched.trouble() == line
    revocable.write("3")
    assert revocable.after(1) == 3
    assert revocable.watched.trouble() is None


@pytest.mark.parametrize("aside", ["removed", "moved away"])
def test_a_file_that_an_editor_replaces_holds_all_the_time(revocable, aside):
    """However often, and though it is away for a moment each time."""
    for n in range(2, 9):
        if aside == "removed":
            revocable.path.unlink()
        else:
            revocable.path.rename(revocable.path.with_suffix(".old"))
        assert revocable.after(2) == n - 1
        assert revocable.after(2) == n - 1
        revocable.write(str(n))
        assert revocable.after(1) in (n - 1, n)  # it can be taken for one that is being written
        assert revocable.after(1) == n
    revocable.path.rename(revocable.path.with_suffix(".old"))
    revocable.after(2)
    revocable.path.with_suffix(".old").rename(revocable.path)
    assert [revocable.after(2) for _ in range(4)] == [8] * 4


def test_a_file_that_was_gone_before_anybody_looked_is_gone_at_once(revocable):
    """Who comes seldom is not let in once more each time."""
    revocable.path.unlink()
    ago = time.time() - GONE_SECONDS - 1
    os.utime(revocable.path.parent, (ago, ago))
    assert revocable.after(3600) == 0


def test_a_file_comes_back_broken(revocable):
    """What is no file any more is not believed again because of that."""
    revocable.path.unlink()
    for _ in range(7):
        revocable.after(1)
    revocable.write("x")
    assert revocable.after(1) == 0
    assert "keeping its old content" in revocable.watched.trouble()


def test_a_file_that_cannot_be_reached_is_not_gone(revocable, monkeypatch):
    """Rights, or a disk that fails: that says nothing of the file."""
    stat = os.stat

    def failing(path, **more):
        if path == str(revocable.path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", failing)
    revocable.path.write_text("x")
    assert [revocable.after(2) for _ in range(6)] == [1] * 6
    assert "keeping its old content" in revocable.watched.trouble()


@pytest.mark.parametrize("half", ["", "2"])
def test_a_file_that_is_being_written_is_not_read_yet(file, half):
    """In its place, or empty at first: what it says by then can be all, or be half of it."""
    if half:
        file.path.write_text(half)
    else:
        file.write("")
    with capturedLogs() as logged:
        assert file.after(1) == 1
        file.path.write_text("23")
        assert file.after(1) == 1
        assert file.after(1) == 23
    assert [each["log_level"].name for each in logged] == ["info"]


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o620, 0o666])
def test_a_file_that_is_open_to_others_is_refused(tmp_path, mode):
    """It says what to do."""
    path = tmp_path / "file"
    path.write_text("1")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:o}.*chmod 600 {path}"):
        read(str(path), number)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_of_ones_own_or_of_ones_group_is_read(tmp_path, mode):
    """The group may read, so that a daemon need not own what it must not change."""
    path = tmp_path / "file"
    path.write_text("1")
    path.chmod(mode)
    assert read(str(path), number) == 1


def test_what_is_no_file_is_refused_at_once(tmp_path):
    """A directory, a pipe that nobody writes to, nothing."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "directory").mkdir(0o700)
    for name, message in (
        ("pipe", "not a regular file"),
        ("directory", "it is a directory"),
        ("no", "No such file"),
    ):
        with pytest.raises(ConfigError, match=f"{name}: .*{message}"):
            read(str(tmp_path / name), number)


def test_whoever_asks_has_a_file_read_at_once(file):
    """At SIGHUP: within the second, and also one that was changed in place."""
    file.path.write_text("2")
    file.watched.read_again()
    assert file.after(0) == 2


def test_whoever_asks_for_a_file_that_is_wrong_learns_of_it(file):
    """Each time; the value before stays, and afterwards a right one is taken."""
    file.write("wrong")
    for _ in range(2):
        with capturedLogs() as events:
            file.watched.read_again()
        assert "keeping its old content: " in formatEvent(events[-1])
        assert file.after(0) == 1
    file.write("3")
    file.watched.read_again()
    assert (file.after(0), file.watched.trouble()) == (3, None)


def test_a_file_that_is_gone_when_it_is_asked_for(tmp_path):
    """It ceases to hold as late as ever, and not later."""
    file = File(tmp_path / "file", without=0)
    file.path.unlink()
    file.watched.read_again()
    assert file.after(GONE_SECONDS - 1) == 1
    assert file.after(GONE_SECONDS) == 0


def test_all_that_are_watched_are_read(tmp_path):
    """Whoever watches them; those that nobody has any more are forgotten."""
    files = [File(tmp_path / name) for name in ("one", "other")]
    for each in files:
        each.write("2")
    read_all_again()
    assert [each.after(0) for each in files] == [2, 2]
