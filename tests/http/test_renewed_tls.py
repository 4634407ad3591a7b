"""Certificates and keys that are renewed while a server runs."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from operator import add

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent

from sos.daemon.tls import client_tls_files, server_tls_of
from sos.errors import ConfigError
from sos.files.watched import WatchedFiles
from sos.http.client.agent import Agent
from sos.http.server.site import Site
from sos.http.tls import Renewable, RenewableClient, Secured, server_tls
from sos.tap import blob
from tests.support.certificates import Authority
from tests.support.options import parsed


class Files:
    """A certificate and its key, which can be renewed, and a clock to turn."""

    def __init__(self, directory):
        self.directory = directory
        self.authority = Authority(directory, "ca")
        self.now = 0.0
        self.renew()
        paths = [str(directory / name) for name in ("live.pem", "live.key")]
        self.watched = WatchedFiles(paths, lambda: server_tls(*paths, None), lambda: self.now)

    def renew(self, *kinds):
        """Put new files in the place of those there are, or of some *kinds* of them."""
        self.authority.issue("new")
        for kind in kinds or ("pem", "key"):
            os.replace(self.directory / f"new.{kind}", self.directory / f"live.{kind}")

    def after_a_second(self):
        self.now += 1
        return self.watched()


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def test_files_that_have_not_changed_are_not_read(files):
    """The context is the same, however often it is asked for."""
    first = files.watched()
    assert files.after_a_second() is first
    files.renew()
    assert files.watched() is first  # within the second
    assert files.after_a_second() is not first


def test_a_key_that_does_not_belong_changes_nothing(files):
    """The former pair stays in use until the key comes, and the log and the status say so."""
    first = files.watched()
    files.renew("pem")
    with capturedLogs() as events:
        assert files.after_a_second() is first
    assert "does not match the certificate" in files.watched.trouble()
    assert "does not match the certificate" in formatEvent(events[-1])
    files.renew()
    assert files.after_a_second() is not first
    assert files.watched.trouble() is None


def test_a_file_that_is_gone_changes_nothing(files):
    """As while it is replaced."""
    first = files.watched()
    os.remove(files.directory / "live.key")
    assert files.after_a_second() is first
    assert "cannot read" in files.watched.trouble()


def test_a_file_that_is_being_written_is_waited_for(files):
    """One that is changed in place: it may end in the middle of a line."""
    first = files.watched()
    path = files.directory / "live.pem"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert files.after_a_second() is first
    assert files.watched.trouble() is None
    path.write_bytes(whole + whole)
    assert files.after_a_second() is first
    assert files.after_a_second() is not first


def test_files_that_cannot_be_used_at_first(tmp_path):
    """They are an error, as ever."""
    path = str(tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"none\.pem"):
        WatchedFiles([path], lambda: server_tls(path, None, None))


def test_a_daemon_watches_all_its_files(home):
    """Of the certificate, the key and the authorities of clients."""
    authority = Authority(home, "ca")
    authority.issue("mine")
    options = parsed(
        blob, "--tls-certificate=mine.pem", "--tls-key=mine.key", "--tls-client-ca=ca.pem"
    )
    for name in ("mine.pem", "mine.key", "ca.pem"):
        watched = server_tls_of(options)
        watched._clock = partial(add, watched._looked, 1)  # the next look is due
        (home / name).rename(home / "away")
        assert name in watched.trouble()
        (home / "away").rename(home / name)


@ensureDeferred
async def test_new_connections_have_the_new_certificate(files, reactor):
    """Those that are open go on."""
    plain = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
    site = Site(lambda request: request.finish(b"page"), reactor=reactor)
    listening = await Secured(plain, Renewable(files.watched)).listen(site)
    address = ("127.0.0.1", listening.getHost().port)
    context = ssl.create_default_context(cafile=files.authority.path)

    def connect():
        client = socket.create_connection(address, 60)
        return context.wrap_socket(client, server_hostname="127.0.0.1")

    def ask(client):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return client.recv(12), client.getpeercert()["serialNumber"]

    try:
        with ExitStack() as stack:
            first = stack.enter_context(await deferToThread(connect))
            answer, old = await deferToThread(ask, first)
            assert answer == b"HTTP/1.1 200"
            files.renew()
            files.now += 1
            second = stack.enter_context(await deferToThread(connect))
            answer, new = await deferToThread(ask, second)
            assert (answer, new == old) == (b"HTTP/1.1 200", False)
            first.settimeout(60)
            rest = await deferToThread(first.recv, 4096)
            assert rest.endswith(b"page")
            answer, same = await deferToThread(ask, first)
            assert (answer, same) == (b"HTTP/1.1 200", old)
    finally:
        await listening.stopListening()


@ensureDeferred
async def test_a_client_shows_its_new_certificate(tmp_path, reactor):
    """And trusts the new authority: connections made from then on are by the new files."""
    old, new = Authority(tmp_path, "old-ca"), Authority(tmp_path, "new-ca")
    for authority, name in ((old, "old"), (new, "new")):
        authority.issue(name)
    live = {"ca": "pem", "client": "pem", "key": "key"}
    paths = {name: tmp_path / f"live-{name}.{kind}" for name, kind in live.items()}

    def install(name):
        for path, source in zip(
            paths.values(), (f"{name}-ca.pem", f"{name}.pem", f"{name}.key"), strict=True
        ):
            shutil.copy(tmp_path / source, path)

    @asynccontextmanager
    async def serving(name):
        files = [str(tmp_path / f"{name}{kind}") for kind in (".pem", ".key", "-ca.pem")]
        plain = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        site = Site(lambda request: request.finish(b"page"), reactor=reactor)
        listening = await Secured(plain, server_tls(*files)).listen(site)
        yield f"https://127.0.0.1:{listening.getHost().port}"
        await listening.stopListening()

    install("old")
    names = ("tls-ca", "tls-client-certificate", "tls-client-key")
    watched = client_tls_files(dict(zip(names, map(str, paths.values()), strict=True)))
    agent = Agent(reactor, tls=partial(RenewableClient, watched))

    async def ask(url):
        response = await agent.request(b"GET", url.encode())
        return response.code

    async with serving("old") as first, serving("new") as second:
        assert await ask(first) == 200
        with pytest.raises(Exception, match=r"certificate|alert"):
            await ask(second)
        install("new")
        watched.read_again()
        assert await ask(second) == 200
        assert await ask(first) == 200  # over the connection that it has
        await agent.close()
        with pytest.raises(Exception, match=r"certificate|alert"):
            await ask(first)
        os.remove(paths["key"])
        watched.read_again()
        await agent.close()
        assert await ask(second) == 200
        assert "live-key.key" in watched.trouble()
        await agent.close()
