"""Parts that both daemons are put together from."""

from __future__ import annotations

import gc
import os
import resource
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NoReturn

from klein import Klein
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.usage import UsageError

from sos.auth.guards import Guard
from sos.daemon.options import DaemonOptions
from sos.daemon.proxies import proxies_of
from sos.daemon.sd_notify import Notification
from sos.files.umask import withhold
from sos.http.server.site import Handler, Note, Site
from sos.monitoring.request_metrics import Tally
from sos.web.routes import handler

#: Seconds that requests which are under way have when a daemon is stopped.
STOP_SECONDS = 10.0

# Connections of those who look after a daemon.
_CONNECTIONS_BESIDE = 32
# Files that a daemon has open beside its other connections: index, logs, sockets.
_FILES_BESIDE = 64 + _CONNECTIONS_BESIDE
# More open files than any daemon needs.
_MOST_FILES = 65_536
# Connections that may wait to be accepted; with Twisted's 50 a burst is dropped.
_BACKLOG = 1024
# Connections that are served however few files may be open.
_LEAST_CONNECTIONS = 8

_log = Logger()


class Daemon(MultiService):
    """A daemon's parts, which stop one after the other, the last one first.

    So what is under way at an HTTP face can still use the store behind it.  What they make is
    for the daemon's user and group: see :func:`sos.files.umask.withhold`.
    """

    def privilegedStartService(self) -> None:
        withhold()  # now, for twistd has set the umask that it was told
        super().privilegedStartService()

    def startService(self) -> None:
        super().startService()
        # What there is now stays.  To look through it for garbage over and over
        # would hold every request up for 30 ms at times.
        gc.collect()
        gc.freeze()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return ensureDeferred(self._stop_parts())

    async def _stop_parts(self) -> None:
        for part in reversed(list(self)):
            try:
                await maybeDeferred(part.stopService)
            except Exception:
                _log.failure("{part} did not stop in order", part=part)


class ListeningService(StreamServerEndpointService):
    """Serves on one endpoint; one that cannot be had ends the daemon's start.

    :param remedy: what to say behind the error then.
    """

    _raiseSynchronously = True
    factory: Site

    def __init__(self, endpoint: Any, site: Site, remedy: str = "") -> None:
        super().__init__(endpoint, site)
        self._remedy = remedy

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except (CannotListenError, OSError) as error:
            give_up(f"{error}{self._remedy}")

    def stopService(self) -> Deferred[None]:
        return ensureDeferred(self._finish())

    async def _finish(self) -> None:
        await maybeDeferred(super().stopService)
        await self.factory.drain(STOP_SECONDS)


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


def complete(
    whole: MultiService, title: str, lines: Sequence[str], options: DaemonOptions, reactor: Any
) -> None:
    """Add to a daemon what has to be the last of its services.

    :param title: and *lines* are for the log, see :class:`Announcement`.
    """
    Announcement(title, lines).setServiceParent(whole)
    Notification(os.environ, reactor).setServiceParent(whole)
    if options.shedding is not None:
        options.shedding.setServiceParent(whole)


def listening(
    faces: Sequence[tuple[Klein, Callable[[str], Guard], Sequence[str]]],
    files: int,
    tally: Tally,
    note: Note | None,
    reactor: Any,
    options: DaemonOptions,
    endpoint: Callable[[Any, str], Any] = serverFromString,
    origins: Collection[bytes] = (),
) -> MultiService:
    """Return a service that serves each of *faces* on its endpoints, strings of Twisted's.

    :param faces: routes, what requests have to pass before at an endpoint, and endpoints.
    :param files: most file descriptors that a connection can take with what
        is done for it.
    :param tally: where the requests are counted.
    :param note: where they are logged.
    :param options: say how long connections may be idle, and which proxies are believed.
    :param endpoint: makes an endpoint of such a string.
    :param origins: whose pages may read the answers.
    """
    sites = [
        (endpoint(reactor, description), handler(app, guard(description), origins=origins))
        for app, guard, endpoints in faces
        for description in endpoints
    ]
    most = max(_file_limit() - _FILES_BESIDE, 0) // files // len(sites)
    whole = MultiService()
    for endpoint, answer in sites:
        most_here = max(most, _LEAST_CONNECTIONS)
        site = _site(answer, most_here, options, reactor, note, tally)
        ListeningService(endpoint, site).setServiceParent(whole)
    return whole


def listening_beside(
    app: Klein,
    endpoints: Sequence[str],
    options: DaemonOptions,
    reactor: Any,
    endpoint: Callable[[Any, str], Any],
    guard: Callable[[str], Guard],
    failed_handshakes: Counter[str],
    note: Note | None = None,
) -> MultiService:
    """Return a service that serves *app* to the few who look after the daemon.

    :param guard: what they have to pass at an endpoint.
    :param failed_handshakes: where those of TLS are counted.
    :param note: is told of what they ask; it counts nowhere else.
    """
    whole = MultiService()
    for description in endpoints:
        answer = handler(app, guard(description))
        site = _site(
            answer,
            _CONNECTIONS_BESIDE,
            options,
            reactor,
            note,
            failed_handshakes=failed_handshakes,
            is_patient=False,  # few may transfer at once: who pauses would keep others out
        )
        service = ListeningService(
            endpoint(reactor, description), site, options.remedy(description)
        )
        service.setServiceParent(whole)
    return whole


def _site(
    answer: Handler,
    most: int,
    options: DaemonOptions,
    reactor: Any,
    note: Note | None,
    tally: Tally | None = None,
    failed_handshakes: Counter[str] | None = None,
    is_patient: bool = True,
) -> Site:
    return Site(
        answer,
        most,
        reactor,
        tally,
        note,
        idle_seconds=options["idle-timeout"],
        proxies=proxies_of(options),
        failed_handshakes=failed_handshakes,
        is_patient=is_patient,
    )


def _file_limit() -> int:
    """Return how many files may be open, which is raised as far as it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def check_endpoint(option: str, description: str) -> None:
    """Raise UsageError unless *description* is one of Twisted's endpoint strings."""
    from twisted.internet import reactor

    try:
        serverFromString(reactor, description)
    except Exception as error:  # each kind of endpoint has its own ways
        reason: object = error
        if description.startswith("systemd:") and isinstance(error, LookupError):
            reason = "systemd has passed on no such socket, is its unit started?"
        raise UsageError(f"{option}: {description!r} is not an endpoint: {reason}") from None


def tcp(host: str, port: int) -> str:
    """Describe the endpoint *host*:*port* as Twisted's endpoint strings do."""
    escaped = host.replace(":", "\\:")
    return f"tcp:{port}:interface={escaped}:backlog={_BACKLOG}"


class CannotStart(Exception, SystemExit):
    """Ends the process quietly, and is an Exception to twistd.

    That tells the terminal it has left of an Exception, and of nothing else.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 1  # which SystemExit would print, were it the text


def give_up(error: Exception | str) -> NoReturn:
    """End the daemon's start, and say why."""
    _log.critical("cannot start: {error}", error=error)
    raise CannotStart(f"cannot start: {error}") from None


def shut_down(error: Exception | str, reactor: Any) -> None:
    """End a daemon that has been started already, and say why; its exit status is 1."""
    _log.critical("cannot start: {error}", error=error)
    # A reactor that runs has no other way to end with a status.
    reactor.addSystemEventTrigger("after", "shutdown", partial(os._exit, 1))
    reactor.callWhenRunning(reactor.stop)
