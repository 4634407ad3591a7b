"""What of the program a command loads, for that takes longer than most of them run."""

from __future__ import annotations

import sys

from sos.cli import main

_LOADED = (
    "import sys; from sos.cli import main; main({}, standalone_mode=False); print(*sys.modules)"
)


def loaded(place, *words: str) -> set[str]:
    """Return the names of the modules that are there when the command has run."""
    done = place.run([sys.executable, "-c", _LOADED.format(words)], "")
    assert (done.returncode, done.stderr) == (0, b"")
    return set(done.stdout.decode().splitlines()[-1].split())


def test_a_command_loads_no_other(place):
    """But for what it uses of them: put has arguments that are completed."""
    commands = {command.callback.__module__ for command in main.commands.values()}
    assert commands & loaded(place, "put", "--help") == {
        "sos.cli.put",
        "sos.cli.completion",
    }


def test_a_command_without_a_reactor_loads_no_twisted(place):
    """A shell runs this one whenever it starts."""
    assert "twisted" not in loaded(place, "completion", "bash")
