"""Parts that both daemons are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from klein import Klein
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Service
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.usage import UsageError

from sos.web.routes import handler
from sos.wire.site import Site

_log = Logger()


class ListeningService(StreamServerEndpointService):
    """Serves on one endpoint; one that cannot be had ends the daemon's start."""

    _raiseSynchronously = True

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except (CannotListenError, OSError) as error:  # OSError: of the access log, too
            give_up(error)


class Announcement(Service):
    """Tells, once all the other services have started, what runs where."""

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        self._title = title
        self._lines = lines

    def startService(self) -> None:
        super().startService()
        _log.info("{title}", title=self._title)
        for line in self._lines:
            _log.info("  {line}", line=line)


def listening(
    app: Klein, endpoints: Sequence[str], access_log: str | None, verbose: bool, reactor: Any
) -> list[ListeningService]:
    """Return services that serve *app* on each of the *endpoints*, strings of Twisted's.

    :param access_log: file to write the combined log to.
    :param verbose: without one, write it into the daemon's own log.
    """
    return [
        ListeningService(
            serverFromString(reactor, description),
            Site(handler(app), logPath=access_log, reactor=reactor, log_requests=verbose),
        )
        for description in endpoints
    ]


def check_endpoint(option: str, description: str) -> None:
    """Raise UsageError unless *description* is one of Twisted's endpoint strings."""
    from twisted.internet import reactor

    try:
        serverFromString(reactor, description)
    except Exception as error:  # each kind of endpoint has its own ways
        raise UsageError(f"{option}: {description!r} is not an endpoint: {error}") from None


def tcp(host: str, port: int) -> str:
    """Describe the endpoint *host*:*port* as Twisted's endpoint strings do."""
    escaped = host.replace(":", "\\:")
    return f"tcp:{port}:interface={escaped}"


class _CannotStart(Exception, SystemExit):
    """Ends the process quietly, and is an Exception to twistd.

    That tells the terminal it has left of an Exception, and of nothing else.
    """


def give_up(error: Exception) -> NoReturn:
    """End the daemon's start, and say why."""
    _log.critical("cannot start: {error}", error=error)
    failure = _CannotStart(f"cannot start: {error}")
    failure.code = 1  # which SystemExit would print, were it the text
    raise failure from None
