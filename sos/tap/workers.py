"""The workers of a daemon, as their supervisor sees them."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from sos.tap import logs
from sos.tap.services import STOP_SECONDS, CannotStart, give_up

#: Seconds that a worker has to be ready.
START_SECONDS = 60.0
#: Seconds between the questions whether a worker is alive.
BEAT_SECONDS = 5.0
#: How many of them in a row a worker that is ready may leave unanswered: for half a
#: minute it may be busy, wait for a disk, or get no processor.
MOST_UNANSWERED = 6
#: Seconds that a worker has to end before it is killed: what it gives requests
#: under way, and some more to close the store.
END_SECONDS = STOP_SECONDS + 10.0

# Seconds between the end of a worker and the start of the next in its place.
_LEAST_WAIT, _MOST_WAIT = 1.0, 60.0
# Seconds after which a worker's end says nothing of its start.
_SETTLED = 60.0

_log = Logger()


@define
class Backoff:
    """How long to wait, in seconds, before what has ended is started again."""

    _wait: float = 0.0

    def after(self, seconds: float) -> float:
        """Return the wait after it has run for so many *seconds*."""
        if seconds >= _SETTLED or not self._wait:
            self._wait = _LEAST_WAIT
        else:
            self._wait = min(2 * self._wait, _MOST_WAIT)
        return self._wait


class Place:
    """One of the workers: the process that it is now, and those after it.

    :param number: from 1 to the number of workers.
    :param spawn: starts a process, given the number, the descriptor of its
        line, and a protocol.
    :param ready: called when a process serves.
    :param failed: called when one says that the store is read-only, and why.
    :param unusable: called when one that was started with the daemon says that
        the store cannot be used, and why.
    :param passes_on: called when one has a message for other workers: with its
        number, with theirs, and the message.
    :param ended: called with the number when one has ended.
    """

    def __init__(
        self,
        number: int,
        spawn: Callable[[int, int, ProcessProtocol], Any],
        ready: Callable[[Place], None],
        failed: Callable[[Place, str], None],
        unusable: Callable[[str], None],
        passes_on: Callable[[int, list[int], dict[str, Any]], None],
        ended: Callable[[int], None],
        reactor: Any,
    ) -> None:
        self.number = number
        self._spawn = spawn
        self._tell_ready = ready
        self._tell_failed = failed
        self._tell_unusable = unusable
        self._passes_on = passes_on
        self._tell_ended = ended
        self._reactor = reactor
        self._backoff = Backoff()
        self._running = False
        self._ready = False
        self._restarted = False
        self._beating: IDelayedCall | None = None
        self._stopping: Deferred[None] | None = None
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Start a process; what it has to say is read by what is called next."""
        self._ready = False
        self._refusal: str | None = None
        self._unanswered = 0
        self._started_at = self._reactor.seconds()
        self._line = _Line(self._on_message)
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = self._spawn(self.number, theirs.fileno(), _Process(self._on_end))
        self._running = True

    def wait_until_ready(self) -> None:
        """Return when the process serves; when it does not, end the daemon's start."""
        deadline = self._reactor.seconds() + START_SECONDS
        while not self._ready:
            self._connection.settimeout(max(deadline - self._reactor.seconds(), 0.01))
            try:
                data = self._connection.recv(65536)
            except TimeoutError:
                give_up(f"worker {self.number} is not ready after {START_SECONDS:g} s")
            if not data:
                give_up(f"worker {self.number} ended before it was ready")
            self._line.dataReceived(data)
            if self._refusal is not None:  # which is in the log
                raise CannotStart(self._refusal)
        self._listen()

    def _listen(self) -> None:
        self._connection.setblocking(False)
        factory = Factory.forProtocol(lambda: self._line)
        factory.noisy = False
        self._reactor.adoptStreamConnection(self._connection.fileno(), socket.AF_UNIX, factory)
        self._connection.close()
        self._beat()

    def _beat(self) -> None:
        # Counted and not timed: while this process is suspended, or when the clock
        # is set, no worker is asked, and none has failed to answer.
        most = MOST_UNANSWERED if self._ready else START_SECONDS // BEAT_SECONDS
        if self._unanswered >= most:
            _log.error(
                "worker {number} hangs, process {process}: it has not answered for {silence:g} s, "
                "and is killed",
                number=self.number,
                process=self._process.pid,
                silence=self._unanswered * BEAT_SECONDS,
            )
            self._kill("KILL")
            return
        self._unanswered += 1
        self._line.send({"beat": True})
        self._beating = self._reactor.callLater(BEAT_SECONDS, self._beat)

    def _stop_beating(self) -> None:
        if self._beating is not None and self._beating.active():
            self._beating.cancel()

    def _on_message(self, message: dict[str, Any]) -> None:
        match message:
            case {"log": entry}:
                Logger(namespace=entry["logger"]).emit(
                    LogLevel.lookupByName(entry["level"]),
                    "worker {number}: {text}",
                    number=self.number,
                    text=logs.as_text(entry),
                    **{logs.WORKERS_ENTRY: {**entry, "worker": self.number}},
                )
            case {"beat": True}:
                self._unanswered = 0
            case {"ready": True}:
                self._ready = True
                self._unanswered = 0
                _log.info(
                    "worker {number} serves, process {process}",
                    number=self.number,
                    process=self._process.pid,
                )
                self._tell_ready(self)
                # Which leaves here when the reactor runs, with all workers ready.
                self._line.send({"go": True})
            case {"cannot": reason}:
                self._refusal = reason
            case {"failure": reason}:
                self._tell_failed(self, reason)
            case {"unusable": reason} if self._restarted:
                # The others may well have the store open.
                _log.error("worker {number}: {reason}", number=self.number, reason=reason)
                self._kill("TERM")
            case {"unusable": reason}:
                self._tell_unusable(reason)
            case {"to": numbers, "message": passed_on}:
                self._passes_on(self.number, numbers, passed_on)

    def _on_end(self, reason: Failure) -> None:
        self._running = self._ready = False
        self._stop_beating()
        self._tell_ended(self.number)
        if self._stopping is not None:
            self._stopping.callback(None)
            return
        wait = self._backoff.after(self._reactor.seconds() - self._started_at)
        _log.error(
            "worker {number} ended, {how}; it is started again in {wait:g} s",
            number=self.number,
            how=_describe(reason.value),
            wait=wait,
        )
        self._next = self._reactor.callLater(wait, self._start_again)

    def _start_again(self) -> None:
        self._restarted = True
        try:
            self.start()
        except OSError as error:  # no process, or no descriptor, can be had now
            _log.error("worker {number}: {error}", number=self.number, error=error)
            wait = self._backoff.after(0.0)
            self._next = self._reactor.callLater(wait, self._start_again)
        else:
            self._listen()

    def tell_failure(self, reason: str) -> None:
        """Tell the worker that the store is read-only."""
        self._line.send({"failure": reason})

    def tell(self, source: int, message: dict[str, Any]) -> None:
        """Give the worker, if one serves, what the worker *source* has for it."""
        if self._ready:
            self._line.send({"from": source, "message": message})

    def signal(self, name: str) -> None:
        """Send a signal to the process, if that is ready for one."""
        if self._ready:
            self._kill(name)

    def _kill(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(name)

    def stop(self) -> Deferred[None]:
        """End the process, and start none again; fires when it has ended."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if not self._running:
            return succeed(None)
        self._stop_beating()
        self._stopping = Deferred()
        self._kill("TERM")
        late = self._reactor.callLater(END_SECONDS, self._kill, "KILL")
        return self._stopping.addCallback(lambda _: late.cancel() if late.active() else None)


def _describe(end: Any) -> str:
    return f"exit status {end.exitCode}" if end.signal is None else f"by signal {end.signal}"


class _Process(ProcessProtocol):
    def __init__(self, ended: Callable[[Failure], None]) -> None:
        self._ended = ended

    def processEnded(self, reason: Failure) -> None:
        self._ended(reason)


class _Line(Protocol):
    """The supervisor's end of the line, see :mod:`sos.tap.worker`."""

    def __init__(self, received: Callable[[dict[str, Any]], None]) -> None:
        self._message = received
        self._received = b""
        self._unsent = b""

    def connectionMade(self) -> None:
        self.transport.write(self._unsent)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._message(json.loads(line))

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode("ascii") + b"\n"
        if self.transport is None:
            self._unsent += data
        else:
            self.transport.write(data)
