"""The daemon's log as JSON: an entry is an object.

========== ===================================================================
time       when, as RFC 3339 has it
level      debug, info, warn, error or critical
logger     the part of the program that tells it
text       what it tells
failure    a traceback, if there is one
request_id that of the request that it is about, if it is about one
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

#: An entry; there is nothing in it that is not there.
Entry = dict[str, Any]

# Characters of a text or of a traceback.
_LONGEST = 32 * 1024

# Where to log, by twistd's options: it takes no more than a name of what makes
# an observer, and asks that for nothing but one.
_place: dict[str, Any] = {"logfile": "-", "nodaemon": True}

_encode = json.JSONEncoder(separators=(",", ":")).encode


def entry(event: LogEvent) -> Entry | None:
    """Return the entry for *event*, None if it has nothing to tell."""
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
        # The end of it says most.
        found["failure"] = failure.getTraceback()[-_LONGEST:]
    request = event.get("request_id")
    if request is None:
        asked_for = CURRENT.get()
        request = None if asked_for is None else asked_for.decode("ascii")
    if request is not None:
        found["request_id"] = request
    return found


def log_format(text: str) -> str:
    """Return *text*, which names a format of the log, or raise ValueError."""
    if text not in ("text", "json"):
        raise ValueError(f"{text!r} is none of text, json")
    return text


def settle(twistd: Options) -> None:
    """Make *twistd* log JSON, to wherever it would have logged text.

    That is what its ``--logger`` is for.  Raises UsageError when it has been
    told otherwise.
    """
    for name in ("logger", "syslog"):
        if twistd.get(name):
            raise UsageError(f"--log-format json and twistd's --{name} exclude each other")
    _place.update({name: twistd[name] for name in ("logfile", "nodaemon")})
    twistd["logger"] = f"{__name__}.{observer.__name__}"


def observer() -> ILogObserver:
    """Return what writes the log as JSON; ``twistd --logger`` takes the name of this."""
    # Standard output, or a file that SIGUSR1 rotates: as twistd has it.
    observer = log_observer(_place)
    observer.formatEvent = _line
    return observer


def _line(event: LogEvent) -> str | None:
    told = entry(event)
    return None if told is None else _encode(told) + "\n"
