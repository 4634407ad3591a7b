"""Bodies that break off in the middle, and go on from another server."""

from __future__ import annotations

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.task import deferLater

from sos.errors import Mismatch, Unavailable
from sos.http.client.agent import HELD_SECONDS, Agent
from sos.interfaces import Member
from sos.stores.memory import MemoryStore
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content, content_id, put
from tests.support.replicas import health_records_of, replicated
from tests.support.servers import serving


class TestABodyThatBreaksOff:
    """In the middle, because its server goes away."""

    class Breaking(MemoryStore):
        async def read(self, id, span=None):
            blob = await super().read(id, span)
            whole = await content(blob)

            async def broken():
                yield whole[: len(whole) // 2]
                raise Unavailable("it broke off")

            return evolve(blob, body=broken())

    @pytest.mark.parametrize("span", [None, (1000, 290_000)])
    @ensureDeferred
    async def test_it_goes_on_from_another_server(self, reactor, span):
        """The reader sees one whole body."""
        body = body_of(300_000)
        breaking, sound = self.Breaking(), MemoryStore()
        async with (
            serving(handler(BlobServer(breaking).app), reactor) as first,
            serving(handler(BlobServer(sound).app), reactor) as second,
        ):
            await put(breaking, body)
            await put(sound, body)
            store = replicated(reactor, [Member(first, preferred=True), second])
            blob = await store.read(content_id(body), span)
            assert await content(blob) == (body if span is None else body[slice(*span)])
            store.stop()

    @ensureDeferred
    async def test_it_ends_when_there_is_no_other(self, reactor):
        """Short of its end, and that is told."""
        body = body_of(300_000)
        breaking = self.Breaking()
        async with (
            serving(handler(BlobServer(breaking).app), reactor) as first,
            serving(handler(BlobServer(MemoryStore()).app), reactor) as second,
        ):
            await put(breaking, body)
            store = replicated(reactor, [Member(first, preferred=True), second])
            blob = await store.read(content_id(body))
            with pytest.raises(Unavailable):  # which is not to say that it is missing
                await content(blob)
            store.stop()

    @ensureDeferred
    async def test_it_ends_when_there_was_one_server_alone(self, reactor):
        """At once, and with what went wrong there."""
        body = body_of(300_000)
        breaking = self.Breaking()
        async with serving(handler(BlobServer(breaking).app), reactor) as only:
            await put(breaking, body)
            store = replicated(reactor, [only])
            blob = await store.read(content_id(body))
            with pytest.raises(Unavailable):
                await content(blob)
            store.stop()

    @ensureDeferred
    async def test_wrong_bytes_before_the_break_are_noticed(self, reactor):
        """Two halves that are each well sent must be halves of the same body."""
        body = body_of(300_000)
        breaking, sound = self.Breaking(), MemoryStore()
        await put(breaking, body)
        await put(sound, body)
        held = breaking.blobs[content_id(body)]
        breaking.blobs[content_id(body)] = evolve(held, body=b"x" + body[1:])
        async with (
            serving(handler(BlobServer(breaking).app), reactor) as first,
            serving(handler(BlobServer(sound).app), reactor) as second,
        ):
            store = replicated(reactor, [Member(first, preferred=True), second])
            blob = await store.read(content_id(body))
            with pytest.raises(Mismatch):
                await content(blob)
            # Nothing tells who sent the wrong ones: the one that broke off, or the other.
            assert [each.errors for each in health_records_of(store).values()] == [1, 1]
            store.stop()


class TestAReaderThatTakesNothing:
    """A client that has asked for much, and does not read it."""

    BODY = body_of(8_000_000)

    @ensureDeferred
    async def test_does_not_keep_others_from_the_server(self, reactor):
        """Its connection is taken back for them, and it has the rest when it reads on."""
        kept = MemoryStore()
        id = (await put(kept, self.BODY)).id
        async with serving(handler(BlobServer(kept).app), reactor, Agent(reactor, most=2)) as only:
            store = replicated(reactor, [only])
            slow = [await store.read(id) for _ in range(2)]
            reading = [aiter(blob.body) for blob in slow]
            read = [[await anext(each)] for each in reading]
            await deferLater(reactor, HELD_SECONDS)
            for _ in range(3):
                assert (await store.stat(id)).size == len(self.BODY)
            for pieces, rest in zip(read, reading, strict=True):
                pieces += [piece async for piece in rest]
                assert b"".join(pieces) == self.BODY
            assert [each.errors for each in health_records_of(store).values()] == [0]
            store.stop()

    @ensureDeferred
    async def test_is_no_failure_of_the_server_that_gives_up(self, reactor, monkeypatch):
        """And the rest comes from the same, as from any."""
        monkeypatch.setattr("sos.http.client.bodies.SLOW_SECONDS", 0.05)
        kept = MemoryStore()
        id = (await put(kept, self.BODY)).id
        requests = []
        answer = handler(BlobServer(kept).app)

        def note(request):
            requests.append(request)
            answer(request)

        async with serving(note, reactor) as only:
            store = replicated(reactor, [only])
            blob = await store.read(id)
            reading = aiter(blob.body)
            pieces = [await anext(reading)]
            while not (requests[-1]._channel.output.full and blob.body._rest._is_slow()):
                await deferLater(reactor, 0.01)
            requests[-1].abort()
            pieces += [piece async for piece in reading]
            assert b"".join(pieces) == self.BODY
            assert [each.errors for each in health_records_of(store).values()] == [0]
            assert [request.path for request in requests[-2:]] == [f"/blob/{id}".encode()] * 2
            store.stop()
