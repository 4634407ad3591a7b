"""One of the processes that serve when a daemon has several: the program that each of them runs.

It is started by :mod:`sos.tap.supervisor`, with these descriptors:

====  ==========================================================================
3     the line to the supervisor: JSON, an object a line, in both directions
4     a file with what this daemon was told, see :class:`Handed`
5...  what :class:`Handed` tells of: sockets that listen, the lock of the store
====  ==========================================================================

The process says ``ready``, or that it ``cannot`` start and why; ``log`` is an entry
for the daemon's log, see :mod:`sos.tap.logs`; a worker drops entries, and counts them,
rather than wait for a supervisor that does not read.  It is told to ``go`` when the whole
daemon is ready: one that fails to start has served nothing.  Again and again it is
sent a ``beat``, and sends it back: one whose reactor hangs does not, and is killed.
Both sides tell of a ``failure`` that makes the store read-only.  A process whose store
turns out to be ``unusable``, once its engine is asked, says why, and is ended.  When the
line closes the supervisor is gone, and the process ends.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from threading import Lock
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogBeginner
from zope.interface import implementer

from sos.tap import logs, sharing
from sos.tap.balance import Balance
from sos.tap.siblings import Siblings

#: The number of the worker that does what is to be done once.
FIRST = 1

#: Bytes that may wait for the supervisor to read them; beyond, the log loses entries.
MOST_UNSENT = 1024 * 1024
# Seconds that a process which ends waits for the supervisor to read the last of them.
_LAST_SECONDS = 2.0

#: The descriptors that a worker is started with, beside the standard ones.
LINE, HANDED, FIRST_SHARED = 3, 4, 5

_log = Logger()


@frozen
class Handed:
    """What a supervisor hands to its workers.

    :param module: of the daemon; its ``serve(options, worker, reactor)`` returns
        the service that a worker is.
    :param options: of the command line, with what the configuration added.
    :param sockets: each endpoint's string, and the descriptor that listens there.
    :param lock: the descriptor of the store's lock, if there is a store.
    :param counts: the descriptor of the counts of a :class:`~sos.tap.balance.Balance`.
    :param workers: how many there are.
    :param started_at: when the daemon was, by the reactor's clock.
    """

    module: str
    options: dict[str, Any]
    sockets: tuple[tuple[str, int], ...]
    lock: int | None
    counts: int
    workers: int
    started_at: float


@define
class Worker:
    """What the parts of a daemon want to know of the process that they are in.

    :param number: from 1 to the number of workers.
    :param siblings: the others.
    :param on_failure: called with the reason when another worker's store
        turns read-only.
    """

    number: int
    siblings: Siblings
    _handed: Handed
    _line: Line
    _balance: Balance
    _taken: set[int] = field(factory=set)
    on_failure: Callable[[str], None] = field(default=lambda reason: None)

    @property
    def lock(self) -> int | None:
        """The descriptor of the store's lock, if there is a store."""
        return self._handed.lock

    @property
    def started_at(self) -> float:
        """When the daemon was started, by the reactor's clock."""
        return self._handed.started_at

    @property
    def first(self) -> bool:
        """Whether this is the one that does what is to be done once."""
        return self.number == FIRST

    def endpoint(self, reactor: Any, description: str) -> Any:
        """Return the endpoint that *description* means, on the socket that listens there."""
        for place, (listens_on, descriptor) in enumerate(self._handed.sockets):
            if listens_on == description and place not in self._taken:
                self._taken.add(place)
                count = sharing.Count(self._balance, place, self.number - 1)
                return sharing.endpoint(reactor, description, descriptor, count)
        raise ValueError(f"no socket listens on {description}")

    def tell_failure(self, reason: str) -> None:
        """Tell the other workers that the store has turned read-only here."""
        self._line.send(failure=reason)

    def tell_unusable(self, reason: Exception) -> None:
        """Have this process ended, and the whole daemon if this was started with it."""
        self._line.send(unusable=str(reason))


@implementer(IReadWriteDescriptor, ILogObserver)
class Line:
    """The line to the supervisor.  Sending is safe on any thread.

    Until :meth:`attach` sending waits for the supervisor to read.  Then it waits for
    nobody: messages are kept until they can be sent.  Where there are too many, entries
    of the log are dropped, and the next entry tells how many.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reactor: Any = None
        self._sending = Lock()
        self._unsent = bytearray()
        self._waiting = False
        self._dropped = 0
        self._received = b""
        self._let_go = False
        self.received: Callable[[dict[str, Any]], None] = lambda message: None

    def attach(self, reactor: Any) -> None:
        """Read, and send what has to wait, when *reactor* says that it can be done."""
        self._reactor = reactor
        reactor.addReader(self)

    def send(self, **message: object) -> None:
        data = _encoded(message)
        with self._sending:
            self._send(data)

    def __call__(self, event: LogEvent) -> None:
        """Pass on an entry of the log: the supervisor alone writes it."""
        told = logs.entry(event)
        if told is not None:
            data = _encoded({"log": told})
            with self._sending:
                if len(self._unsent) < MOST_UNSENT:
                    self._send(data)
                else:
                    self._dropped += 1

    def _send(self, data: bytes | bytearray) -> None:
        # An error means that no one is there, which reading notices; or at the end, that no
        # one reads: then a line may be cut off, and nothing can follow.
        if self._reactor is None:
            try:
                self._connection.sendall(data)
            except OSError:
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_WR)
            return
        self._unsent += data
        self._send_some()
        if self._unsent and not self._waiting:
            self._waiting = True
            self._reactor.callFromThread(self._reactor.addWriter, self)

    def _send_some(self) -> None:
        try:
            del self._unsent[: self._connection.send(self._unsent, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

    def doWrite(self) -> None:
        with self._sending:
            if self._unsent:
                self._send_some()
            if self._unsent:
                return
            self._waiting = False
            self._reactor.removeWriter(self)
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        with self._sending:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            _log.warn("log entries dropped, the supervisor did not read: count={n}", n=dropped)

    def finish(self) -> None:
        """Send what is left, unless the supervisor does not read: the reactor has stopped."""
        with self._sending:
            self._reactor = None
            self._connection.settimeout(_LAST_SECONDS)
            unsent, self._unsent = self._unsent, bytearray()
            self._send(unsent)
        self._tell_dropped()

    def fileno(self) -> int:
        return self._connection.fileno()

    def logPrefix(self) -> str:
        return "worker"

    def wait(self) -> None:
        """Return when the supervisor lets this process serve."""
        while not self._let_go:
            self._read(0)

    def doRead(self) -> None:
        self._read(socket.MSG_DONTWAIT)

    def _read(self, flags: int) -> None:
        try:
            data = self._connection.recv(65536, flags)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # As it would have gone with it: at once, and the store is free.
            os._exit(1)
        *lines, self._received = (self._received + data).split(b"\n")
        for message in map(json.loads, lines):
            if "go" in message:
                self._let_go = True
            else:
                self.received(message)

    def connectionLost(self, reason: object) -> None:
        pass  # the reactor has stopped: what the other side does shows in reading


def main(number: int) -> None:
    """Serve until told to end by SIGTERM, or until the supervisor is gone."""
    # A terminal sends these to all processes at once; it is the supervisor that acts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until something here wants to know
    line = Line(socket.socket(fileno=LINE))
    globalLogBeginner.beginLoggingTo([line])
    try:
        _start(number, line)
    except (Exception, SystemExit) as error:
        if not isinstance(error, SystemExit):  # which has been logged
            _log.failure("worker {number} cannot start", number=number)
        line.send(cannot=str(error))
        sys.exit(1)
    from twisted.internet import reactor

    def stop(*_: object) -> None:
        if not reactor.running:
            sys.exit(0)  # nothing was served yet
        # Once: a service manager may send the signal to all processes, and
        # then the supervisor does, too.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reactor.callFromThread(reactor.stop)  # type: ignore[attr-defined]

    # Before it is known to be there; the reactor puts a handler of its own in place.
    signal.signal(signal.SIGTERM, stop)
    line.send(ready=True)
    line.wait()
    reactor.callWhenRunning(signal.signal, signal.SIGTERM, stop)
    line.attach(reactor)
    reactor.run()
    line.finish()


def _encoded(message: object) -> bytes:
    return json.dumps(message).encode("ascii") + b"\n"


def _start(number: int, line: Line) -> None:
    from twisted.internet import reactor

    handed: Handed = pickle.loads(os.pread(HANDED, os.fstat(HANDED).st_size, 0))
    os.close(HANDED)
    module = import_module(handed.module)
    options = module.Options()
    options.update(handed.options)
    balance = Balance(handed.counts, len(handed.sockets), handed.workers)
    others = [each + 1 for each in range(handed.workers) if each + 1 != number]
    siblings = Siblings(others, lambda to, message: line.send(to=to, message=message), reactor)
    worker = Worker(number, siblings, handed, line, balance)

    def received(message: dict[str, Any]) -> None:
        match message:
            case {"beat": True}:
                line.send(beat=True)
            case {"failure": reason}:
                worker.on_failure(reason)
            case {"from": source, "message": passed_on}:
                siblings.received(source, passed_on)

    line.received = received
    service = module.serve(options, worker, reactor)
    service.privilegedStartService()
    service.startService()
    balance.open(number - 1)
    reactor.addSystemEventTrigger("before", "shutdown", balance.close, number - 1)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
