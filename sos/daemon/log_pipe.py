"""Standard output as a log, where it is a pipe or a socket that somebody has to read."""

from __future__ import annotations

import atexit
import io
import os
import select
import stat
from collections import deque
from threading import Lock, Thread
from typing import TextIO, cast

from twisted.logger import Logger

#: Bytes that may wait for the reader; beyond, the log loses lines.
MOST_UNWRITTEN = 1024 * 1024
# Seconds that the end of the process waits for the reader.
_LAST_SECONDS = 2.0

_log = Logger()


class LogPipe(io.TextIOBase):
    """Writes to *descriptor*, and waits for nobody who does not read there.

    What cannot be written at once is kept, and written by a thread when it can be.  Where
    that is too much, lines are dropped, and the next line tells how many.  The descriptor
    stays blocking, for it may be shared with other processes: it is given pieces that
    :manpage:`pipe(7)` takes without blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = Lock()
        self._unwritten: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._thread: Thread | None = None
        atexit.register(self._finish)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            if not self._unwritten:
                data = self._write(data)
            if data:
                self._keep(data)
        return len(text)

    def _keep(self, data: bytes) -> None:
        if self._unwritten and self._bytes + len(data) > MOST_UNWRITTEN:
            self._dropped += 1
            return
        self._unwritten.append(data)
        self._bytes += len(data)
        if self._thread is None:
            self._thread = Thread(target=self._drain, name="sos-log", daemon=True)
            self._thread.start()

    def _write(self, data: bytes) -> bytes:
        """Write as much of *data* as can be now; return the rest."""
        try:
            while data and self._is_ready(0):
                data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
        except OSError:  # nobody is there any more
            return b""
        return data

    def _is_ready(self, seconds: float | None) -> bool:
        try:
            return bool(select.select([], [self._descriptor], [], seconds)[1])
        except OSError:  # it is closed, as to write there tells
            return True

    def _drain(self) -> None:
        while True:
            self._is_ready(None)
            with self._lock:
                data = self._unwritten[0]
                rest = self._write(data)
                self._bytes -= len(data) - len(rest)
                if rest:
                    self._unwritten[0] = rest
                    continue
                self._unwritten.popleft()
                if self._unwritten:
                    continue
                self._thread = None
                dropped, self._dropped = self._dropped, 0
            if dropped:
                _log.warn("log entries dropped, nobody read them: count={n}", n=dropped)
            return

    def _finish(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join(_LAST_SECONDS)


def unhindered(output: TextIO) -> TextIO:
    """Return what writes where *output* does, and does not wait for a reader."""
    try:
        mode = os.fstat(output.fileno()).st_mode
    except (OSError, ValueError):  # it is no file
        return output
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return output
    output.flush()
    return cast(TextIO, LogPipe(output.fileno()))
