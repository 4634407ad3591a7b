"""A file with a line for each request, which can be renamed under its writer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from sos.http.server.access_log_lines import Line
from sos.http.server.request import Request

# Seconds between looks at whether the file is still there.
_LOOK_SECONDS = 0.5

_log = Logger()


class AccessLog:
    """Writes lines to the end of a file, all those of one turn of the reactor at once.

    Several processes can write to the same one: lines stay whole.  A file that
    has been renamed or removed is followed by a new one of its name.

    :param line: makes the lines.
    :param now: tells the time in seconds since the epoch.
    """

    def __init__(
        self, path: str, line: Line, reactor: Any, now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._line = line
        self._reactor = reactor
        self._now = now
        self._file: int | None = None
        self._lines: list[str] = []
        self._look_at = 0.0
        self._failing = False

    def open(self) -> None:
        """Open the file.  Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(self._path, flags, 0o640)
        if self._file is not None:
            os.close(self._file)
        self._file = file

    def reopen(self) -> None:
        """Write what there is, and go on in the file that has the name now."""
        self._write()
        try:
            self.open()
        except OSError as error:  # go on in the one that is open
            _log.error("{path} cannot be opened again: {error}", path=self._path, error=error)

    def note(self, request: Request, seconds: float) -> None:
        """Write the line of a *request*, which took so many *seconds*."""
        if not self._lines:
            self._reactor.callLater(0, self._end_turn)
        self._lines.append(self._line(request, seconds, self._now()))

    def _end_turn(self) -> None:
        if self._file is None:  # it has been closed meanwhile
            return
        now = self._reactor.seconds()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._follow()
        self._write()

    def _follow(self) -> None:
        assert self._file is not None
        try:
            there = os.stat(self._path)
        except OSError:
            moved = True
        else:
            moved = not os.path.samestat(there, os.fstat(self._file))
        if moved:
            try:
                self.open()
            except OSError as error:
                self._fail(error)

    def _write(self) -> None:
        if not self._lines or self._file is None:
            return
        # One call: what is appended so is not mixed with what others append.
        data = ("\n".join(self._lines) + "\n").encode("ascii", "backslashreplace")
        self._lines.clear()
        try:
            written = os.write(self._file, data)
            if written < len(data):
                os.write(self._file, data[written:])
        except OSError as error:  # a full disk, say: the requests go on
            self._fail(error)
        else:
            self._failing = False

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            _log.error("{path}: {error}; lines are lost", path=self._path, error=error)
        self._failing = True

    def close(self) -> None:
        """Write what there is, and close the file."""
        self._write()
        if self._file is not None:
            os.close(self._file)
            self._file = None
