"""The daemon, when it has workers: opens what they share, starts them, and starts them again."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.python.failure import Failure

from sos.errors import StoreUnusable
from sos.internals import keep_socket_usable
from sos.tap.balance import Balance, counts_file
from sos.tap.options import DaemonOptions
from sos.tap.services import Daemon, give_up, shut_down
from sos.tap.worker import FIRST_SHARED, HANDED, LINE, Handed
from sos.tap.workers import Place

_PROGRAM = "from sos.tap.worker import main; main({number})"


class Supervisor(Service):
    """Keeps so many workers running, which serve on the same sockets.

    SIGHUP is passed on to them.

    :param module: of the daemon, see :class:`~sos.tap.worker.Handed`.
    :param endpoints: strings of Twisted's, where to listen.
    :param claim: locks what the workers share, and returns the descriptor of
        the lock; None if there is nothing.
    """

    def __init__(
        self,
        module: str,
        options: DaemonOptions,
        endpoints: Sequence[str],
        claim: Callable[[], int] | None,
        reactor: Any,
    ) -> None:
        self._module = module
        self._options = options
        self._endpoints = endpoints
        self._claim = claim
        self._reactor = reactor
        self._ports: list[Any] = []
        self._places = [
            Place(
                number + 1,
                self._spawn,
                self._ready,
                self._failed,
                self._unusable,
                self._pass_on,
                self._ended,
                reactor,
            )
            for number in range(options["workers"])
        ]
        self._failure: str | None = None
        self._ending = False
        self._hung_up = False

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        try:
            for description in self._endpoints:
                self._listen(description)
        except (CannotListenError, OSError) as error:
            give_up(f"{error}{self._options.remedy(description)}")

    def _listen(self, description: str) -> None:
        ports: list[Any] = []
        errors: list[Failure] = []
        endpoint = serverFromString(self._reactor, description)
        endpoint.listen(_Nobody()).addCallbacks(ports.append, errors.append)
        if errors:
            errors[0].raiseException()
        if not ports:
            give_up(f"workers cannot share {description}, which is not there at once")
        port = ports[0]
        port.stopReading()  # for it is the workers that accept
        keep_socket_usable(port)
        self._ports.append(port)

    def startService(self) -> None:
        super().startService()
        try:
            self._lock = None if self._claim is None else self._claim()
            self._hand_over()
        except (StoreUnusable, OSError) as error:
            give_up(error)
        for place in self._places:
            place.start()
        for place in self._places:
            place.wait_until_ready()
        self._former = signal.signal(signal.SIGHUP, self._on_hang_up)

    def _hand_over(self) -> None:
        """Write what the workers are told into a file that has no name."""
        workers, sockets = len(self._places), len(self._ports)
        self._counts = counts_file(sockets, workers)
        self._balance = Balance(self._counts.fileno(), sockets, workers)
        self._shared = [port.fileno() for port in self._ports]
        self._shared.append(self._counts.fileno())
        if self._lock is not None:
            self._shared.append(self._lock)
        places = range(FIRST_SHARED, FIRST_SHARED + len(self._shared))
        handed = Handed(
            module=self._module,
            options=dict(self._options),
            workers=workers,
            started_at=self._reactor.seconds(),
            sockets=tuple(zip(self._endpoints, places, strict=False)),
            counts=places[sockets],
            lock=None if self._lock is None else places[sockets + 1],
        )
        self._handed = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the service stops
        self._handed.write(pickle.dumps(handed))
        self._handed.flush()

    def _spawn(self, number: int, line: int, protocol: ProcessProtocol) -> Any:
        """Start a process as worker *number*, with the descriptor *line* for its line."""
        descriptors = {0: 0, 1: 1, 2: 2, LINE: line, HANDED: self._handed.fileno()}
        descriptors.update(enumerate(self._shared, FIRST_SHARED))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        program = [sys.executable, "-P", "-c", _PROGRAM.format(number=number)]
        program += ["sos", self._options.program]  # for those who look at the list of processes
        return self._reactor.spawnProcess(
            protocol, sys.executable, program, environment, childFDs=descriptors
        )

    def _ready(self, place: Place) -> None:
        if self._failure is not None:
            place.tell_failure(self._failure)
        if self._hung_up:  # it was told what held when the daemon was started
            place.signal("HUP")

    def _failed(self, place: Place, reason: str) -> None:
        # It is for all of them, and for those that come after, until the
        # daemon is started again.
        if self._failure is None:
            self._failure = reason
            for other in self._places:
                if other is not place:
                    other.tell_failure(reason)

    def _unusable(self, reason: str) -> None:
        # Each worker says so, and it is one reason.
        if self.running and not self._ending:
            self._ending = True
            shut_down(reason, self._reactor)

    def _pass_on(self, source: int, targets: list[int], message: dict[str, Any]) -> None:
        for place in self._places:
            if place.number in targets:
                place.tell(source, message)

    def _ended(self, number: int) -> None:
        self._balance.close(number - 1)

    def _on_hang_up(self, *_: object) -> None:
        self._reactor.callFromThread(self._pass_hang_up_on)

    def _pass_hang_up_on(self) -> None:
        self._hung_up = True
        for place in self._places:
            place.signal("HUP")

    def stopService(self) -> Deferred[None]:
        super().stopService()
        signal.signal(signal.SIGHUP, self._former)
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        ends = [place.stop() for place in self._places]
        for port in self._ports:
            await port.stopListening()
        await gatherResults(ends)
        self._handed.close()
        self._counts.close()
        if self._lock is not None:
            os.close(self._lock)


class _Nobody(Factory):
    """Takes no connection: it is for the workers to do that."""

    noisy = False

    def logPrefix(self) -> str:
        return "Workers"

    def buildProtocol(self, addr: object) -> None:
        return None


def supervised(
    module: str,
    options: DaemonOptions,
    endpoints: Sequence[str],
    claim: Callable[[], int] | None,
    reactor: Any,
) -> MultiService:
    """Return a daemon that is a :class:`Supervisor`, of which this has the arguments."""
    whole = Daemon()
    Supervisor(module, options, endpoints, claim, reactor).setServiceParent(whole)
    return whole
