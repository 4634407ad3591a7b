"""What a request leaves behind: nothing that only the garbage collector finds.

Looking for it would hold other requests up.
"""

from __future__ import annotations

import gc

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater

from sos.aio.threads import threads_of
from sos.interfaces import Member
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, put
from tests.support.conversation import Conversation
from tests.support.servers import serving

TIMES = 50


@pytest.fixture
def talk(local_store):
    return Conversation(handler(BlobServer(local_store).app))


async def answered(talk, reactor, data):
    """Send *data*, and return once it is answered."""
    talk.transport.clear()
    talk.send(data)
    while not talk.transport.value():
        await deferLater(reactor, 0.001)
    assert talk.transport.value().startswith(b"HTTP/1.1 200 ")


def upload(body):
    head = f"POST /blob/{content_id(body)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\nX-Mime-Type: a/b\r\n\r\n" + body


def download(body):
    return f"GET /blob/{content_id(body)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.parametrize("kind", [upload, download])
@ensureDeferred
async def test_it_leaves_no_cycles(talk, reactor, kind):
    """Those of small bodies, of which there are thousands a second."""
    bodies = [body_of(100 + number) for number in range(TIMES)]
    if kind is download:
        for body in bodies:
            await answered(talk, reactor, upload(body))
    gc.collect()
    gc.disable()
    try:
        for body in bodies:
            await answered(talk, reactor, kind(body))
        assert gc.collect() < TIMES
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["put", "read"])
@ensureDeferred
async def test_other_servers_leave_none_either(reactor, kind):
    """For uploads to two of them, and for downloads."""
    async with (
        serving(handler(BlobServer(MemoryStore()).app), reactor) as one,
        serving(handler(BlobServer(MemoryStore()).app), reactor) as other,
    ):
        groups = {"g": (Member(one), Member(other))}
        copy_counts = CopyCounts(acknowledged=2)
        store = ReplicatedStore(groups, threads_of(reactor), reactor, copy_counts=copy_counts)
        bodies = [body_of(100 + number) for number in range(TIMES)]
        await put(store, b"to be connected")
        if kind == "read":
            for body in bodies:
                await put(store, body)
        gc.collect()
        gc.disable()
        try:
            for body in bodies:
                if kind == "put":
                    await put(store, body)
                else:
                    await store.read(content_id(body))
            assert gc.collect() < 5 * TIMES  # what connecting has left is among it
        finally:
            gc.enable()
