"""The access log of a daemon: its options and its service."""

from __future__ import annotations

import signal
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.logger import Logger

from sos.auth.guards import is_deletion
from sos.daemon.options import DaemonOptions, parameter
from sos.daemon.services import give_up
from sos.http.server import access_log_lines
from sos.http.server.access_log import AccessLog
from sos.http.server.access_log_lines import LineFormat
from sos.http.server.request import Request
from sos.http.server.site import Note

_LINES: dict[str, LineFormat] = {
    "combined": access_log_lines.combined,
    "json": access_log_lines.as_json,
}


def _format(text: str) -> str:
    if text not in _LINES:
        raise ValueError(f"{text!r} is not a log format: {' or '.join(_LINES)}")
    return text


PARAMETERS = [
    parameter("access-log", None, None, "Log each request to this file."),
    parameter(
        "access-log-format",
        None,
        "combined",
        "Format of the access log: combined or json.",
        _format,
    ),
]

AUDIT = parameter("audit-log", None, None, "Log each request to delete an object to this file.")

_log = Logger(namespace="sos.access")


class AccessLogService(Service):
    """Keeps the access log open, and reopens it on each SIGHUP."""

    def __init__(self, log: AccessLog, reactor: Any) -> None:
        self._access_log = log
        self._reactor = reactor

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        try:
            self._access_log.open()
        except OSError as error:
            give_up(f"cannot open the access log: {error}")

    def startService(self) -> None:
        super().startService()
        # Call the handler that another service has set as well.
        self._former = signal.signal(signal.SIGHUP, self._on_hang_up)

    def _on_hang_up(self, number: int, frame: Any) -> None:
        # A signal handler can interrupt any code.
        self._reactor.callFromThread(self._access_log.reopen)
        if callable(self._former):
            self._former(number, frame)

    def stopService(self) -> None:
        super().stopService()
        signal.signal(signal.SIGHUP, self._former)
        self._access_log.close()


def add_log(whole: MultiService, options: DaemonOptions, reactor: Any) -> Note | None:
    """Add the access log of *options* to the service *whole*; return the function that logs.

    ``--verbose`` without an access log writes the lines to the daemon's own log.
    """
    line_format = _LINES[options["access-log-format"]]
    if options["access-log"] is not None:
        return _add(whole, options["access-log"], line_format, reactor)
    if options["verbose"]:
        return lambda request, seconds: _log_line(
            line_format(request, seconds, reactor.seconds()), request
        )
    return None


def add_audit(whole: MultiService, options: DaemonOptions, reactor: Any) -> Note | None:
    """Add the audit log of *options*, if there is one; return the function that logs."""
    if options["audit-log"] is None:
        return None
    note = _add(whole, options["audit-log"], access_log_lines.deletion, reactor)

    def note_deletion(request: Request, seconds: float) -> None:
        if is_deletion(request):
            note(request, seconds)

    return note_deletion


def both(one: Note | None, other: Note | None) -> Note | None:
    """Return a function that calls *one* and *other*; either can be None."""
    if one is None or other is None:
        return one or other

    def note(request: Request, seconds: float) -> None:
        one(request, seconds)
        other(request, seconds)

    return note


def _add(whole: MultiService, path: str, line_format: LineFormat, reactor: Any) -> Note:
    log = AccessLog(path, line_format, reactor)
    AccessLogService(log, reactor).setServiceParent(whole)
    return log.note


def _log_line(line: str, request: Request) -> None:
    _log.info("{line}", line=line, request_id=request.id.decode("ascii"))
