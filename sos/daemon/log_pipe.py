"""Log to standard output without blocking on the reader of a pipe or a socket."""

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

#: The most bytes to buffer for the reader.  Beyond them, lines are dropped.
MOST_UNWRITTEN = 1024 * 1024
# Seconds to wait for the reader at the end of the process.
_LAST_SECONDS = 2.0

_log = Logger()


class LogPipe(io.TextIOBase):
    """A text stream to *descriptor* that never blocks on a slow reader.

    It buffers what the reader has not taken, and a thread writes that later.  If the buffer
    is full, it drops lines, and logs their number afterwards.  The descriptor stays in
    blocking mode, because other processes may share it: the pieces written are small
    enough that :manpage:`pipe(7)` does not block on them.
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
        """Write as much of *data* as is possible without blocking; return the rest."""
        try:
            while data and self._is_ready(0):
                data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
        except OSError:  # the reader has closed its end
            return b""
        return data

    def _is_ready(self, seconds: float | None) -> bool:
        try:
            return bool(select.select([], [self._descriptor], [], seconds)[1])
        except OSError:  # it is closed; the next write fails
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
                _log.warn(
                    "dropped log entries because the reader of standard output is too slow: "
                    "count={n}",
                    n=dropped,
                )
            return

    def _finish(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join(_LAST_SECONDS)


def non_blocking(output: TextIO) -> TextIO:
    """Return a stream to the file of *output* that does not block on a slow reader."""
    try:
        mode = os.fstat(output.fileno()).st_mode
    except (OSError, ValueError):  # it has no file descriptor
        return output
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return output
    output.flush()
    return cast(TextIO, LogPipe(output.fileno()))
