"""Coalescing: small requests to one server at the same time go as one request, a batch.

The requests of one reactor iteration go together.  While a batch is in flight, further requests
wait for its answer, so that batches grow with the load, but at most :data:`HOLD_SECONDS`: a server
that is far away, or slow with one request, does not hold up the others.  Each request keeps its
own deadline and outcome.  See :mod:`sos.model.batch` for the format.

Batches do not go through treq: with it, a fetch took 1.4 to 1.8 times the CPU of all servers over
one connection, and 1.3 times over 32.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from sos.aio.tasks import Running, run
from sos.errors import Unavailable, printable
from sos.http.client.bodies import (
    ANSWER_SECONDS,
    PROMPT_SECONDS,
    ResponseBody,
    TimedOut,
    network_failures,
)
from sos.http.server.request_ids import CURRENT
from sos.model import batch
from sos.model.batch import ALONE, FULL, MOST_BYTES, MOST_RECORDS, STORE, Answer, Record
from sos.stores.remote.client import Exchange, Response, error_of, gather

#: Longest time in seconds that a request waits for a batch before it, while fewer than
#: :data:`AT_ONCE` batches of its kind are in flight.
HOLD_SECONDS = 0.005
AT_ONCE = 16
#: Seconds until a server that knows no batches is sent one again: it may have been upgraded.
FORGET_SECONDS = 600.0

_PATH = "/batch"
# Statuses by which a server, or a proxy before it, says that it knows no such request.
_UNKNOWN_BATCH = frozenset({400, 403, 404, 405, 413, 415, 501})
# Most bytes of the reason of an error.
_MOST_OF_A_REASON = 500


class Coalescer:
    """Coalescer of the small requests to the server of *exchange*.

    :param excluded_until: the time, by the clock, until which the server is sent no batches.
    """

    def __init__(self, exchange: Exchange, excluded_until: float = 0.0) -> None:
        self.excluded_until = excluded_until
        self._exchange = exchange
        self._lanes: dict[tuple[bool, bool], _Lane] = {}

    async def ask(
        self, operation: int, id: str, metadata: bytes = b"", body: bytes = b""
    ) -> Answer | None:
        """Return the answer to one operation, None if it has to be requested by itself.

        Raises the error that its status stands for, or :exc:`~sos.errors.Unavailable` if there is
        no answer.
        """
        exchange = self._exchange
        if self.excluded_until and exchange.clock.seconds() < self.excluded_until:
            return None
        request_id = CURRENT.get()
        # Lanes of their own: a read does not wait for a sync, nor a client for a replication pass.
        key = operation == STORE, request_id is None
        lane = self._lanes.get(key)
        if lane is None:
            seconds = ANSWER_SECONDS if operation == STORE else PROMPT_SECONDS
            lane = self._lanes[key] = _Lane(self, exchange, seconds)
        record = Record(operation, request_id or b"", id.encode("ascii"), metadata, body)
        waiting = _Waiting(record.encode(), exchange.url)
        lane.add(waiting)
        exchange.deadlines.set(waiting, lane.seconds)
        try:
            answer = await waiting.answered
        finally:
            exchange.deadlines.clear(waiting)
        if answer is None or answer.status == 200:
            return answer
        if answer.status == ALONE:
            return None
        reason = printable(answer.body[:_MOST_OF_A_REASON].decode("utf-8", "replace"))
        reason = f"{exchange.url} answered {answer.status}: {reason}"
        raise error_of(answer.status, reason, lambda: exchange.metadata(answer))


class _Waiting:
    """A request that has not been answered.

    :param server: its server, for an error.
    :ivar record: the request as sent; None once it has been given up.
    :ivar sent: the batch in which it was sent.
    """

    __slots__ = ("_server", "answered", "record", "sent")

    def __init__(self, record: bytes, server: str) -> None:
        self._server = server
        self.record: bytes | None = record
        self.answered: Deferred[Answer | None] = Deferred(self._given_up)
        self.sent: _Sent | None = None

    def end(self, outcome: Answer | Failure | None) -> None:
        if not self.answered.called:
            self.answered.callback(outcome)

    def on_deadline(self) -> None:
        self.end(Failure(TimedOut(f"{self._server} did not answer in time")))
        self._given_up(self.answered)

    def _given_up(self, _: object) -> None:
        self.record = None
        if self.sent is not None:
            self.sent.given_up()


class _Sent:
    """A batch in flight, which is cancelled when all of its *waiting* have been given up.

    :ivar work: reads its answer.
    """

    def __init__(self, waiting: list[_Waiting]) -> None:
        self.waiting = waiting
        self.work: Running | None = None
        self._left = len(waiting)
        for each in waiting:
            each.sent = self

    def given_up(self) -> None:
        self._left -= 1
        if self._left == 0 and self.work is not None:
            self.work.cancel()

    def end(self, outcomes: Iterable[Answer | Failure | None]) -> None:
        for waiting, outcome in zip(self.waiting, outcomes, strict=True):
            waiting.sent = None
            waiting.end(outcome)


class _Lane:
    """Queue of the requests of one kind.

    :ivar seconds: timeout of a request.
    """

    def __init__(self, coalescer: Coalescer, exchange: Exchange, seconds: float) -> None:
        self.seconds = seconds
        self._coalescer = coalescer
        self._exchange = exchange
        self._queue: deque[_Waiting] = deque()
        self._in_flight = 0
        self._due: IDelayedCall | None = None

    def add(self, waiting: _Waiting) -> None:
        self._queue.append(waiting)
        self._plan()

    def _plan(self) -> None:
        if self._queue and self._due is None and self._in_flight < AT_ONCE:
            delay = HOLD_SECONDS if self._in_flight else 0
            self._due = self._exchange.clock.callLater(delay, self._begin)

    def _begin(self) -> None:
        self._due = None
        self._send()
        while len(self._queue) >= MOST_RECORDS and self._in_flight < AT_ONCE:
            self._send()  # it is full, and has nothing to wait for
        self._plan()

    def _send(self) -> None:
        waiting, body = self._take()
        if waiting:
            call = self._exchange.send("POST", _PATH, body=body, seconds=self.seconds)
            self._in_flight += 1
            sent = _Sent(waiting)
            sent.work = run(self._carry(sent, call), self._ended)

    def _take(self) -> tuple[list[_Waiting], bytes]:
        """Take the next batch from the queue; return its requests, and its body."""
        taken: list[_Waiting] = []
        records: list[bytes] = []
        size = 0
        while self._queue and size < FULL and len(taken) < MOST_RECORDS:
            waiting = self._queue.popleft()
            if waiting.record is not None:
                taken.append(waiting)
                records.append(waiting.record)
                size += len(waiting.record)
        return taken, b"".join(records)

    async def _carry(self, sent: _Sent, call: Deferred[Response]) -> None:
        count = len(sent.waiting)
        outcomes: Sequence[Answer | Failure | None]
        try:
            outcomes = await self._answers(call, count)
        except Exception:
            outcomes = [Failure()] * count
        sent.end(outcomes)

    async def _answers(self, call: Deferred[Response], count: int) -> Sequence[Answer | None]:
        """Return the answers to a batch of *count*: all None if the server takes no batches."""
        exchange = self._exchange
        with network_failures(exchange.url):
            response = await call
        text = response.whole()
        if text is None:
            text = await gather(ResponseBody(response, exchange.clock), MOST_BYTES)
        if response.code == 200:
            if len(text) > MOST_BYTES:
                raise Unavailable(f"{exchange.url} sent too large an answer to a batch")
            return batch.parse_answers(text, count)
        if response.code in _UNKNOWN_BATCH:
            self._coalescer.excluded_until = exchange.clock.seconds() + FORGET_SECONDS
            queue, self._queue = self._queue, deque()
            for waiting in queue:
                waiting.end(None)
        return [None] * count

    def _ended(self, outcome: Failure | None) -> None:
        self._in_flight -= 1
        if self._due is not None and not self._in_flight:
            self._due.reset(0)
        self._plan()
