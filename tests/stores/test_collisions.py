"""Two bodies with the same id, and a cluster that has one of them on some servers."""

from __future__ import annotations

from hashlib import sha256

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock
from twisted.logger import Logger, capturedLogs

from sos.aio.limited_log import LimitedLog
from sos.errors import Conflict, NotFound
from sos.stores.local import LocalStore
from sos.stores.memory import MemoryStore
from tests.stores.chunked.chunks import over
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


@pytest.fixture(autouse=True)
def nothing_logged(monkeypatch):
    """Of a kind one line is logged in a while, in all tests together."""
    monkeypatch.setattr("sos.stores.replicated.quorum_write._log", LimitedLog(Logger()))


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
    (logged,) = [each for each in logs if each.get("peer") == stores[1].name]
    assert logged["names"] == stores[0].name


@ensureDeferred
async def test_a_first_server_that_takes_long_does_not_hold_up_an_upload(reactor):
    """The next is sent the body then, too, and its copy counts."""
    clock = Clock()
    one, other = first_for(ID, Holding("a", FIRST), Holding("b"))
    one.body = FIRST
    store = replicated(reactor, [one, other], acknowledged=1, wanted=2, clock=clock)
    upload = deferred(put(store, FIRST))
    assert where(one, other) == {}
    clock.pump([0.02] * 4)
    assert (await upload).id == ID
    assert where(one, other) == {other.name: FIRST}
    one.let_go.callback(None)
    assert where(one, other) == {one.name: FIRST, other.name: FIRST}


@ensureDeferred
async def test_ids_that_are_sha256_are_sent_to_all_at_once(reactor):
    """No two bodies with one of them can be made."""
    one, other = Holding("a", FIRST), Holding("b", FIRST)
    store = replicated(reactor, [one, other], acknowledged=1, wanted=2)
    id = sha256(FIRST).hexdigest()
    (first, second) = first_for(id, one, other)
    upload = deferred(put(store, FIRST, id))
    second.let_go.callback(None)
    assert (await upload).id == id
    first.let_go.callback(None)
    assert all(id in each.blobs for each in (one, other))


@ensureDeferred
async def test_a_read_repair_that_is_refused_is_told(reactor):
    """Nothing is replaced, and replication is not asked to try it again."""

    class Mute(MemoryStore):
        async def read(self, id, span=None):
            raise NotFound(id)

    one, other = first_for(ID, Mute("a"), Mute("b"))
    await put(one, SECOND)
    other.__class__ = MemoryStore
    await put(other, FIRST)
    hints = set()
    store = replicated(reactor, [one, other], wanted=2, hints=hints)
    with capturedLogs() as logs:
        assert await content(await store.read(ID)) == FIRST
    assert [
        each["to"] for each in logs if "read repair found another body" in each["log_format"]
    ] == [one.name]
    assert (one.blobs[ID].body, hints) == (SECOND, set())


@ensureDeferred
async def test_a_damaged_copy_is_no_other_body(reactor, tmp_path):
    """It gives way to whichever body comes with its id."""
    first, second = colliding(100_000)
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    id = (await put(store, first)).id
    path = store._layout.body(id)
    path.write_bytes(b"?" + path.read_bytes()[1:])
    await put(store, second)
    assert await content(await store.read(id)) == second
    with pytest.raises(Conflict):
        await put(store, first)
    await store.close()


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
