"""Daemons and commands forked from a process that has imported everything.

``python -c 'import ...'`` takes 0.7 s of processor time, and there are hundreds of them.  A
forked process behaves like a started one, with these exceptions: it has imported more, its
memory includes what that takes, and ``/proc`` shows the command line of the process that
it was forked from.  What is about one of those starts an interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

#: What can be run: a module, and the function of it that reads ``sys.argv``.
PROGRAMS = {"twistd": ("twisted.scripts.twistd", "run"), "sos": ("sos.cli", "main")}

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.preloaded"])


class ForkedProcess:
    """A running program, with the methods of a :class:`subprocess.Popen` that tests use.

    :param program: one of :data:`PROGRAMS`.
    :param environment: all of it.
    :param files: for standard input, output and errors; the latter two are appended to.
    :param most_files: that it may have open, None for as many as this process.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        files: tuple[str, str, str],
        most_files: int | None = None,
    ) -> None:
        self.args = [program, *arguments]
        self._process = _context.Process(
            target=_run, args=(self.args, directory, environment, files, most_files), daemon=True
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        # It can have ended, and its parent, which is another, not have told it yet.
        with suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    files: tuple[str, str, str],
    most_files: int | None,
) -> None:
    """Become the program, in a process that has just been forked."""
    from tests.support.preloaded import install_reactor

    modes = (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND)
    for number, (name, mode) in enumerate(zip(files, modes, strict=True)):
        opened = os.open(name, mode)
        os.dup2(opened, number)
        os.close(opened)
    # As Python opens them where they are files.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    random.seed()
    if most_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    # Twisted remembers the first of them, which was another.
    import_module("twisted.logger._global").globalLogBeginner._stderr = sys.stderr
    install_reactor()
    sys.argv = list(arguments)
    module, function = PROGRAMS[arguments[0]]
    getattr(import_module(module), function)()
