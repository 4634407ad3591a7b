"""Periodic work of a daemon."""

from __future__ import annotations

from abc import ABC, abstractmethod

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()


class PeriodicService(Service, ABC):
    """A service that runs :meth:`work` periodically, in a ``LoopingCall``.

    The period is measured from the end of one run to the start of the next, so runs never
    overlap.  A run that fails is logged, and the next one comes as usual.  Stopping the
    service cancels the run in progress, and waits for its end.

    :param title: the name of the work in the log.
    """

    def __init__(self, title: str, clock: IReactorTime) -> None:
        self.clock = clock
        self._title = title
        self._loop = LoopingCall(self._run)
        self._loop.clock = clock
        self._work: Deferred[None] = succeed(None)
        self._busy = False

    @abstractmethod
    def delay(self) -> float:
        """Return the seconds until the next run."""

    @abstractmethod
    async def work(self) -> None:
        """Do the work once."""

    def startService(self) -> None:
        super().startService()
        if not self._busy:  # else the loop starts again when the run has ended
            self._start()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        self._work.cancel()
        return self._work

    def restart(self) -> None:
        """Begin anew with :meth:`delay`, after the run in progress if there is one."""
        if self._loop.running:
            self._loop.stop()

    def _start(self) -> None:
        self._loop.start(self.delay(), now=False).addCallback(self._stopped)

    def _stopped(self, loop: object) -> None:
        if self.running:
            self._start()

    def _run(self) -> Deferred[None]:
        self._work = ensureDeferred(self._attempt())
        return self._work

    async def _attempt(self) -> None:
        self._busy = True
        try:
            await self.work()
        except CancelledError:
            pass
        except Exception:
            _log.failure("periodic task failed, it will run again: {title}", title=self._title)
        finally:
            self._busy = False
        self._loop.interval = self.delay()
        self._loop.starttime = self.clock.seconds()
