"""Private names of Twisted and Klein: all that this project stands on, and why.

Another version may do without any of them.  ``tests/aio/test_twisted_internals.py`` tests what
each is used for, by what can be seen from outside, so that a version that breaks one is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet._resolver import GAIResolver
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHostnameResolver
from twisted.logger import FileLogObserver
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

if TYPE_CHECKING:
    from klein import Klein


def is_buffering(transport: tcp.Connection) -> bool:
    """Return whether data that was written waits for the socket to be writable.

    What is sent past the transport's buffer would overtake it.
    """
    return bool(transport.dataBuffer or transport._tempDataBuffer)


def call_when_writable(transport: tcp.Connection) -> None:
    """Have *transport* call ``resumeProducing`` of its producer when it can be written to.

    Public API does that only after more has been written than the socket takes.
    """
    transport.producerPaused = True
    transport.startWriting()


def close_now(transport: tcp.Connection) -> None:
    """Close a socket in this turn, whatever its other side does.

    What was written is offered to the system once more; what that takes is delivered.
    ``loseConnection`` waits for a client that reads nothing, ``abortConnection`` discards what
    the system has taken.
    """
    transport.doWrite()
    transport.stopReading()
    transport.stopWriting()
    reactor: Any = transport.reactor
    reactor.callLater(0, transport.connectionLost, Failure(ConnectionDone()))


def reserve_descriptor() -> None:
    """Open the descriptor that Twisted gives up when it can open no more, to accept and close.

    It is opened when a port first listens, for which /dev/null has to be there: not so
    after a chroot.
    """
    tcp._reservedFD.reserve()


def log_observer(options: Mapping[str, Any]) -> FileLogObserver:
    """Return the observer that twistd would log by.

    :param options: twistd's ``logfile`` and ``nodaemon``.
    """
    # Imports what only daemons need.
    from twisted.scripts._twistd_unix import UnixAppLogger

    observer: FileLogObserver = UnixAppLogger(options)._getLogObserver()
    return observer


def name_resolver(reactor: Any, pool: ThreadPool, look_up: Callable[..., Any]) -> IHostnameResolver:
    """Return what resolves names as *reactor* does by default, on threads of *pool*.

    :param look_up: getaddrinfo(); where it raises anything but gaierror, no answer comes.
    """
    return GAIResolver(reactor, lambda: pool, look_up)


def route_functions(app: Klein) -> dict[str, Callable[..., Any]]:
    """Return the functions of *app*'s routes by endpoint, bound to its instance, as written.

    Klein's own wrap each result into a Deferred and handle path segments of twisted.web.
    """
    return {
        name: partial(endpoint.__original__, app._instance)  # type: ignore[attr-defined]
        for name, endpoint in app.endpoints.items()
    }
