"""Two bodies with the same id, and a cluster that has one of them on some servers."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.logger import capturedLogs

from sos.errors import Conflict, NotFound
from sos.stores.memory import MemoryStore
from tests.stores.chunks import over
from tests.support.blobs import body_of, colliding, content, content_id, put
from tests.support.replicas import first_for, replicated

FIRST, SECOND = colliding(1000)
ID = content_id(FIRST)


class Holding(MemoryStore):
    """Commits one body only when that is let go."""

    def __init__(self, name, body=None):
        super().__init__(name)
        self.body = body
        self.let_go = Deferred()

    def writer(self, id=None, metadata=None, size=None):
        writer = super().writer(id, metadata or {}, size)
        commit = writer.commit
        write = writer.write

        async def written(piece):
            if piece == self.body:
                writer.commit = held
            await write(piece)

        async def held():
            await self.let_go
            return await commit()

        writer.write = written
        return writer


def where(*stores):
    return {store.name: store.blobs[ID].body for store in stores if ID in store.blobs}


@ensureDeferred
async def test_of_two_that_come_in_another_order_to_each_server_one_is_acknowledged(reactor):
    """The servers of an id are not asked all at once: the first of them decides."""
    one, other = first_for(ID, Holding("a", FIRST), Holding("b", SECOND))
    one.body, other.body = FIRST, SECOND
    store = replicated(reactor, [one, other], acknowledged=1, wanted=2)
    uploads = [deferred(put(store, FIRST)), deferred(put(store, SECOND))]
    other.let_go.callback(None)
    await uploads[1]
    one.let_go.callback(None)
    with pytest.raises(Conflict, match=f"another body with the id {ID}"):
        await uploads[0]
    assert await content(await store.read(ID)) == SECOND
    assert where(one, other) == {one.name: SECOND, other.name: SECOND}


@pytest.mark.parametrize("acknowledged", [1, 2])
@ensureDeferred
async def test_one_server_that_has_another_body_refuses_the_upload_for_all(reactor, acknowledged):
    """Nothing is acknowledged; who comes behind it is not sent the body."""
    stores = first_for(ID, *map(MemoryStore, "abcd"))
    await put(stores[0], FIRST)
    store = replicated(reactor, stores, acknowledged=acknowledged, wanted=4)
    with capturedLogs() as logs, pytest.raises(Conflict) as refused:
        await put(store, SECOND)
    assert str(refused.value).startswith(f"another body with the id {ID} is stored")
    assert where(*stores[acknowledged:]) == {}
    assert await content(await store.read(ID)) == FIRST
    assert [each["peer"] for each in logs if each.get("id") == ID] == [stores[0].name]


@ensureDeferred
async def test_a_server_that_is_found_to_have_another_later_is_told_of(reactor):
    """The upload is acknowledged by then; no more copies of it are made, and the log says so."""
    stores = first_for(ID, *map(MemoryStore, "abc"))
    await put(stores[1], FIRST)
    store = replicated(reactor, stores, acknowledged=1, wanted=3)
    with capturedLogs() as logs:
        await put(store, SECOND)
    assert where(*stores) == {stores[0].name: SECOND, stores[1].name: FIRST}
    (told,) = [each for each in logs if each.get("peer") == stores[1].name]
    assert told["names"] == stores[0].name


@ensureDeferred
async def test_who_uploads_is_not_told_the_servers(reactor):
    """A conflict names the id, and no server."""
    server = MemoryStore("http://a:4001")
    await put(server, FIRST)
    with pytest.raises(Conflict) as refused:
        await put(replicated(reactor, [server]), SECOND)
    assert "a:4001" not in str(refused.value)


class TestObjectsInChunks:
    """Chunks of 256 bytes cut the colliding bytes in two: then no two chunks have the same id."""

    FIRST, SECOND = colliding(5000)
    ID = content_id(FIRST)

    @ensureDeferred
    async def test_another_object_of_the_same_chunk_is_refused(self, reactor):
        """As its chunk is another; the first object can still be read, and sent again."""
        store = over(replicated(reactor, [MemoryStore("a")]), reactor, 1000)
        await put(store, self.FIRST)
        with pytest.raises(Conflict):
            await put(store, self.SECOND)
        await put(store, self.FIRST)
        assert await content(await store.read(self.ID)) == self.FIRST

    @ensureDeferred
    async def test_an_object_whose_chunk_is_another_is_refused(self, reactor):
        """Whatever comes before and behind it: none can be read back that is put together so."""
        first, second = colliding(1000)
        store = over(replicated(reactor, [MemoryStore("a")]), reactor, 1000)
        await put(store, first)
        body = body_of(1000) + second + body_of(1500)
        with pytest.raises(Conflict):
            await put(store, body)
        with pytest.raises(NotFound):
            await store.stat(content_id(body))

    @pytest.mark.parametrize("before", [0, 200, 256, 1000])
    @ensureDeferred
    async def test_another_object_in_other_chunks_is_refused(self, reactor, before):
        """It is compared with what is stored, whole (0) or in chunks of *before* bytes."""
        placing = replicated(reactor, [MemoryStore("a")])
        await put(over(placing, reactor, before or 8000), self.FIRST)
        store = over(placing, reactor, 256)
        with pytest.raises(Conflict, match=f"another body with the id {self.ID}"):
            await put(store, self.SECOND)
        await put(store, self.FIRST)
        assert await content(await store.read(self.ID)) == self.FIRST
