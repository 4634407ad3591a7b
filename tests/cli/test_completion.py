"""Completion in a shell."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from sos.cli import main
from sos.cli.completion import SHELLS
from tests.support.processes import SOS


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_reads_what_is_printed(place, shell):
    """Without a word, and it is about sos."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    done = place.sos(f"completion {shell}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"_SOS_COMPLETE" in done.stdout
    read = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True)
    assert (read.returncode, read.stdout, read.stderr) == (0, b"", b"")


def test_the_commands_are_completed(place):
    """As bash asks for them."""
    place.environment.update(_SOS_COMPLETE="bash_complete", COMP_WORDS="sos ", COMP_CWORD="1")
    program = "from sos.cli import main; main(prog_name='sos')"
    done = place.run([sys.executable, "-c", program], "")
    found = [line.partition(b",")[2].decode() for line in done.stdout.splitlines()]
    assert sorted(found) == sorted(main.commands)


@pytest.mark.parametrize(
    "words", ["sos put ", "sos get abc -o ", "sos status --config ", "sos rm --from-file "]
)
def test_names_of_files_are_completed(place, words):
    """By the shell itself."""
    place.environment.update(
        _SOS_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
    )
    program = "from sos.cli import main; main(prog_name='sos')"
    assert place.run([sys.executable, "-c", program], "").stdout == b"file,\n"


def test_a_shell_that_there_is_none_for(place):
    """One line that says which there are."""
    done = place.run(SOS, "completion csh")
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert all(shell in line for shell in SHELLS)


@pytest.mark.parametrize(
    ("daemon", "completed"), [("sos-blob", "--store"), ("sos-api", "--hash=[Hash for the ids")]
)
def test_zsh_completes_the_options_of_the_daemons(place, daemon, completed):
    """Twisted's own way, with what we tell it of them."""
    place.forked = False
    done = place.run_twistd(f"{daemon} -- --_shell-completion zsh:3")
    assert (done.returncode, done.stderr) == (0, b"")
    assert completed in done.stdout.decode()
