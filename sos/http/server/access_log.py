"""The access log: a file with a line for each request, which can be rotated by renaming it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from sos.http.server.access_log_lines import LineFormat
from sos.http.server.request import Request

# Seconds between checks whether the file has been renamed.
_LOOK_SECONDS = 0.5

_log = Logger()


class AccessLog:
    """Access log, which appends all lines of a reactor iteration with one write.

    Several processes can write to the same file: lines stay whole.  If the file has been
    renamed or removed, a new one is created.

    :param line_format: formats the lines.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(
        self, path: str, line_format: LineFormat, reactor: Any, now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._line_format = line_format
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
        """Write the buffered lines, and open the file that has the name now."""
        self._write()
        try:
            self.open()
        except OSError as error:  # keep using the file that is open
            _log.error(
                "cannot reopen a log, keeping the open file: path={path} reason={error}",
                path=self._path,
                error=error,
            )

    def note(self, request: Request, seconds: float) -> None:
        """Add the line for a *request*, which took *seconds*."""
        if not self._lines:
            self._reactor.callLater(0, self._end_turn)
        self._lines.append(self._line_format(request, seconds, self._now()))

    def _end_turn(self) -> None:
        if self._file is None:  # the log has been closed meanwhile
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
        # One call, so that lines of several processes are not mixed.
        data = ("\n".join(self._lines) + "\n").encode("ascii", "backslashreplace")
        self._lines.clear()
        try:
            written = os.write(self._file, data)
            if written < len(data):
                os.write(self._file, data[written:])
        except OSError as error:  # a full disk, say: requests are served all the same
            self._fail(error)
        else:
            self._failing = False

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            _log.error(
                "cannot write a log, dropping lines: path={path} reason={error}",
                path=self._path,
                error=error,
            )
        self._failing = True

    def close(self) -> None:
        """Write the buffered lines, and close the file."""
        self._write()
        if self._file is not None:
            os.close(self._file)
            self._file = None
