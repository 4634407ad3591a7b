"""Regular files, and all that can be in the place of one."""

from __future__ import annotations

import os
import socket

import pytest

from sos.files.regular import NotRegular, below, check_regular, open_regular, read_regular

KINDS = {
    "link": "a symbolic link",
    "dangling": "a symbolic link",
    "loop": "a symbolic link",
    "directory": "a directory",
    "pipe": "a pipe",
    "socket": "a socket",
    "device": "a symbolic link",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with one of each."""
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "directory").mkdir()
    for name, target in (
        ("link", "file"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("device", "/dev/zero"),
        ("null", "/dev/null"),
        ("piped", "pipe"),
    ):
        (tmp_path / name).symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        yield tmp_path


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC])
@pytest.mark.parametrize("name", KINDS)
def test_nothing_else_is_opened(place, name, flags):
    """The error says what it is; nobody is waited for, and nothing is changed."""
    with pytest.raises(NotRegular) as raised:
        open_regular(place / name, flags)
    assert str(raised.value) == f"it is {KINDS[name]}, not a regular file"
    assert raised.value.filename == str(place / name)
    assert (place / "file").read_bytes() == b"abc"
    assert not (place / "nowhere").exists()
    with pytest.raises(NotRegular):
        check_regular(place / name)


def test_what_is_not_there_is_not_something_else(place):
    """It is an error to open it, and none to look at it."""
    with pytest.raises(FileNotFoundError):
        open_regular(place / "no")
    check_regular(place / "no")


def test_a_file_is_read_and_written(place):
    """As much as it may have, and in its place."""
    assert read_regular(place / "file", 3) == b"abc"
    with pytest.raises(OSError, match="longer than 2 bytes"):
        read_regular(place / "file", 2)
    with open_regular(place / "file", os.O_RDWR) as file:
        file.write(b"x")
    assert (place / "file").read_bytes() == b"xbc"
    with open_regular(place / "new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
        file.write(b"new")
    assert (place / "new").read_bytes() == b"new"


def test_what_somebody_names_can_be_a_link(place):
    """And nothing at all; not a pipe, a device or a directory, wherever the link leads."""
    assert read_regular(place / "link", named=True) == b"abc"
    assert read_regular(place / "null", named=True) == b""
    for name in ("piped", "device", "directory", "socket"):
        with pytest.raises(NotRegular):
            read_regular(place / name, named=True)


def test_all_that_is_below(place):
    """In order, whatever it is; links are told, and not followed."""
    (place / "directory/deeper").mkdir()
    (place / "directory/deeper/file").write_bytes(b"")
    (place / "elsewhere").symlink_to("directory")
    names = [entry.path[len(str(place)) + 1 :] for entry in below(place, pytest.fail)]
    assert names == [
        *sorted(["dangling", "device", "elsewhere", "file", "link", "loop", "null", "pipe"])[:7],
        *("pipe", "piped", "socket", "directory/deeper/file"),
    ]
    errors = []
    assert list(below(place / "no", errors.append)) == []
    assert [error.filename for error in errors] == [str(place / "no")]
