"""The manual pages, and the help that they are made of."""

from __future__ import annotations

import re
import shutil
import subprocess

import click
import pytest

from sos.cli import main
from sos.cli.manual import pages, write
from sos.model import config
from sos.tap import api, blob
from tests.support.processes import ROOT

MAN = ROOT / "etc" / "man"
COMMANDS = sorted(main.commands)


def test_they_are_up_to_date(tmp_path):
    """If not: python -m sos.cli.manual etc/man"""
    write(tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {path.name: path.read_text() for path in MAN.iterdir()} == made


def test_there_is_one_for_everything():
    """The commands, the daemons and the file of the configuration."""
    commands = {f"sos-{name}.1" for name in COMMANDS}
    assert set(pages()) == commands | {"sos.1", "sos.conf.5", "sos-blob.8", "sos-api.8"}


def test_what_is_no_more_is_removed(tmp_path):
    """A page of a command that has gone, and nothing else."""
    for name in ("sos-gone.1", "README"):
        (tmp_path / name).write_text("old")
    write(tmp_path)
    assert not (tmp_path / "sos-gone.1").exists()
    assert (tmp_path / "README").exists()


@pytest.mark.system
@pytest.mark.parametrize("name", sorted(path.name for path in MAN.iterdir()))
def test_groff_has_nothing_to_complain_of(name):
    """No macro is unknown, no character cannot be set."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed: apt-get install groff-base")
    command = ["groff", "-man", "-ww", "-z", "-Tutf8", str(MAN / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command(name):
    """It shows an example of itself, and says when it ends with which status."""
    command = main.commands[name]
    text = command.get_help(click.Context(command, info_name=name))
    assert re.search(rf"Examples?\b.*\bsos {name}\b", text, re.DOTALL)
    assert re.search(r"Ends\s+with\s+status\s+[01]\b", text)
    assert max(map(len, text.splitlines())) <= 80
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help
    page = pages()[f"sos-{name}.1"]
    assert ".SH EXAMPLES" in page
    assert ".SH EXIT STATUS" in page


@pytest.mark.parametrize("module", [blob, api])
def test_the_page_of_a_daemon_has_all_its_options(module):
    """As its --help has."""
    options = module.Options()
    page = pages()[f"{options.program}.8"].replace("\\-", "-")
    for name in options.docs:
        assert f"--{name.replace('_', '-')}" in page
    assert max(map(len, options.getUsage(80).splitlines())) <= 100


def test_the_page_of_the_configuration_has_all_settings():
    """And the words behind a server."""
    page = pages()["sos.conf.5"].replace("\\-", "-")
    for word in (*config.SETTINGS, "readonly", "preferred", "weight=NUMBER"):
        assert word in page
