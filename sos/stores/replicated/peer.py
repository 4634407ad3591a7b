"""One server of a replicated store, with its circuit breaker and health record."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from sos.errors import Conflict, NoSpace, NotFound, ReadOnly, SOSError, Unavailable
from sos.interfaces import Member, StoreStatus
from sos.model.membership import View
from sos.monitoring.server_health import HealthRecord

T = TypeVar("T")

#: Back-off after a first failure, in seconds; it doubles with each further failure.
FIRST_BACKOFF_SECONDS = 1.0
#: Longest back-off, in seconds.
LONGEST_BACKOFF_SECONDS = 60.0
#: Seconds without an answer after which a server counts as failed, for now.
SLOW_SECONDS = 1.0

# Recent answers whose latencies are kept.
_REMEMBERED = 256

_log = Logger()


def backoff_seconds(failures: int) -> float:
    """Return the back-off in seconds for a failure that follows *failures* others."""
    return min(FIRST_BACKOFF_SECONDS * 2 ** min(failures, 16), LONGEST_BACKOFF_SECONDS)


class Peer:
    """Server of a group, with a circuit breaker.

    The breaker opens when the server fails.  The server's status is then probed, with a
    growing back-off, until it answers; or, if it refused a blob because it is full or
    read-only, until it is writable.

    :param group: its group.
    :ivar error: the last failure while the breaker is open, None while it is closed.
    :ivar refusal: why the server takes no blobs at present, None when it does.
    :ivar identity: the id of its store, None if unknown.
    :ivar others: the views of API servers that differ from ours, from its last status; None
        if it collects none.
    :ivar before: the former id of its store, if that has changed.
    :ivar tombstones: whether its last status says that it remembers deletions, None if unknown.
    """

    def __init__(self, member: Member, group: str, clock: Any) -> None:
        self.name = member.name
        self.store = member.store
        self.member = member
        self.group = group
        self.error: str | None = None
        self.refusal: str | None = None
        self.identity: str | None = None
        self.before: str | None = None
        self.others: tuple[View, ...] | None = None
        self.tombstones: bool | None = None
        self._requests = 0
        self._errors = 0
        self._last_error: tuple[str, float] | None = None
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._clock = clock
        self._failures = 0
        self._stopped = False
        self._due: IDelayedCall | None = None
        self._probe: Deferred[StoreStatus] | None = None

    @property
    def takes_blobs(self) -> bool:
        """Whether its circuit breaker is closed and it has not refused blobs."""
        return self.error is None and self.refusal is None

    async def attempt(self, work: Awaitable[T]) -> T:
        """Await *work*, a request to this server, and record its outcome and latency."""
        self._requests += 1
        begun = self._clock.seconds()
        try:
            result = await work
        except Unavailable as error:
            self.failed(error)
            raise
        except (NoSpace, ReadOnly) as error:
            self._count_error(str(error))
            self._refused(str(error))
            raise
        except (NotFound, Conflict):  # valid answers, not failures
            self._latencies.append(self._clock.seconds() - begun)
            raise
        except SOSError as error:
            self._count_error(str(error))
            raise
        self._latencies.append(self._clock.seconds() - begun)
        if self.error is not None:
            self._answers()
        return result

    def failed(self, error: SOSError) -> None:
        """Record a failure, and open the circuit breaker."""
        if self.error is None:
            _log.warn("circuit breaker opened, server={name}: {error}", name=self.name, error=error)
        self.error = str(error)
        self._count_error(self.error)
        self._back_off()

    def record_status(self, status: StoreStatus) -> None:
        """Record the store id, the abilities and the views of API servers from a *status*."""
        self.identify(status.id)
        self.tombstones = status.tombstones
        self.others = status.others

    def identify(self, id: str | None) -> None:
        """Record the *id* of its store, if it has one, and the former id if that changes."""
        if id is None or id == self.identity:
            return
        if self.identity is not None:
            self.before = self.identity
        self.identity = id

    def is_twin_of(self, other: Peer) -> bool:
        """Return whether both are known to be the same store."""
        return self.identity is not None and self.identity == other.identity

    def mark_slow(self) -> None:
        """Open the circuit breaker because an answer takes too long; it may still come."""
        if self.error is None:  # requests that wait at the same time count as one failure
            self.failed(Unavailable("it did not answer in time"))

    def _count_error(self, error: str) -> None:
        self._errors += 1
        self._last_error = error, self._clock.seconds()

    def health_record(self) -> HealthRecord:
        """Return the request metrics and the state of the circuit breaker."""
        now = self._clock.seconds()
        due, last = self._due, self._last_error
        return HealthRecord(
            requests=self._requests,
            errors=self._errors,
            latencies=tuple(self._latencies),
            last_error=None if last is None else (last[0], now - last[1]),
            failure=self.error,
            refusal=self.refusal,
            asked_again=None if due is None else due.getTime() - now,
        )

    def _refused(self, reason: str) -> None:
        if self.refusal is None:
            _log.warn(
                "server takes no blobs, server={name}: {reason}", name=self.name, reason=reason
            )
        self.refusal = reason
        self._back_off()

    def _answers(self) -> None:
        if self.error is not None:
            _log.info("circuit breaker closed, server={name}", name=self.name)
            self.error = None
        self._failures = 0

    def _back_off(self) -> None:
        if self._due is None and self._probe is None and not self._stopped:
            self._due = self._clock.callLater(backoff_seconds(self._failures), self._ask)
            self._failures += 1

    def _ask(self) -> None:
        self._due = None
        probe = self._probe = ensureDeferred(self.store.status())
        probe.addCallbacks(self._probed, self._probe_failed)

    def _probed(self, status: StoreStatus) -> None:
        self._probe = None
        self._answers()
        self.record_status(status)
        if status.refusal is not None:
            self._failures = 3  # a disk is not emptied within seconds
            self._refused(status.refusal)
        elif self.refusal is not None:
            _log.info("server takes blobs again, server={name}", name=self.name)
            self.refusal = None

    def _probe_failed(self, failure: Failure) -> None:
        self._probe = None
        if failure.check(CancelledError):
            return
        if not failure.check(SOSError):
            _log.failure(
                "cannot ask a server for its status, server={name}", failure, name=self.name
            )
        if self.error is not None:
            self.error = str(failure.value)
        self._back_off()

    def stop(self) -> None:
        """Stop probing; failures of requests in flight start no new probe."""
        self._stopped = True
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._probe is not None:
            probe, self._probe = self._probe, None
            probe.cancel()
