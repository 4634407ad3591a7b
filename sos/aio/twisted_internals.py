"""All uses of private names of Twisted and Klein, and the reasons for them.

Another version may lack any of them.  ``tests/aio/test_twisted_internals.py`` tests the effect of
each from outside, so that a version that breaks one is noticed.
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
    """Return whether written data waits in the transport's buffer.

    Data sent past that buffer would overtake it.
    """
    return bool(transport.dataBuffer or transport._tempDataBuffer)


def call_when_writable(transport: tcp.Connection) -> None:
    """Make *transport* call its producer's ``resumeProducing`` when the socket is writable.

    The public API does that only after a write of more than the socket accepts.
    """
    transport.producerPaused = True
    transport.startWriting()


def close_now(transport: tcp.Connection) -> None:
    """Close a connection in the next reactor iteration, whatever its peer does.

    This writes buffered data once more; the data that the kernel accepts is delivered.
    ``loseConnection`` would wait for a peer that does not read, ``abortConnection`` would
    discard data that the kernel has accepted.
    """
    transport.doWrite()
    transport.stopReading()
    transport.stopWriting()
    reactor: Any = transport.reactor
    reactor.callLater(0, transport.connectionLost, Failure(ConnectionDone()))


def reserve_descriptor() -> None:
    """Open Twisted's reserve descriptor, which it uses to reject connections at the file limit.

    By default Twisted opens it when a port first listens.  That needs /dev/null, which is
    missing after a chroot.
    """
    tcp._reservedFD.reserve()


def log_observer(options: Mapping[str, Any]) -> FileLogObserver:
    """Return the log observer that twistd would use.

    :param options: twistd's ``logfile`` and ``nodaemon``.
    """
    # Here, because only daemons need what this imports.
    from twisted.scripts._twistd_unix import UnixAppLogger

    observer: FileLogObserver = UnixAppLogger(options)._getLogObserver()
    return observer


def name_resolver(reactor: Any, pool: ThreadPool, look_up: Callable[..., Any]) -> IHostnameResolver:
    """Return a resolver that works as *reactor*'s default, on threads of *pool*.

    :param look_up: getaddrinfo(); if it raises anything but gaierror, no answer comes.
    """
    return GAIResolver(reactor, lambda: pool, look_up)


def route_functions(app: Klein) -> dict[str, Callable[..., Any]]:
    """Return *app*'s route functions by endpoint, bound to its instance, as written.

    Klein's own wrappers put each result into a Deferred and handle twisted.web's path segments.
    """
    return {
        name: partial(endpoint.__original__, app._instance)  # type: ignore[attr-defined]
        for name, endpoint in app.endpoints.items()
    }
