"""The manual pages in ``etc/man``, and the help that they are made of.

Sphinx makes them of ``docs/reference/manual``; CONTRIBUTING.rst says how to do that again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from inspect import cleandoc

import click
import pytest

from sos.cli import main
from sos.model.settings import SETTINGS
from sos.tap import api, blob
from tests.support.processes import ROOT

MAN = ROOT / "etc" / "man"
COMMANDS = sorted(main.commands)
_ESCAPES = {r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\(ga": "`", r"\e": "\\"}


def shown(name: str) -> str:
    """Return the text of the page *name* as a reader sees it, between single blanks."""
    text = re.sub(r"\\f[BIP]|\\[&%:]", "", (MAN / name).read_text())
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return " ".join(text.split())


def commands(command: click.Command) -> Iterator[click.Command]:
    """Yield *command*, and the commands below it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from commands(each)


def test_there_is_one_for_everything():
    """The commands, the daemons and the file of the configuration; and none of what has gone."""
    expected = {f"sos-{name}.1" for name in COMMANDS}
    expected |= {"sos.1", "sos.conf.5", "sos-blob.8", "sos-api.8"}
    assert {path.name for path in MAN.iterdir()} == expected


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


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_has_all_of_its_help(name):
    """Every sentence, example and option, those of the commands below it included."""
    page = shown(f"sos-{name}.1")
    assert ".SH EXIT STATUS" in page
    examples = page.partition(".SH EXAMPLES")[2]
    for line in re.findall(
        r"^ {4,}(\S.*)$", cleandoc(main.commands[name].help or ""), re.MULTILINE
    ):
        assert line in examples
    for command in commands(main.commands[name]):
        prose = re.sub(r"\bExamples?\b[^:]*:\s*\n\n.*", "", command.help, flags=re.DOTALL)
        for sentence in re.split(r"(?<=[.;])\s+", prose):
            assert " ".join(sentence.split()) in page
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert " ".join((parameter.help or "").split()) in page
                assert all(each in page for each in parameter.opts)


def test_the_page_of_the_program_has_all_commands():
    """Each with the first sentence of its help."""
    page = shown("sos.1")
    for name in COMMANDS:
        summary = cleandoc(main.commands[name].help or "").split("\n\n")[0]
        assert f"sos-{name}(1) {' '.join(summary.split())}" in page


@pytest.mark.parametrize("module", [blob, api])
def test_the_page_of_a_daemon_has_all_its_options(module):
    """As its --help has."""
    options = module.Options()
    page = shown(f"{options.program}.8")
    for name, text in options.docs.items():
        assert f"--{name.replace('_', '-')}" in page
        assert " ".join(text.split()) in page
    assert max(map(len, options.getUsage(80).splitlines())) <= 100


def test_the_page_of_the_configuration_has_all_settings():
    """What they mean, too; and the words behind a server."""
    page = shown("sos.conf.5")
    for word in ("readonly", "preferred", "weight=NUMBER", "name=NAME"):
        assert f".B {word} " in page
    for name, setting in SETTINGS.items():
        assert f".B {name} {setting.text}" in page
