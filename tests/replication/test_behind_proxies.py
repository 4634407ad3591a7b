"""Blob servers behind proxies that add headers."""

from __future__ import annotations

import time

import pytest
from pytest_twisted import ensureDeferred

from sos.aio.threads import threads_of
from sos.auth.guards import SignedRequests
from sos.auth.request_signing import Key, Keys, Signer, Verifier
from sos.http.client.agent import Agent
from sos.model.metadata import MAX_BYTES, SET_AT, STORED_AT, encode
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.replication.groups import group, run, stores
from tests.support.blobs import put
from tests.support.servers import serving

KEYS = Keys((Key(b"k" * 32),))
METADATA = {"X-Name": "n\udce9 \u20ac", "X-Mime-Type": "text/plain", SET_AT: "5"}


def server(store, change, signed=False):
    """Return what answers as the server of *store*, once *change* was made to a request."""
    verifier = Verifier(lambda: KEYS, time.time)
    guard = SignedRequests(verifier, (), time.monotonic) if signed else None
    answer = handler(BlobServer(store).app, guard)

    def handle(request):
        change(request)
        answer(request)

    return handle


def behind_proxy(number):
    """Add to a request and its answer what a proxy adds, another one for each server."""

    def change(request):
        for name, value in ((b"X-Real-Thing", b"%d" % number), (b"X-Name", b"of the proxy")):
            request.received_headers.append((name, value))
            request.headers[name.lower()] = value
        request.setHeader(b"X-Served-By", b"proxy %d" % number)

    return change


@pytest.mark.parametrize("signed", [False, True])
@ensureDeferred
async def test_replication_converges_behind_proxies(reactor, signed):
    """What a proxy adds is not stored, not read, and breaks no signature."""
    kept = one, two = stores("a", "b")
    signer = Signer(lambda: KEYS, time.time) if signed else None
    for metadata in (METADATA, {}, {SET_AT: "7"}):
        await put(one, encode(metadata), metadata=metadata)
        await put(one, encode(metadata) + b"x" * 100_000, metadata=metadata)
    before = {id: blob.info.metadata for id, blob in one.blobs.items()}
    async with (
        serving(server(one, behind_proxy(1), signed), reactor) as first,
        serving(server(two, behind_proxy(2), signed), reactor) as second,
    ):
        far = [
            RemoteStore(Exchange(each.name, Agent(reactor), reactor, signer), threads_of(reactor))
            for each in (first, second)
        ]
        assert (await run({"default": group(*far)}, 2)).ok
        assert {id: blob.info.metadata for id, blob in two.blobs.items()} == before
        later = (await put(far[1], b"later", metadata={**METADATA, SET_AT: "9"})).id
        await far[1].reconcile(later, METADATA)
        assert (await run({"default": group(*far)}, 2)).ok
        assert (await run({"default": group(*far)}, 2)).idle
        assert [(await each.stat(later)).metadata for each in (*kept, *far)] == [
            {**METADATA, STORED_AT: "900"}
        ] * 4


@pytest.mark.parametrize("value", ['"', "\udce9", "\u00e9", " "])
@ensureDeferred
async def test_the_most_metadata_that_there_can_be_is_told(reactor, value):
    """Its head is of up to 14 KiB then, which has to be taken on both sides."""
    one = MemoryStore()
    size = (MAX_BYTES - len("X-A")) // len(value.encode("utf-8", "surrogateescape"))
    metadata = {"X-A": value * size, SET_AT: "5"}
    async with serving(server(one, behind_proxy(1)), reactor) as far:
        id = (await put(far, b"x", metadata=metadata)).id
        assert one.blobs[id].info.metadata == metadata
        assert (await far.stat(id)).metadata == metadata
        await far.reconcile(id, {**metadata, SET_AT: "4"})
        assert one.blobs[id].info.metadata[SET_AT] == "4"
