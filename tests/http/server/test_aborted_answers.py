"""Answers that are aborted after their head was sent, over real sockets."""

from __future__ import annotations

import os
import socket
import ssl

import pytest
from attrs import frozen
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from sos.http.server.site import Site
from sos.http.tls import server_tls
from tests.support.certificates import Authority

PIECE = b"piece of the body " * 1000


class Handler:
    """Answers with a piece of a body, aborts the answer, and then finishes it all the same.

    What a route does when its store fails in the middle of a body.

    :ivar received: fires when the client has the piece.
    """

    def __init__(self, directory):
        self.received = Deferred()
        (directory / "body").write_bytes(PIECE)
        self.file = os.open(directory / "body", os.O_RDONLY)

    def __call__(self, request):
        request.work = Deferred.fromCoroutine(self.answer(request))

    async def answer(self, request):
        framing = request.path.strip(b"/")
        if framing != b"undelimited":
            request.setHeader(b"Content-Length", b"%d" % (2 * len(PIECE)))
        if framing == b"chunked":
            request.clearHeaders()
        if framing == b"file" and request.sends_files:
            await request.send_file(self.file, 0, len(PIECE))
        else:
            request.write(PIECE)
        await self.received
        request.abort()
        request.write(PIECE)
        request.finish(b"")


@frozen
class Server:
    reactor: IReactorFromThreads
    handler: Handler
    port: int
    context: ssl.SSLContext | None

    def ask(self, framing: str, version: str) -> tuple[bytes, str]:
        """Return all that is sent in answer, and how the connection ended."""
        with socket.create_connection(("127.0.0.1", self.port), 60) as client:
            if self.context is not None:
                client = self.context.wrap_socket(
                    client, server_hostname="127.0.0.1", suppress_ragged_eofs=False
                )
            client.sendall(f"GET /{framing} HTTP/{version}\r\nHost: x\r\n\r\n".encode())
            sent = b""
            try:
                while piece := client.recv(1 << 20):
                    if PIECE not in sent and PIECE in sent + piece:
                        self.reactor.callFromThread(self.handler.received.callback, None)
                    sent += piece
            except (ConnectionResetError, ssl.SSLEOFError):
                return sent, "reset"
            return sent, "closed"


@async_yield_fixture(params=["tcp", "tls"])
async def server(request, reactor, tmp_path):
    handler = Handler(tmp_path)
    factory = Site(handler, reactor=reactor)
    context = None
    if request.param == "tls":
        authority = Authority(tmp_path, "ca")
        authority.issue("server")
        certificate = server_tls(str(tmp_path / "server.pem"), str(tmp_path / "server.key"), None)
        factory = TLSMemoryBIOFactory(certificate, False, factory)
        context = ssl.create_default_context(cafile=authority.path)
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    yield Server(reactor, handler, listening.getHost().port, context)
    await listening.stopListening()
    os.close(handler.file)


@pytest.mark.parametrize(
    ("framing", "version"),
    [
        ("length", "1.1"),
        ("length", "1.0"),
        ("file", "1.1"),
        ("chunked", "1.1"),
        ("undelimited", "1.0"),
    ],
)
@ensureDeferred
async def test_it_does_not_end_like_a_whole_one(server, framing, version):
    """Nothing follows what was sent before, and the connection is reset, not closed.

    A client can tell then that its body is not whole, whatever delimits it: its
    length, its last chunk, or the end of the connection.
    """
    sent, ended = await deferToThread(server.ask, framing, version)
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    expected = b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if framing == "chunked" else PIECE
    assert (len(body), body, ended) == (len(expected), expected, "reset")
