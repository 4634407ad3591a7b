"""The client's side of a connection, which sends one request after the other."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import httptools
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IConsumer, IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    RequestGenerationFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from sos.http.client.request import Call
from sos.http.client.response import Response
from sos.http.server.coalescing import Receiver, Sender
from sos.http.server.request_body import LARGE_READ, SMALL_READ

#: Seconds to wait for ``100 Continue`` before the body is sent all the same.
CONTINUE_SECONDS = 1.0
#: Most bytes of the head of an answer, and of the line before a chunk.
MAX_HEAD_BYTES = 64 * 1024

_BODILESS = frozenset({204, 304})
# One object for all answers, because there are thousands a second.
_DONE = Failure(ResponseDone())


class ConnectionReclaimed(ConnectionAborted):
    """A slow reader's connection was aborted, because another request needed it."""


class BadAnswer(Exception):
    """The server's answer is malformed or too large."""


class Pool(typing.Protocol):
    """The pool of connections to a server."""

    def later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Schedule *call* after *seconds*."""
        ...

    def freed(self, connection: Connection) -> None:
        """Use the *connection* for the next request."""
        ...

    def lost(self, connection: Connection) -> None:
        """Forget the *connection*, which is lost."""
        ...

    def forget(self, connection: Connection) -> None:
        """Send no further requests on the *connection*."""
        ...

    def reader_paused(self, connection: Connection) -> None:
        """Record that the reader of the answer on the *connection* has paused."""
        ...

    def reader_resumed(self, connection: Connection) -> None:
        """Record that the reader has resumed."""
        ...

    def retry_or_fail(self, call: Call, failure: Failure, reused: bool) -> None:
        """Send the request *call* again, or make it fail."""
        ...


@implementer(IConsumer)
class Connection(Protocol):
    """Connection to a server, which sends requests and parses the answers.

    :param server: the pool of the connection.
    :ivar reused: whether the connection has served a request before.
    :ivar idle_since: in seconds of the reactor's clock; for the pool.
    """

    transport: Any
    _receiver: Receiver
    _sender: Sender

    def __init__(self, server: Pool) -> None:
        self._server = server
        self.reused = False
        self.idle_since = 0.0
        self._call: Call | None = None
        self._bodiless = False
        self._body: IBodyProducer | None = None
        # The timer while the body waits for "100 Continue".
        self._holding: IDelayedCall | None = None
        self._chunked = False
        self._unsent: int | None = None
        self._paused = False
        self._broken = self._lost = False
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._response: Response | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._phrase = b""
        self._silent_bytes = 0
        self._complete = False
        self._keep = False
        self._may_go_on = False

    # The request.

    def connectionMade(self) -> None:
        self._receiver = Receiver(self.transport, self._take, self.abort)
        self._sender = Sender(self.transport)
        self.transport.registerProducer(self, True)
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)

    def send(self, call: Call) -> None:
        """Send a request; *call* gets the answer or the failure."""
        self._reset()
        if self._bodiless:  # after the previous request, the parser still waits for a body
            self._parser = httptools.HttpResponseParser(self)
        self._call = call
        call.connection = self
        self._bodiless = call.bodiless
        body = call.body
        head = call.head if call.sign is None else call.head + call.sign()
        if body is None:
            self._sender.send(head + b"\r\n")
        elif isinstance(body, bytes):
            self._sender.send(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body))
        else:
            self._chunked = body.length is UNKNOWN_LENGTH
            framing = (
                b"Transfer-Encoding: chunked\r\n\r\n"
                if self._chunked
                else b"Content-Length: %d\r\n\r\n" % body.length
            )
            expects = getattr(body, "expects", False)
            if expects:
                head += b"Expect: 100-continue\r\n"
            self._sender.send(head + framing)
            self._body = body
            self._unsent = None if self._chunked else int(body.length)
            if expects:
                self._holding = self._server.later(CONTINUE_SECONDS, self._produce)
            else:
                self._produce()

    def _produce(self) -> None:
        """Start to send the request's body."""
        holding, self._holding = self._holding, None
        if holding is not None and holding.active():
            holding.cancel()
        if self._body is not None:
            self._body.startProducing(self).addCallbacks(self._sent, self._unsendable)

    def _drop_body(self) -> bool:
        """Stop sending the request's body; return whether it was incomplete.

        A body that has not been started is not stopped: another request can send it.
        """
        body, self._body = self._body, None
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.cancel()
        elif body is not None:
            body.stopProducing()
        return body is not None

    def write(self, data: bytes) -> None:
        """Send the next piece of the request's body."""
        if self._body is None or not data:
            return
        if self._chunked:
            self._sender.send(b"%x\r\n%s\r\n" % (len(data), data))
            return
        assert self._unsent is not None
        if len(data) > self._unsent:
            self._unsendable(Failure(ValueError("the body is longer than its declared length")))
            return
        self._unsent -= len(data)
        self._sender.send(data)

    def _sent(self, _: object) -> None:
        if self._body is None:
            return
        if self._unsent:
            self._unsendable(Failure(ValueError("the body is shorter than its declared length")))
            return
        self._body = None
        if self._chunked:
            self._sender.send(b"0\r\n\r\n")

    def _unsendable(self, failure: Failure) -> None:
        if self._body is not None:
            self._body = None
            self._fail(RequestGenerationFailed([failure]))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Do nothing: the body is paused and resumed through IBodyProducer."""

    def unregisterProducer(self) -> None:
        """See :meth:`registerProducer`."""

    def pauseProducing(self) -> None:
        """Pause the body: the transport's buffer is full."""
        if self._body is not None and self._holding is None:
            self._body.pauseProducing()

    def resumeProducing(self) -> None:
        """Resume the body: the transport can take more."""
        if self._body is not None and self._holding is None:
            self._body.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: connectionLost follows."""

    # The answer.

    def dataReceived(self, data: bytes) -> None:
        if self._call is None and self._response is None:
            self.abort()  # an answer without a request
        else:
            self._receiver.receive(data)

    def _take(self, data: bytes) -> None:
        if self._broken:
            return  # in the same reactor iteration
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._silent_bytes > MAX_HEAD_BYTES:
                raise BadAnswer(f"the response's head exceeds {MAX_HEAD_BYTES} bytes")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(
                ResponseFailed([Failure(BadAnswer(f"the response is not valid HTTP: {error}"))])
            )
        except BadAnswer as error:
            self._fail(ResponseFailed([Failure(error)]))
        else:
            self._deliver()

    def _deliver(self) -> None:
        """Deliver the part of the answer that has arrived."""
        response = self._response
        if response is None:
            if self._may_go_on and self._holding is not None:
                self._produce()
            return
        call, self._call = self._call, None
        if self._complete:
            self._end(response)
        # After the bytes that came with the head: often they are the whole answer.
        if call is not None:
            call.end(response)
        response.update_flow_control()

    def on_message_begin(self) -> None:
        if self._complete:
            raise BadAnswer("the server sent more than one response")

    def on_status(self, phrase: bytes) -> None:
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        fields, self._fields = self._fields, []  # what follows are trailers
        code = self._parser.get_status_code()
        phrase, self._phrase = self._phrase, b""
        if code < 200:
            self._may_go_on = code == 100
            return  # an interim response: the answer follows
        self._silent_bytes = 0
        response = self._response = Response(self, code, phrase, fields)
        if self._bodiless or code in _BODILESS:
            response.length = 0
            self._complete = True
        elif response.length is UNKNOWN_LENGTH or response.length > SMALL_READ:
            self.transport.bufferSize = LARGE_READ

    def on_body(self, piece: bytes) -> None:
        self._silent_bytes = 0
        if self._response is not None and not self._complete:
            self._response.feed(piece)

    def on_message_complete(self) -> None:
        if self._response is not None:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    def _end(self, response: Response) -> None:
        """End a complete answer: prepare for the next request, or close."""
        keep = self._keep
        if self._bodiless:  # the parser has not reached the end
            keep = response.keeps and self._parser.get_http_version() == "1.1"
        keep = keep and not self._lost
        unsent = self._drop_body()  # the server does not want the rest
        keep = keep and not unsent
        self._response = response.connection = None
        self.transport.bufferSize = SMALL_READ
        if keep:
            self.resume()
            self._server.freed(self)
        elif unsent:
            self.abort()  # close() would wait until the server reads the buffered rest
        else:
            self.close()
        response.end(_DONE)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._receiver.pass_on()
        self._sender.drop()
        response = self._response
        unfinished: Exception = ResponseFailed([reason])
        if response and response.length is UNKNOWN_LENGTH and not response.chunked:
            unfinished = PotentialDataLoss()
        self._break(ResponseNeverReceived([reason]), unfinished)
        self._server.lost(self)

    def _fail(self, error: Exception) -> None:
        self._break(error, error)
        self.abort()

    def _break(self, unanswered: Exception, unfinished: Exception) -> None:
        """Fail the request with *unanswered*, or an incomplete answer with *unfinished*."""
        self._drop_body()
        call, self._call = self._call, None
        response, self._response = self._response, None
        if call is not None:
            self._server.retry_or_fail(call, Failure(unanswered), self.reused)
        elif response is not None:
            response.connection = None
            response.end(Failure(unfinished))

    def pause(self) -> None:
        """Stop reading from the server."""
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Resume reading from the server."""
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def reader_paused(self) -> None:
        """Pause for the reader; the pool may take the connection back."""
        self.pause()
        self._server.reader_paused(self)

    def reader_resumed(self) -> None:
        """Resume for the reader."""
        self._server.reader_resumed(self)
        self.resume()

    def reclaim(self) -> None:
        """Abort the connection of a reader that has paused."""
        self._fail(ConnectionReclaimed())

    def close(self) -> None:
        """Close an idle connection."""
        self.resume()  # over TLS the connection stays open until the server's close alert arrives
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Abort the connection now."""
        self._broken = True
        self._server.forget(self)
        self._sender.drop()
        abort = getattr(self.transport, "abortConnection", self.transport.loseConnection)
        abort()
