"""Clients that offer protocols in their TLS handshake (ALPN, RFC 7301): all that people use."""

from __future__ import annotations

import socket
import ssl

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread

from sos.http.server.site import Site
from sos.http.tls import Secured, server_tls
from tests.support.certificates import Authority


@async_yield_fixture(params=["--tls-certificate", "ssl: endpoint"])
async def ask(request, reactor, tmp_path):
    """Ask for a page over TLS, offering protocols or none; return the one chosen, and the page."""
    authority = Authority(tmp_path, "ca")
    authority.issue("server")
    certificate, key = str(tmp_path / "server.pem"), str(tmp_path / "server.key")
    if request.param.startswith("ssl"):
        description = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        endpoint = serverFromString(reactor, description)
    else:
        plain = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        endpoint = Secured(plain, server_tls(certificate, key, None))
    site = Site(lambda request: request.finish(b"page"), reactor=reactor)
    listening = await endpoint.listen(site)

    def blocking(offered):
        context = ssl.create_default_context(cafile=authority.path)
        if offered:
            context.set_alpn_protocols(offered)
        address = ("127.0.0.1", listening.getHost().port)
        with (
            socket.create_connection(address, 60) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            page = client.makefile("rb").read().rpartition(b"\r\n\r\n")[2]
            return client.selected_alpn_protocol(), page

    yield lambda *offered: deferToThread(blocking, offered)
    await listening.stopListening()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), None),
        (("http/1.1",), "http/1.1"),
        (("h2", "http/1.1"), "http/1.1"),
        (("http/1.0",), "http/1.0"),
        (("http/1.0", "http/1.1"), "http/1.1"),
    ],
)
@ensureDeferred
async def test_http_1_is_chosen(ask, offered, chosen):
    """By whoever offers it, beside others or alone; who offers nothing is served as well."""
    assert await ask(*offered) == (chosen, b"page")


@ensureDeferred
async def test_a_client_that_speaks_nothing_else_than_http_2_is_refused(ask):
    """By an alert: it would not understand what it is answered."""
    with pytest.raises(ssl.SSLError, match="alert"):
        await ask("h2")
