"""``sos import`` of a directory that somebody has filled to do harm."""

from __future__ import annotations

import os
import socket

import pytest

from tests.support.blobs import content_id

BODY = b"a body like any other"
SECRET = b"what nobody was to read"
ID = content_id(BODY)


@pytest.fixture
def old(place):
    """A directory with one blob, beside a file that is not to be read."""
    (place.directory / "secret").write_bytes(SECRET)
    old = place.directory / "old"
    old.mkdir()
    (old / ID).write_bytes(BODY)
    return old


def imported(place, taken=1):
    """Import it, and return the lines about what is not taken."""
    done = place.sos("import old --store new")
    lines = done.stderr.decode().splitlines()
    assert done.returncode == (1 if lines else 0)
    assert done.stdout == (
        f"{taken} blobs imported, 0 already stored, {len(lines)} failed\n".encode()
    )
    return lines


def test_links_pipes_and_sockets_are_not_taken(place, old, monkeypatch):
    """What a link leads to was never meant; nobody writes to a pipe."""
    (old / content_id(SECRET)).symlink_to("../secret")
    (old / ("a" * 40)).symlink_to("a" * 40)
    (old / "zero").symlink_to("/dev/zero")
    os.mkfifo(old / "pipe")
    (old / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as server, monkeypatch.context() as there:
        there.chdir(old)  # the name of a socket is short
        server.bind("socket")
    lines = imported(place)
    messages = dict(line.removeprefix("old/").split(": ") for line in lines)
    kinds = {name: text.partition(",")[0] for name, text in messages.items()}
    assert kinds == {
        content_id(SECRET): "it is a symbolic link",
        "a" * 40: "it is a symbolic link",
        "zero": "it is a symbolic link",
        "pipe": "it is a pipe",
        "directory": "it is a directory",
        "socket": "it is a socket",
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "it is a pipe, not a regular file"),
        (lambda path: path.symlink_to("../secret"), "it is a symbolic link, not a regular file"),
        (lambda path: path.write_text("[" * 50_000), "not JSON: maximum recursion depth exceeded"),
        (lambda path: path.write_text('{"X-A": "' + "x" * 70_000 + '"}'), "longer than 65536"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda path: path.mkdir(), "it is a directory, not a regular file"),
    ],
    ids=["pipe", "link", "deep", "long", "junk", "directory"],
)
def test_metadata_that_are_none(place, old, make, message):
    """Then the blob is not taken: it would be another without them."""
    make(old / f"{ID}.json")
    (line,) = imported(place, taken=0)
    assert f"{ID}.json: " in line
    assert message in line


def test_names_that_are_none_are_a_line_each(place, old):
    """Whatever is in them, it cannot steer a terminal, nor look like another line."""
    for name in (b"\xff\nError: all is lost", b"\x1b[31m", b"..a", b"z" * 200, b"-", b" "):
        (old / os.fsdecode(name)).write_bytes(b"")
    lines = imported(place)
    assert len(lines) == 6
    assert all(line.endswith("the name of the file is not an id") for line in lines)
    assert "old/\\xff\\nError: all is lost: the name of the file is not an id" in lines
