"""What is sent to a client: no faster than it is taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.tcp import Connection

from sos.aio.twisted_internals import call_when_writable
from sos.errors import Incomplete
from sos.http.server.coalescing import Sender


def _discard(data: bytes) -> None:
    """Take the place of :meth:`Output.send` on an aborted connection."""


class Output:
    """The way out of a connection.

    :param changed: called when :attr:`full` has changed.
    :ivar full: whether the transport has enough to send for now.
    """

    send: Callable[[bytes], None]

    def __init__(self, transport: Any, changed: Callable[[], None]) -> None:
        self._transport = transport
        self._sender = Sender(transport)
        #: Sends what it is given; in this turn of the reactor, or when it can be.
        self.send = self._sender.send
        #: Gives the transport now what is sent in this turn: it is to be closed.
        self.flush = self._sender.flush
        self._changed = changed
        self.full = False
        self._drained: Deferred[None] | None = None
        self._aborted = False
        transport.registerProducer(self, True)

    @property
    def sends_files(self) -> bool:
        """Whether :meth:`send_file` can be called: not over TLS."""
        return isinstance(self._transport, Connection)

    async def send_file(self, descriptor: int, start: int, stop: int) -> None:
        """Send part of an open file; returns when the system has taken all of it.

        Raises :exc:`~sos.errors.Incomplete` when it is not to be had, or nobody
        is there to take it.
        """
        self.flush()
        while start < stop:
            if self._aborted:
                raise Incomplete("the answer cannot be sent: its connection was aborted")
            if self.full:
                await self.drained()
            elif not self._sender.is_clear:
                await self._writable()
            try:
                sent = os.sendfile(self._transport.fileno(), descriptor, start, stop - start)
            except BlockingIOError:
                await self._writable()
                continue
            except OSError as error:
                raise Incomplete(f"the answer cannot be sent: {error}") from error
            if sent == 0:
                raise Incomplete("the file ended early")
            start += sent

    async def drained(self) -> None:
        """Return when the transport can take more."""
        if self._drained is not None:
            waiter: Deferred[None] = Deferred()
            self._drained.addCallback(lambda _: waiter.callback(None))
            await waiter

    async def _writable(self) -> None:
        # As the transport does to a producer that has written too much: it
        # says when the socket can be written to, and nothing waits before it.
        self.pauseProducing()
        call_when_writable(self._transport)
        await self.drained()

    def abort(self) -> None:
        """Discard what has not been sent yet, and all that is written from now on.

        An answer that is aborted must not end like a whole one: the last chunk of a
        chunked body, or the rest of a file, is not to follow (RFC 9112, 8).
        """
        self._aborted = True
        self._sender.drop()
        self.send = _discard

    def close(self) -> None:
        """The connection is lost: discard everything, and let those go on who wait for room."""
        self.abort()
        self._let_go_on()

    def _let_go_on(self) -> None:
        self.full = False
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    # What the transport calls.

    def pauseProducing(self) -> None:
        """The transport has enough to send for now."""
        if not self.full:
            self.full = True
            self._drained = Deferred()
            self._changed()

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self._let_go_on()
        self._changed()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""
