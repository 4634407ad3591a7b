"""Services of both daemons."""

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
from sos.monitoring.request_metrics import RequestMetrics
from sos.web.routes import handler

#: Seconds that requests in flight get to finish when a daemon stops.
STOP_SECONDS = 10.0

# The most connections to an admin port.
_CONNECTIONS_BESIDE = 32
# Open files besides the other connections: index, logs, sockets.
_FILES_BESIDE = 64 + _CONNECTIONS_BESIDE
# More open files than any daemon needs.
_MOST_FILES = 65_536
# The length of the accept queue.  Twisted's 50 drops connections of a burst.
_BACKLOG = 1024
# The least connections to serve, however low the limit on open files is.
_LEAST_CONNECTIONS = 8

_log = Logger()


class Daemon(MultiService):
    """The services of a daemon, which stop one after the other, the last one first.

    So requests in flight can still use the store.  Only the daemon's user and group can
    access the files that it creates: see :func:`sos.files.umask.withhold`.
    """

    def privilegedStartService(self) -> None:
        withhold()  # after twistd has set its --umask
        super().privilegedStartService()

    def startService(self) -> None:
        super().startService()
        # Exempt the objects of the start from garbage collection.  To scan them again and
        # again would delay requests by up to 30 ms.
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
                _log.failure("error while stopping a service: service={part}", part=part)


class ListeningService(StreamServerEndpointService):
    """Serves on one endpoint; the daemon does not start if it cannot listen there.

    :param remedy: advice to append to that error.
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


class StartupLog(Service):
    """Logs, after all other services have started, what runs where."""

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
    """Add the services that must be the last ones of a daemon.

    :param title: see :class:`StartupLog`, also for *lines*.
    """
    StartupLog(title, lines).setServiceParent(whole)
    Notification(os.environ, reactor).setServiceParent(whole)
    if options.shedding is not None:
        options.shedding.setServiceParent(whole)


def listening(
    faces: Sequence[tuple[Klein, Callable[[str], Guard], Sequence[str]]],
    files: int,
    request_metrics: RequestMetrics,
    note: Note | None,
    reactor: Any,
    options: DaemonOptions,
    endpoint: Callable[[Any, str], Any] = serverFromString,
    origins: Collection[bytes] = (),
) -> MultiService:
    """Return a service that serves each of *faces* on its endpoints.

    :param faces: for each, the routes, a function from an endpoint to its guard, and the
        endpoint strings.
    :param files: the most file descriptors that a connection can need.
    :param request_metrics: request metrics to update.
    :param note: the access log, if there is one.
    :param options: for the idle timeout and the trusted proxies.
    :param endpoint: makes an endpoint from a reactor and an endpoint string.
    :param origins: the web origins whose pages may read the answers.
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
        site = _site(answer, most_here, options, reactor, note, request_metrics)
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
    """Return a service that serves *app*, the admin port of the daemon.

    Its requests do not count in the request metrics.

    :param guard: returns the guard of an endpoint.
    :param failed_handshakes: counts of failed TLS handshakes to update.
    :param note: the access log, if there is one.
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
            is_patient=False,  # clients that pause would exhaust the few connections
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
    request_metrics: RequestMetrics | None = None,
    failed_handshakes: Counter[str] | None = None,
    is_patient: bool = True,
) -> Site:
    return Site(
        answer,
        most,
        reactor,
        request_metrics,
        note,
        idle_seconds=options["idle-timeout"],
        proxies=proxies_of(options),
        failed_handshakes=failed_handshakes,
        is_patient=is_patient,
    )


def _file_limit() -> int:
    """Raise the limit on open files as far as possible, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def check_endpoint(option: str, description: str) -> None:
    """Raise UsageError unless *description* is a valid endpoint string."""
    from twisted.internet import reactor

    try:
        serverFromString(reactor, description)
    except Exception as error:  # each kind of endpoint raises its own exceptions
        reason: object = error
        if description.startswith("systemd:") and isinstance(error, LookupError):
            reason = "systemd passed no such socket; is its socket unit started?"
        raise UsageError(f"{option}: cannot use the endpoint {description!r}: {reason}") from None


def tcp(host: str, port: int) -> str:
    """Return the endpoint string for *host* and *port*."""
    escaped = host.replace(":", "\\:")
    return f"tcp:{port}:interface={escaped}:backlog={_BACKLOG}"


class CannotStart(Exception, SystemExit):
    """Ends the process with status 1, without a traceback.

    It is an Exception as well, because twistd in the background reports only an Exception
    to the terminal.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 1  # if it were the text, SystemExit would print it


def give_up(error: Exception | str) -> NoReturn:
    """Log *error*, and abort the start of the daemon."""
    _log.critical("cannot start: {error}", error=error)
    raise CannotStart(f"cannot start: {error}") from None


def shut_down(error: Exception | str, reactor: Any) -> None:
    """Log *error*, and end a daemon whose reactor runs already, with exit status 1."""
    _log.critical("cannot start: {error}", error=error)
    # A running reactor cannot end with an exit status in another way.
    reactor.addSystemEventTrigger("after", "shutdown", partial(os._exit, 1))
    reactor.callWhenRunning(reactor.stop)
