"""A thing that is done again and again, for as long as a daemon runs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()


class RepeatingService(Service, ABC):
    """Does its :meth:`work` each time that :meth:`delay` has passed.

    Work that fails is logged and done again later.  When the service stops,
    work under way is cancelled.

    :param title: what to call the work in the log.
    """

    def __init__(self, title: str, clock: IReactorTime) -> None:
        self.clock = clock
        self._title = title
        self._next: IDelayedCall | None = None
        self._working: Deferred[None] = succeed(None)
        self._busy = False

    @abstractmethod
    def delay(self) -> float:
        """Return the seconds until the work is to be done."""

    @abstractmethod
    async def work(self) -> None:
        """Do it once."""

    def startService(self) -> None:
        super().startService()
        if not self._busy:  # else its end does that
            self._schedule()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._working.cancel()
        return self._working

    def _schedule(self) -> None:
        self._next = self.clock.callLater(self.delay(), self._begin)

    def _begin(self) -> None:
        self._working = ensureDeferred(self._once())

    async def _once(self) -> None:
        # Whatever happens this time, there will be a next time.
        self._busy = True
        try:
            await self.work()
        except CancelledError:
            pass
        except Exception:
            _log.failure("{title} failed; it will be tried again", title=self._title)
        finally:
            self._busy = False
            if self.running:
                self._schedule()
