"""Output to a client, with flow control."""

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
    """Replace :meth:`Output.send` on an aborted connection."""


class Output:
    """Output side of a connection.

    :param changed: called when :attr:`full` has changed.
    :ivar full: whether the transport's buffer is full.
    """

    send: Callable[[bytes], None]

    def __init__(self, transport: Any, changed: Callable[[], None]) -> None:
        self._transport = transport
        self._sender = Sender(transport)
        #: Sends data at the end of this reactor iteration, or as soon as the client reads.
        self.send = self._sender.send
        #: Passes the buffered data to the transport now, before that is closed.
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
        """Send part of an open file; return when the kernel has accepted all of it.

        Raises :exc:`~sos.errors.Incomplete` if the file ends early, or the connection
        is lost.
        """
        self.flush()
        while start < stop:
            if self._aborted:
                raise Incomplete("cannot send the answer: the connection was aborted")
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
                raise Incomplete(f"cannot send the answer: {error}") from error
            if sent == 0:
                raise Incomplete("the file is shorter than its recorded size")
            start += sent

    async def drained(self) -> None:
        """Wait until the transport can take more output."""
        if self._drained is not None:
            waiter: Deferred[None] = Deferred()
            self._drained.addCallback(lambda _: waiter.callback(None))
            await waiter

    async def _writable(self) -> None:
        # Pause as if the transport's buffer were full.  The buffer is empty, so the
        # transport resumes as soon as the socket is writable.
        self.pauseProducing()
        call_when_writable(self._transport)
        await self.drained()

    def abort(self) -> None:
        """Discard the buffered data, and all data that is written from now on.

        An aborted answer must not end like a complete one, with the last chunk of a
        chunked body or the rest of a file (RFC 9112, 8).
        """
        self._aborted = True
        self._sender.drop()
        self.send = _discard

    def close(self) -> None:
        """Discard everything after the connection is lost, and wake the writers that wait."""
        self.abort()
        self._let_go_on()

    def _let_go_on(self) -> None:
        self.full = False
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    # Called by the transport.

    def pauseProducing(self) -> None:
        """Note that the transport's buffer is full."""
        if not self.full:
            self.full = True
            self._drained = Deferred()
            self._changed()

    def resumeProducing(self) -> None:
        """Note that the transport can take more output."""
        self._let_go_on()
        self._changed()

    def stopProducing(self) -> None:
        """Do nothing: connectionLost follows."""
