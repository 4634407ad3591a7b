"""A function that is killed at a step: before it makes, renames or removes something."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

_STEPS = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
_KILLED = 9


def killed_at(step: int, function: Callable[[], object]) -> bool:
    """Run *function* in a process that ends, as if it were killed, at its *step*.

    Returns whether it did, and False when there are no so many steps.
    """
    process = os.fork()
    if process == 0:
        _run(step, function)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, _KILLED)
    return status == _KILLED


def _run(step: int, function: Callable[[], object]) -> None:
    passed = 0

    def note(event: str, arguments: tuple) -> None:
        nonlocal passed
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in _STEPS or writes:
            passed += 1
            if passed > step:
                os._exit(_KILLED)

    try:
        sys.addaudithook(note)
        function()
        os._exit(0)
    finally:
        os._exit(1)
