"""Names of files as they are printed."""

from __future__ import annotations

import os
import subprocess
from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.cli.names import list_line, listed_id, printable
from sos.errors import InvalidId

ODD = [
    b"new\nline",
    b"return\r",
    b"back\\slash\\n",
    b"\xff\xfe",
    b"\x1b[31mred",
    b"[red]",
    b" caf\xc3\xa9 ",
]


@pytest.mark.parametrize("name", [*ODD, b"plain.txt"])
def test_sha1sum_can_check_what_is_printed(name, tmp_path):
    """It finds each file by its line, and nothing else."""
    (tmp_path / os.fsdecode(name)).write_bytes(b"abc")
    line = list_line(sha1(b"abc").hexdigest(), os.fsdecode(name))
    done = subprocess.run(
        ["sha1sum", "--check", "--strict"], input=line, cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert line.count(b"\n") == 1


def test_an_ordinary_line():
    """The id, two spaces, the name."""
    assert list_line("abc", "a b/\u00e9.txt") == "abc  a b/\u00e9.txt\n".encode()


@pytest.mark.parametrize("name", [*ODD, b"plain.txt"])
def test_the_id_is_read_back(name):
    """Whatever the file is called."""
    id = sha1(b"abc").hexdigest()
    line = list_line(id, os.fsdecode(name)).decode("utf-8", "replace")
    assert listed_id(line) == id


@pytest.mark.parametrize(
    ("line", "id"), [("abc\n", "abc"), ("  abc.jpg\r\n", "abc"), ("", None), (" \r\n", None)]
)
def test_an_id_alone(line, id):
    """With an extension or without; a blank line has none."""
    assert listed_id(line) == id


@pytest.mark.parametrize("line", ["ABC  name", ".jpg", "a/b", "\\\\abc  x", "\ufffd"])
def test_what_is_no_id_is_an_error(line):
    """It names what was found in its place."""
    with pytest.raises(InvalidId):
        listed_id(line)


@given(st.binary())
def test_what_is_shown_does_nothing_to_a_terminal(name):
    """Every character of it is one to be seen."""
    assert printable(os.fsdecode(name)).isprintable()


def test_what_is_shown_is_the_name_with_escapes():
    """So that it can be recognised."""
    shown = [printable(os.fsdecode(name)) for name in ODD]
    assert shown == [
        r"new\nline",
        r"return\r",
        r"back\slash\n",
        r"\xff\xfe",
        r"\x1b[31mred",
        "[red]",
        " caf\u00e9 ",
    ]
