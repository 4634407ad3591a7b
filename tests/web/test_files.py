"""Bodies that have files, as they are sent over real sockets."""

from __future__ import annotations

import socket

import pytest
import treq
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import Headers

from sos.http.client.agent import Agent
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.support.blobs import body_of, put
from tests.support.servers import serving

SIZE = 20_000_000


@async_yield_fixture
async def server(local_store, reactor):
    """The URL of a blob server whose store is in files."""
    agent = Agent(reactor)
    async with serving(handler(BlobServer(local_store).app), reactor, agent) as store:
        yield store.name


async def get(reactor, url, headers=None):
    return await Agent(reactor).request(b"GET", url.encode("ascii"), Headers(headers or {}))


@ensureDeferred
async def test_a_file_is_sent_whole(server, local_store, reactor):
    """As it was stored, head and all."""
    info = await put(local_store, body_of(SIZE))
    response = await get(reactor, f"{server}/blob/{info.id}")
    assert (response.code, response.length) == (200, SIZE)
    assert await treq.content(response) == body_of(SIZE)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 18_000_000), (SIZE - 1, SIZE - 1)])
@ensureDeferred
async def test_a_part_of_a_file(server, local_store, reactor, first, last):
    """And no more."""
    info = await put(local_store, body_of(SIZE))
    asked = {b"Range": [b"bytes=%d-%d" % (first, last)]}
    response = await get(reactor, f"{server}/blob/{info.id}", asked)
    assert response.code == 206
    assert await treq.content(response) == body_of(SIZE)[first : last + 1]


@ensureDeferred
async def test_a_damaged_file_is_never_sent_to_its_end(server, local_store, reactor, tmp_path):
    """The connection breaks before, and from then on the blob is missing."""
    info = await put(local_store, body_of(SIZE))
    (path,) = (tmp_path / "store/bodies").glob(f"*/*/{info.id}")
    with open(path, "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"damage")
    response = await get(reactor, f"{server}/blob/{info.id}")
    with pytest.raises(ResponseFailed):
        await treq.content(response)
    assert (await get(reactor, f"{server}/blob/{info.id}")).code == 404


@ensureDeferred
async def test_a_file_that_is_cut_while_it_is_sent(server, local_store, reactor, tmp_path):
    """The connection breaks; nobody waits for the rest."""
    info = await put(local_store, body_of(40_000_000))
    (path,) = (tmp_path / "store/bodies").glob(f"*/*/{info.id}")
    response = await get(reactor, f"{server}/blob/{info.id}")
    with open(path, "r+b") as file:
        file.truncate(30_000_000)
    with pytest.raises(ResponseFailed):
        await treq.content(response)


@ensureDeferred
async def test_slow_readers_wait_for_no_one_else(server, local_store, reactor):
    """Many who take little of a large blob leave the server to others, and no file open."""
    info = await put(local_store, body_of(SIZE))
    port = int(server.rpartition(":")[2])

    def begin() -> list[socket.socket]:
        clients = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(20)]
        for client in clients:
            client.sendall(f"GET /blob/{info.id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for client in clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        return clients

    clients = await deferToThread(begin)
    response = await get(reactor, f"{server}/alive")
    assert await treq.content(response) == b"alive"
    for client in clients:
        client.close()


@ensureDeferred
async def test_a_file_waits_for_what_was_asked_before(server, local_store, reactor):
    """Answers of other kinds that the client has not taken yet come first."""
    small = await put(local_store, body_of(60_000))
    large = await put(local_store, body_of(SIZE))
    port = int(server.rpartition(":")[2])
    asked = [small.id, large.id] * 6
    sizes = [60_000, SIZE] * 6

    def ask() -> list[bytes]:
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            for id in asked:
                client.sendall(f"GET /blob/{id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            bodies = []
            with client.makefile("rb") as answers:
                for size in sizes:
                    while answers.readline() != b"\r\n":
                        pass
                    bodies.append(answers.read(size))
            return bodies

    bodies = await deferToThread(ask)
    assert bodies == [body_of(60_000), body_of(SIZE)] * 6
