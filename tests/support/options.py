"""The options of the daemons, parsed as twistd parses them."""

from __future__ import annotations

import pytest


def parsed(module, *arguments):
    """Return the options that *module* makes of *arguments*."""
    options = module.Options()
    options.parseOptions(arguments)
    return options


def refusal(capsys, module, *arguments):
    """Return the one line in which *arguments* are refused."""
    with pytest.raises(SystemExit) as caught:
        parsed(module, *arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line
