"""Files with secrets, read again when they have changed."""

from __future__ import annotations

import os

import pytest
from twisted.logger import capturedLogs, formatEvent

from sos.errors import ConfigError
from sos.watched_file import WatchedFile, read


def number(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError("it is no number")
    return int(text)


class File:
    """A watched file, and a clock to turn."""

    def __init__(self, path):
        self.path = path
        self.now = 0.0
        self.parsed = 0
        self.write("1")
        self.watched = WatchedFile(str(path), self._parse, lambda: self.now)

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
    assert "what it said before holds" in line
    file.write("3")
    assert file.after(1) == 3


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
    for name, told in (
        ("pipe", "regular file"),
        ("directory", "it is a directory"),
        ("no", "No such file"),
    ):
        with pytest.raises(ConfigError, match=f"{name} .*{told}"):
            read(str(tmp_path / name), number)
