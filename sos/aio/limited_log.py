"""Rate-limited logging, for lines that strangers can cause at will."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

#: Seconds between two lines of a kind, at least.
SECONDS = 60.0
# Most kinds to remember; the one written longest ago is forgotten.
_MOST_KINDS = 256


class LimitedLog:
    """A log that writes one line of a kind in *seconds*, and counts the others in the next.

    The fields of the others are lost.  For lines that must not be lost, use *log* itself.

    :param clock: returns a time in seconds; only differences count.
    """

    def __init__(
        self,
        log: Logger,
        clock: Callable[[], float] = time.monotonic,
        seconds: float = SECONDS,
    ) -> None:
        self._log = log
        self._clock = clock
        self._seconds = seconds
        # By kind, the time of its last line, and the number left out since; oldest first.
        self._written: dict[Hashable, tuple[float, int]] = {}

    def emit(self, level: LogLevel, format: str, kind: Hashable = None, **fields: Any) -> None:
        """Log a line, whose kind is its *format* and *kind*."""
        others = self._admit((format, kind))
        if others is not None:
            self._log.emit(level, format + "{others}", others=others, **fields)

    def failure(self, format: str, failure: Failure | None = None, **fields: Any) -> None:
        """Log a line with a traceback, by default of the exception in progress.

        Its kind is its *format* and the result of :func:`kind_of`.
        """
        failure = failure or Failure()
        others = self._admit((format, kind_of(failure)))
        if others is not None:
            self._log.failure(format + "{others}", failure, others=others, **fields)

    def _admit(self, kind: Hashable) -> str | None:
        """Return the line's note about lines left out before it; None to leave it out."""
        now = self._clock()
        written, left_out = self._written.get(kind, (None, 0))
        if written is not None and now - written < self._seconds:
            self._written[kind] = written, left_out + 1
            return None
        self._written.pop(kind, None)
        if len(self._written) == _MOST_KINDS:
            del self._written[next(iter(self._written))]
        self._written[kind] = now, 0
        return f" (and {left_out} others since the last line)" if left_out else ""


def kind_of(failure: Failure) -> Hashable:
    """Return the type of an exception, and the file and line where it was raised."""
    traceback = failure.getTracebackObject()
    if traceback is None:
        return failure.type, None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return failure.type, traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
