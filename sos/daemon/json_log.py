"""The daemon's log as JSON: each entry is an object on a line.

========== ===================================================================
time       the time, in the format of RFC 3339
level      debug, info, warn, error or critical
logger     the name of the logger
text       the message
failure    the traceback, if there is one
request_id the id of the request that the entry concerns, if any
========== ===================================================================
"""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.usage import Options, UsageError

from sos.aio.twisted_internals import log_observer
from sos.http.server.access_log_lines import timestamp
from sos.http.server.request_ids import CURRENT

#: An entry; members without a value are left out.
Entry = dict[str, Any]

# The most characters of a message or a traceback.
_LONGEST = 32 * 1024

# The destination, from twistd's options: twistd calls the function that its --logger names
# without arguments.
_place: dict[str, Any] = {"logfile": "-", "nodaemon": True}

_encode = json.JSONEncoder(separators=(",", ":")).encode


def entry(event: LogEvent) -> Entry | None:
    """Return the entry for *event*, None if the event has neither message nor failure."""
    text = eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)
    failure = event.get("log_failure")
    if not text and failure is None:
        return None
    found = {
        "time": timestamp(event.get("log_time", 0.0)),
        "level": (event.get("log_level") or LogLevel.info).name,
        "logger": event.get("log_namespace", ""),
        "text": text[:_LONGEST],
    }
    if failure is not None:
        # The end of a traceback is the most useful part.
        found["failure"] = failure.getTraceback()[-_LONGEST:]
    request = event.get("request_id")
    if request is None:
        asked_for = CURRENT.get()
        request = None if asked_for is None else asked_for.decode("ascii")
    if request is not None:
        found["request_id"] = request
    return found


def log_format(text: str) -> str:
    """Return *text* if it is a log format, or raise ValueError."""
    if text not in ("text", "json"):
        raise ValueError(f"{text!r} is not a log format: text or json")
    return text


def configure(twistd: Options) -> None:
    """Make *twistd* log JSON instead of text, to the same destination.

    This sets its ``--logger``.  Raises UsageError if the user has set that option, or
    ``--syslog``.
    """
    for name in ("logger", "syslog"):
        if twistd.get(name):
            raise UsageError(f"--log-format json and twistd's --{name} exclude each other")
    _place.update({name: twistd[name] for name in ("logfile", "nodaemon")})
    twistd["logger"] = f"{__name__}.{observer.__name__}"


def observer() -> ILogObserver:
    """Return the observer that writes the log as JSON, for ``twistd --logger``."""
    # Like twistd, it logs to standard output, or to a file that SIGUSR1 rotates.
    observer = log_observer(_place)
    observer.formatEvent = _line
    return observer


def _line(event: LogEvent) -> str | None:
    fields = entry(event)
    return None if fields is None else _encode(fields) + "\n"
