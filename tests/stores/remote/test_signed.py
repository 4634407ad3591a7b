"""A blob server that asks for signed requests, and who signs them."""

from __future__ import annotations

import time

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred

from sos.aio.gather import together
from sos.aio.threads import threads_of
from sos.auth.guards import SignedRequests
from sos.auth.request_signing import Key, Keys, Signer, Verifier
from sos.errors import Unavailable
from sos.http.client.agent import Agent
from sos.interfaces import Blob, BlobInfo
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from sos.transfer import copy
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.contract import ManifestContract, OneStepContract, ReplicaContract, StoreContract
from tests.support.blobs import body_of, content_id, manifest_of, put
from tests.support.servers import serving

KEYS = Keys((Key(b"k" * 32),))
OTHER = Keys((Key(b"o" * 32),))
ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


class Server:
    """Asks for signatures, and remembers what it was asked."""

    def __init__(self, identity=None):
        self.kept = MemoryStore()
        self.kept.identity = identity
        self.requests = []
        verifier = Verifier(lambda: KEYS, time.time, lambda: self.kept.identity)
        guard = SignedRequests(verifier, (b"/alive",), time.monotonic)
        self._answer = handler(BlobServer(self.kept).app, guard)

    def __call__(self, request):
        self.requests.append(request)
        self._answer(request)


def signed(url, reactor, keys=KEYS):
    """Return the store at *url*, spoken to by who has these keys."""
    signer = Signer(lambda: keys, time.time)
    return RemoteStore(Exchange(url, Agent(reactor), reactor, signer), threads_of(reactor))


class TestSignedStore(StoreContract, ReplicaContract, ManifestContract, OneStepContract):
    """Everything that a store can be asked is signed as it has to be."""

    @async_yield_fixture
    async def store(self, reactor):
        async with serving(Server(), reactor) as unsigned:
            yield signed(unsigned.name, reactor)


@ensureDeferred
async def test_who_does_not_sign_or_has_another_key_gets_nothing(reactor):
    """For who asks, the server is one that fails: another may do."""
    server = Server()
    id = (await put(server.kept, b"x")).id
    async with serving(server, reactor) as unsigned:
        for store, message in (
            (unsigned, "answered 401: the request is not signed"),
            (signed(unsigned.name, reactor, OTHER), "an unknown key"),
        ):
            for asked in (store.read(id), store.status(), put(store, b"y"), store.listing()):
                with pytest.raises(Unavailable, match=message):
                    await asked
    assert list(server.kept.blobs) == [id]


@pytest.mark.parametrize("chunk_size", [10])
@ensureDeferred
async def test_bytes_that_no_id_vouches_for_are_signed_by_their_digest(reactor, chunk_size):
    """Those of an opaque name, and a manifest's; those of a content id are not hashed again."""
    server = Server()
    body = body_of(25)
    id, manifest, metadata = manifest_of(body, chunk_size)
    async with serving(server, reactor) as unsigned:
        store = signed(unsigned.name, reactor)
        await put(store, b"abc", "name")
        await put(store, b"abc", content_id(b"abc"))
        await put(store, manifest, id, metadata)
    digests = [request.getHeader(b"content-digest") is not None for request in server.requests]
    assert digests == [True, False, True]


@ensureDeferred
async def test_a_body_that_is_changed_on_the_way_is_not_stored(reactor):
    """Though it is as long as the one that was signed."""
    server = Server()

    def tamper(request):
        pieces = request.body._pieces
        pieces[:] = [piece.replace(b"good", b"evil") for piece in pieces]
        server(request)

    async with serving(tamper, reactor) as unsigned:
        with pytest.raises(Unavailable, match="answered 400"):
            await put(signed(unsigned.name, reactor), b"a good body", "name")
    assert not server.kept.blobs


@ensureDeferred
async def test_of_a_batch_that_is_changed_on_the_way_nothing_is_stored(reactor):
    """None of it, though some of its ids would vouch for their bytes."""
    server = Server()
    blobs = [Blob(BlobInfo(id, 1, {"X-A": "good"}), b"x") for id in ("name", content_id(b"x"))]

    def tamper(request):
        pieces = request.body._pieces
        pieces[:] = [piece.replace(b"good", b"evil") for piece in pieces]
        server(request)

    async with serving(server, reactor) as unsigned:
        await together(copy(blob, signed(unsigned.name, reactor)) for blob in blobs)
    assert len(server.kept.blobs) == 2
    server.kept.blobs.clear()
    server.requests.clear()
    async with serving(tamper, reactor) as unsigned:
        store = signed(unsigned.name, reactor)
        await together(copy(blob, store) for blob in blobs)
    assert [request.path for request in server.requests][:1] == [b"/batch"]
    assert len(server.requests) == 3  # then each by itself, with its metadata in a header
    assert all(blob.info.metadata["X-A"] == "good" for blob in server.kept.blobs.values())


@pytest.mark.parametrize("asked", ["status", "upload"])
@ensureDeferred
async def test_a_request_is_for_one_store(reactor, asked):
    """Once that has said which it is; what was recorded of it is worth nothing at another."""
    server, other = Server(ONE), Server(TWO)

    async with serving(server, reactor) as unsigned, serving(other, reactor) as elsewhere:
        store = signed(unsigned.name, reactor)
        await (store.status() if asked == "status" else put(store, b"first"))
        await put(store, b"x" * 300_000, "name")
        await store.listing()
        for request in server.requests[-2:]:
            assert request.getHeader(b"x-sos-store") == ONE.encode()
        agent = Agent(reactor)
        recorded = server.requests[-2]
        again = RemoteStore(
            Exchange(elsewhere.name, agent, reactor, lambda *_: recorded.headers[b"authorization"]),
            threads_of(reactor),
        )
        again._exchange.store = ONE
        with pytest.raises(Unavailable, match="for another store than 2222"):
            await put(again, b"x" * 300_000, "name")
        assert not other.kept.blobs
        await agent.close()


@ensureDeferred
async def test_a_server_that_has_another_store_by_now_is_spoken_to_again(reactor):
    """It refuses one request, by which that is noticed."""
    server = Server(ONE)
    async with serving(server, reactor) as unsigned:
        store = signed(unsigned.name, reactor)
        await store.status()
        server.kept.identity = TWO
        with pytest.raises(Unavailable, match="for another store than 2222"):
            await put(store, b"x")
        await put(store, b"x")
        await store.status()
        await put(store, b"y")
        assert server.requests[-1].getHeader(b"x-sos-store") == TWO.encode()


@ensureDeferred
async def test_a_request_that_is_sent_again_is_signed_again(reactor):
    """The server may have seen it, though the connection was lost before its answer."""
    server = Server()
    id = (await put(server.kept, b"x")).id
    seen = []

    def handle(request):
        seen.append(request.getHeader(b"authorization"))
        if len(seen) == 2:
            request.finish = lambda body: request.abort()  # it is done, and not answered
        server(request)

    async with serving(handle, reactor) as unsigned:
        store = signed(unsigned.name, reactor)
        await store.stat(id)
        await store.stat(id)  # on the connection that was kept, and then on a new one
    assert len(seen) == len(set(seen)) == 3
