"""Coalescing of reads, work and writes of all connections per reactor iteration.

In each iteration, first all connections with data are read, then the requests are handled,
then the answers are sent.  If each request were read, handled and answered by itself, every
answer would wake its reader, and the processor would switch between kernel and program all
the time: a blob server answered two fifths fewer requests.

Connections are served round-robin, one request at a time.  So a client waits for one request
of each other client, however many these have sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from twisted.internet.tcp import Connection
from twisted.logger import Logger

from sos.aio.limited_log import LimitedLog
from sos.aio.twisted_internals import is_buffering

# Most bytes that one connection buffers in one direction until the end of the iteration.
# Coalescing larger data would save less than it costs.
_MOST_BYTES = 16 * 1024

#: Most calls per reactor iteration, before the sockets are polled again.
MOST_PER_ITERATION = 256

_Do = Callable[[], None]

_log = Logger()


class IterationQueue:
    """Queue of the work in the current iteration of a reactor, one for each reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._queue: deque[tuple[_Do, _Do]] = deque()
        self._to_send: list[Sender] = []
        self._is_set = False
        self._failures = LimitedLog(_log, lambda: self._reactor.seconds())

    def add(self, do: _Do, abort: _Do) -> None:
        """Call *do* after all connections have been read, in the order of these calls.

        :param abort: called if *do* raises; aborts the connection concerned.
        """
        self._queue.append((do, abort))
        if not self._is_set:
            self._set()

    def to_send(self, sender: Sender) -> None:
        """Flush *sender* after the calls of this iteration."""
        self._to_send.append(sender)
        if not self._is_set:
            self._set()

    def _set(self) -> None:
        self._is_set = True
        self._reactor.callLater(0, self._end)

    def _end(self) -> None:
        queue = self._queue
        left = MOST_PER_ITERATION
        while queue and left:  # calls may add to the queue
            self._attempt(*queue.popleft())
            left -= 1
        self._is_set = False
        to_send, self._to_send = self._to_send, []
        for sender in to_send:
            self._attempt(sender.flush, sender.transport.abortConnection)
        if queue and not self._is_set:
            self._set()

    def _attempt(self, do: _Do, abort: _Do) -> None:
        """Call *do* for one connection; an error aborts that connection, and no other."""
        try:
            do()
        except BaseException:  # as the reactor itself does
            self._failures.failure("internal error, connection closed")
            abort()


#: Returns the queue of a reactor.  A process has one reactor; tests have their own.
queue_of = lru_cache(maxsize=16)(IterationQueue)


def _queue_at(transport: Any) -> IterationQueue | None:
    """Return the queue for *transport*, None unless *transport* is a bare socket."""
    return queue_of(transport.reactor) if isinstance(transport, Connection) else None


class Receiver:
    """Buffer of received data until all connections have been read in this iteration.

    :param take: called with the data.
    :param abort: aborts the connection.
    """

    def __init__(
        self, transport: Any, take: Callable[[bytes], None], abort: Callable[[], None]
    ) -> None:
        self.abort = abort
        self._take = take
        self._iteration_queue = _queue_at(transport)
        self._data = b""

    def receive(self, data: bytes) -> None:
        """Buffer *data*, or pass it on at once if it is large or there is no queue."""
        earlier, self._data = self._data, b""
        data = earlier + data
        if self._iteration_queue is None or len(data) > _MOST_BYTES:
            self._take(data)
            return
        if not earlier:
            self._iteration_queue.add(self.pass_on, self.abort)
        self._data = data

    @property
    def waits(self) -> bool:
        """Whether there is buffered data."""
        return bool(self._data)

    def pass_on(self) -> None:
        """Pass on the buffered data now."""
        if self._data:
            data, self._data = self._data, b""
            self._take(data)


class Sender:
    """Buffer of data to send at the end of the reactor iteration."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self._iteration_queue = _queue_at(transport)
        self._pieces: list[bytes] = []
        self._bytes = 0

    def send(self, data: bytes) -> None:
        """Send *data* in this iteration, after the data that is buffered already."""
        if self._iteration_queue is None:
            self.transport.write(data)
            return
        if not self._pieces:
            self._iteration_queue.to_send(self)
        self._pieces.append(data)
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send the buffered data now."""
        if self._pieces:
            data = b"".join(self._pieces)
            self.drop()
            self._send_now(data)

    def drop(self) -> None:
        """Discard the buffered data, because the connection is broken."""
        self._pieces.clear()
        self._bytes = 0

    def _send_now(self, data: bytes) -> None:
        transport = self.transport
        if self.is_clear:
            # Twisted would wait until the socket is writable, which costs two system
            # calls and a reactor iteration.
            sent = transport.writeSomeData(data)
            if sent == len(data):
                return
            if isinstance(sent, int):  # else an error, which write() will handle
                data = data[sent:]
        transport.write(data)

    @property
    def is_clear(self) -> bool:
        """Whether the transport is a bare socket, and buffers no data."""
        return self._iteration_queue is not None and not is_buffering(self.transport)
