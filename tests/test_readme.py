"""What the documentation promises to be there: files, options, commands."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from benchmarks.peers import peers as benchmarks
from sos.cli import main
from sos.tap import api, blob

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst")))
TEXT = "\n".join(path.read_text() for path in DOCUMENTS)

#: Options of other programs that are shown: curl's, pip's, twistd's, pytest's, and more.
OTHERS = {
    "check",
    "chroot",
    "data-binary",
    "gid",
    "help",
    "logfile",
    "logger",
    "long",
    "now",
    "pidfile",
    "plot",
    "syslog",
    "system",
    "uid",
    "umask",
}
#: What a chroot can need.
ELSEWHERE = {"etc/hosts", "etc/resolv.conf", "etc/ssl/certs"}


def options_of(command: click.Command) -> set[str]:
    """Return the long options of *command* and of those that it has."""
    found = {
        option.removeprefix("--")
        for each in command.params
        for option in (*each.opts, *each.secondary_opts)
    }
    for each in getattr(command, "commands", {}).values():
        found |= options_of(each)
    return found


def known_options() -> set[str]:
    found = options_of(main) | options_of(benchmarks) | OTHERS
    for module in (api, blob):
        long = module.Options().longOpt
        found |= {name.removesuffix("=").replace("_", "-") for name in long}
    return found


def test_every_option_that_it_names_is_one():
    """Of a daemon, a command, or of another program that is shown."""
    named = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", TEXT))
    assert named - known_options() == set()


def test_every_command_that_it_shows_is_one():
    """``sos WORD``, where that stands as code."""
    shown = set(re.findall(r"(?:``|^ {4}(?:\$ )?)sos ([a-z]+)", TEXT, re.MULTILINE))
    assert shown - set(main.commands) == set()
    assert len(shown) > 10


@pytest.mark.parametrize("folder", ["sos", "tests", "benchmarks", "etc", "docs"])
def test_every_file_that_it_names_is_there(folder):
    """In the repository."""
    named = set(re.findall(rf"(?<![\w/.])({folder}/[\w./-]*\w)", TEXT))
    assert {name for name in named - ELSEWHERE if not (ROOT / name).exists()} == set()


def test_every_address_is_of_an_example_or_well_known():
    """There is no link that could come to nothing, but for these."""
    hosts = set(re.findall(r"https?://([a-z][\w.-]*)", TEXT))
    strangers = {
        host
        for host in hosts
        if "." in host and not host.endswith((".example", "example.org", "twisted.org", "tus.io"))
    }
    assert strangers == set()
