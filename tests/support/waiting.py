"""Waiting until something holds: of other processes, which have no clock to turn."""

from __future__ import annotations

import socket
import time

# Long enough for a machine that does other things as well; nothing passes because it is over.
_SECONDS = 90.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.05


def wait_until(condition, seconds: float = _SECONDS) -> bool:
    """Ask *condition* until it holds; tell whether it did within so many *seconds*."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True


def eventually(ask, holds):
    """Return what *ask* returns once that *holds*."""
    answers = []

    def found() -> bool:
        answers.append(ask())
        return holds(answers[-1])

    assert wait_until(found), answers[-1]
    return answers[-1]


def listens(port: int) -> bool:
    """Tell whether somebody listens at *port* of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True
