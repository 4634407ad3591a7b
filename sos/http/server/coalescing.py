"""What is done once in a turn of the reactor, for all of its connections together.

First what has come is read, from each connection that has something; then it
is worked through, one request after the other; then the answers are sent.  Were
each request read, worked through and answered by itself, every answer would
wake its reader, and the processor would go back and forth between the system's
code and ours: a blob server answered two fifths less.

Connections take turns: one that has sent many requests has one of them answered,
and the next when all others that wait have had one.  So what a client waits for is
one request of each other, however much they have sent.
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

# Most bytes that wait for the rest of the turn, of one connection and in one
# direction: to handle what is larger costs more than what is saved here.
_MOST_BYTES = 16 * 1024

#: Requests and answers that are worked through before the sockets are looked at again.
MOST_IN_A_TURN = 256

_Do = Callable[[], None]

_log = Logger()


class Turn:
    """The turn that a reactor is in: of each reactor there is one."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._queue: deque[tuple[_Do, _Do]] = deque()
        self._to_send: list[Sender] = []
        self._is_set = False
        self._failures = LimitedLog(_log, lambda: self._reactor.seconds())

    def add(self, do: _Do, abort: _Do) -> None:
        """Have *do* called when all has been read, behind what was added before.

        :param abort: breaks the connection that it is done for, if it fails.
        """
        self._queue.append((do, abort))
        if not self._is_set:
            self._set()

    def to_send(self, sender: Sender) -> None:
        """Have *sender* send what it has when everything has been worked through."""
        self._to_send.append(sender)
        if not self._is_set:
            self._set()

    def _set(self) -> None:
        self._is_set = True
        self._reactor.callLater(0, self._end)

    def _end(self) -> None:
        queue = self._queue
        left = MOST_IN_A_TURN
        while queue and left:  # which may become more
            self._attempt(*queue.popleft())
            left -= 1
        self._is_set = False
        to_send, self._to_send = self._to_send, []
        for sender in to_send:
            self._attempt(sender.flush, sender.transport.abortConnection)
        if queue and not self._is_set:
            self._set()

    def _attempt(self, do: _Do, abort: _Do) -> None:
        """Do what is of one connection: whatever goes wrong there ends that one, and no other."""
        try:
            do()
        except BaseException:  # as the reactor has it
            self._failures.failure("a connection is broken off")
            abort()


#: Returns the turn of a reactor: there is one in a process; tests have their own.
turn_of = lru_cache(maxsize=16)(Turn)


def _turn_at(transport: Any) -> Turn | None:
    """Return the turn that *transport* is served in, None unless it is a bare socket's."""
    return turn_of(transport.reactor) if isinstance(transport, Connection) else None


class Receiver:
    """What has come over a connection, passed on with what comes in the same turn over others.

    :param take: is given it.
    :param abort: breaks the connection.
    """

    def __init__(
        self, transport: Any, take: Callable[[bytes], None], abort: Callable[[], None]
    ) -> None:
        self.abort = abort
        self._take = take
        self._turn = _turn_at(transport)
        self._data = b""

    def receive(self, data: bytes) -> None:
        """Take what has been read: in the order in which it came."""
        earlier, self._data = self._data, b""
        data = earlier + data
        if self._turn is None or len(data) > _MOST_BYTES:
            self._take(data)
            return
        if not earlier:
            self._turn.add(self.pass_on, self.abort)
        self._data = data

    @property
    def waits(self) -> bool:
        """Whether something has come that has not been passed on."""
        return bool(self._data)

    def pass_on(self) -> None:
        """Pass on now what has come."""
        if self._data:
            data, self._data = self._data, b""
            self._take(data)


class Sender:
    """What is sent over a connection, with what is sent in the same turn over others."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self._turn = _turn_at(transport)
        self._pieces: list[bytes] = []
        self._bytes = 0

    def send(self, data: bytes) -> None:
        """Send *data* in this turn, behind what was to be sent before."""
        if self._turn is None:
            self.transport.write(data)
            return
        if not self._pieces:
            self._turn.to_send(self)
        self._pieces.append(data)
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send now what is to be sent."""
        if self._pieces:
            data = b"".join(self._pieces)
            self.drop()
            self._send_now(data)

    def drop(self) -> None:
        """Send nothing of what is to be sent: the connection is broken."""
        self._pieces.clear()
        self._bytes = 0

    def _send_now(self, data: bytes) -> None:
        transport = self.transport
        if self.is_clear:
            # Twisted would wait for the socket to say that it can be written to,
            # which costs two system calls and a turn of the reactor.
            sent = transport.writeSomeData(data)
            if sent == len(data):
                return
            if isinstance(sent, int):  # else an error, which write() will meet again
                data = data[sent:]
        transport.write(data)

    @property
    def is_clear(self) -> bool:
        """Whether it is a bare socket, and nothing waits for it to be written to."""
        return self._turn is not None and not is_buffering(self.transport)
