"""A Redis in trouble: nothing acknowledged is lost, and nothing hangs."""

from __future__ import annotations

import time
from itertools import count

import pytest
import redis
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, DeferredList, gatherResults
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import deferLater

from sos.errors import NoSpace, NotFound, ReadOnly, Unavailable
from sos.model.digest import PartitionDigest, record_sum
from sos.model.ids import partition, sort_key
from sos.model.metadata import encode
from sos.stores.engines.redis import pool
from sos.stores.engines.redis import store as redis_store
from sos.stores.engines.redis.record import PIECE
from tests.support.blobs import body_of, content, content_id, put
from tests.support.engines.forwarding import Forwarding
from tests.support.engines.redis import started
from tests.support.waiting import wait_until

LARGE = 2 * PIECE + 100


def bodies_in(engine):
    """Return the keys of bodies that lie in pieces, and in how many seconds they end."""
    with engine.client() as client:
        return {key: client.ttl(key) for key in client.keys("sos:body:*")}


async def asks(store, id):
    """Ask for all that a store can be asked for, and return what is raised."""
    asked = (
        store.stat(id),
        store.read(id),
        put(store, b"something"),
        put(store, body_of(LARGE, 7)),
        store.listing(),
        store.digests(),
        store.blob_digests(partition(id)),
        store.reconcile(id, {}),
        store.lease(10),
        store.release("0" * 32),
        store.drop(id, "0" * 32),
        store.status(),
    )
    answers = await DeferredList([deferred(each) for each in asked], consumeErrors=True)
    return {good if good else type(answer.value) for good, answer in answers}


async def recovered(store):
    """Wait until the store has seen that what was there is there again."""
    while True:
        try:
            return await store.listing()
        except Unavailable:
            await deferLater(store._reactor, 0.02)


async def expected_digests(store):
    """Reckon the digests from what is there."""
    found: dict[str, PartitionDigest] = {}
    for id in await store.listing():
        info = await store.stat(id)
        before = found.get(partition(id), PartitionDigest())
        hash = (await store.blob_digests(partition(id)))[id].hash
        sum = record_sum(id, encode(info.metadata), bytes.fromhex(hash))
        found[partition(id)] = before.with_blob(info.size, sum)
    return found


@pytest.mark.parametrize("size", [10, LARGE])
@ensureDeferred
async def test_a_redis_that_is_killed_and_started_again_has_it_all(engine, store, size):
    """Unavailable meanwhile, and then everything is there, with the same store."""
    body = body_of(size)
    id = (await put(store, body, metadata={"X-A": "1"})).id
    before = await store.digests()
    engine.kill()
    assert await asks(store, id) == {Unavailable}
    engine.start()
    assert await content(await store.read(id)) == body
    assert await store.digests() == before


@ensureDeferred
async def test_an_upload_during_which_redis_is_started_again_is_not_acknowledged(engine, store):
    """If a piece did not get there; its bytes can be sent again."""
    body = body_of(3 * LARGE)
    writer = store.writer()
    await writer.write(body[:LARGE])
    engine.kill()
    with pytest.raises(Unavailable):
        await writer.write(body[LARGE:])
    engine.start()
    with pytest.raises(Unavailable):
        await writer.commit()
    writer.abort()
    assert await store.listing() == []
    assert all(0 < left <= 3600 for left in bodies_in(engine).values())
    assert await content(await store.read((await put(store, body)).id)) == body


@ensureDeferred
async def test_an_upload_goes_on_after_a_restart_between_its_pieces(engine, store):
    """What Redis has acknowledged of it is there."""
    body = body_of(3 * LARGE)
    writer = store.writer()
    await writer.write(body[:LARGE])
    engine.restart()
    await recovered(store)
    await writer.write(body[LARGE:])
    assert await content(await store.read((await writer.commit()).id)) == body


@ensureDeferred
async def test_a_redis_that_stands_still_is_given_up(engine, store, hurried):
    """Each request ends in time; when it goes on so do we."""
    id = (await put(store, b"kept")).id
    engine.freeze()
    assert await asks(store, id) == {Unavailable}
    assert await asks(store, id) == {Unavailable}
    engine.thaw()
    await recovered(store)
    assert await content(await store.read(id)) == b"kept"


@ensureDeferred
async def test_the_deadlines_are_of_seconds(engine, store):
    """A request to a Redis that stands still ends, with those that are in force."""
    assert max(pool.ANSWER_SECONDS, pool.CONNECT_SECONDS) < 10
    engine.freeze()
    with pytest.raises(Unavailable):
        await store.stat("name")


@pytest.mark.parametrize("size", [10, LARGE])
@ensureDeferred
async def test_a_commit_without_an_answer_is_not_acknowledged(
    engine, stores, hurried, reactor, size
):
    """It may have been done, and is whole then, whatever is aborted after it."""
    way = Forwarding(engine.port)
    port = reactor.listenTCP(0, way, interface="127.0.0.1")
    store = stores(f"redis://127.0.0.1:{port.getHost().port}")
    await store.open()
    await gatherResults([deferred(put(store, body_of(size, 1))) for _ in range(8)])
    body = body_of(size)
    writer = store.writer()
    await writer.write(body)
    await last_piece_gone(writer)
    way.deaf = True
    with pytest.raises(Unavailable):
        await writer.commit()
    writer.abort()
    assert await asks(store, content_id(body)) == {Unavailable}
    way.deaf = False  # but what was lost stays so: other connections have to be made
    assert await content(await store.read(content_id(body))) == body
    with engine.client() as client:
        key = client.hget(f"sos:blob:{content_id(body)}", "key")
        assert key is None or bodies_in(engine)[b"sos:body:" + key] == -1
    assert (await put(store, body)).id == content_id(body)
    await port.stopListening()


async def last_piece_gone(writer):
    """Send the rest of a larger body, for its commit to be nothing but that."""
    if writer._sent:
        await writer._send(bytes(writer._gathered))
        writer._gathered.clear()
        writer._send = sent_already


async def sent_already(piece):
    pass


@ensureDeferred
async def test_connections_that_are_cut_are_made_again(engine, store):
    """What was under way is unavailable, the next is not."""
    body = body_of(3 * LARGE)
    id = (await put(store, body)).id
    for _ in range(5):
        asked = [deferred(put(store, b"%d" % n)) for n in range(20)]
        with engine.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        for each in asked:
            try:
                await each
            except Unavailable:
                continue
        assert await content(await store.read(id)) == body
    assert await store.digests() == await expected_digests(store)


@ensureDeferred
async def test_a_body_goes_on_over_another_connection(engine, store):
    """Who reads it sees nothing of it, wherever the first one is cut."""
    body = body_of(4 * PIECE)
    blob = await store.read((await put(store, body)).id)
    received = b""
    async for piece in blob.body:
        received += piece
        with engine.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
    assert received == body


@pytest.mark.parametrize("size", [1000, LARGE])
@ensureDeferred
async def test_a_full_redis_takes_nothing_and_gives_all(engine, store, size):
    """NoSpace; what is there can be read and dropped, and then there is room again."""
    with engine.client() as client:
        room = max(300_000, 8 * size)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + room)
    stored = []

    async def put_until_full():
        for n in count():
            stored.append((await put(store, body_of(size, n))).id)

    with pytest.raises(NoSpace):
        await put_until_full()
    status = await store.status()
    assert status.free < 2 * size + 10_000
    assert await content(await store.read(stored[0])) == body_of(size, 0)
    assert await store.digests() == await expected_digests(store)
    assert len(await store.listing()) == len(stored)
    with engine.client() as client:
        client.config_set("maxmemory", 1)
    status = await store.status()
    assert (status.writable, status.free) == (False, 0)
    assert "full" in status.reason
    with pytest.raises(NoSpace):
        await put(store, b"more")
    with engine.client() as client:
        client.config_set("maxmemory", 0)
        token = await store.lease(60)
        client.config_set("maxmemory", 1)
    await store.drop(stored[0], token)
    with pytest.raises(NotFound):
        await store.read(stored[0])
    assert await store.digests() == await expected_digests(store)
    with engine.client() as client:
        client.config_set("maxmemory", 0)
    await put(store, b"more")


@ensureDeferred
async def test_a_replica_takes_nothing(engine, store, stores, tmp_path):
    """It is read-only, and what it has got can be read."""
    id = (await put(store, b"kept")).id
    with started(tmp_path / "replica", replicaof=("127.0.0.1", engine.port)) as replica:
        assert wait_until(lambda: replica.client().exists(f"sos:blob:{id}"))
        copy = stores(replica.url)
        await copy.open()
        assert await content(await copy.read(id)) == b"kept"
        with pytest.raises(ReadOnly, match="replica"):
            await put(copy, b"other")
        status = await copy.status()
        assert not status.writable
        assert "replica" in status.reason


@ensureDeferred
async def test_after_a_failover_blobs_go_to_the_new_master(engine, stores, tmp_path, reactor):
    """Though the old one lives on as its replica, and its connections stay."""
    way = Forwarding(engine.port)
    port = reactor.listenTCP(0, way, interface="127.0.0.1")
    with started(tmp_path / "other", replicaof=("127.0.0.1", engine.port)) as other:
        store = stores(f"redis://127.0.0.1:{port.getHost().port}")
        await store.open()
        for n in range(20):  # on each of its connections
            await put(store, b"before %d" % n)
        with engine.client() as old, other.client() as new:
            assert wait_until(lambda: new.dbsize() == old.dbsize())
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", str(other.port))
            assert wait_until(lambda: old.info("replication")["role"] == "slave")
        way.port = other.port
        refused = 0
        while True:
            try:
                await put(store, b"after")
                break
            except ReadOnly:
                refused += 1
        assert refused <= pool.CONNECTIONS
        assert await content(await store.read(content_id(b"before 0"))) == b"before 0"
        await store.close()
    await port.stopListening()


@ensureDeferred
async def test_a_redis_that_cannot_write_to_its_disk_is_read_only(engine, store):
    """It says so."""
    id = (await put(store, b"kept")).id
    (engine.directory / "dump.rdb" / "in the way").mkdir(parents=True)
    with engine.client() as client:
        client.config_set("save", "3600 1000")
        with pytest.raises(redis.ResponseError):
            client.save()
        client.bgsave()
        assert wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    with pytest.raises(ReadOnly, match="disk"):
        await put(store, b"other")
    assert await content(await store.read(id)) == b"kept"
    status = await store.status()
    assert not status.writable
    assert "disk" in status.reason


@ensureDeferred
async def test_a_redis_that_still_loads_is_unavailable(engine, store):
    """Until it has loaded, without anything to be started again."""
    id = (await put(store, b"kept")).id
    with engine.client() as client, client.pipeline(transaction=False) as many:
        for n in range(10_000):
            many.set(f"another's {n}", n)
        many.execute()
    engine.kill()
    engine.settings["key-load-delay"] = 50
    engine.start_loading()
    with pytest.raises(Unavailable):
        await store.stat(id)  # by which the store sees that its connection has ended
    with pytest.raises(Unavailable, match="loading"):
        await store.stat(id)
    assert await recovered(store) == [id]


@pytest.mark.parametrize("size", [10, LARGE])
@ensureDeferred
async def test_who_gives_up_a_commit_harms_nothing(engine, store, size):
    """It happens whole, or not at all; other requests get the answers that are theirs."""
    with engine.client() as client:
        before = client.info("stats")["total_connections_received"]
    for n in range(20):
        body = body_of(size, n)
        writer = store.writer()
        await writer.write(body)
        other = deferred(store.listing())
        committing = deferred(writer.commit())
        reading = deferred(store.stat("name"))
        reading.addErrback(lambda _: None)
        if n % 2:
            await deferLater(store._reactor, 0)
        committing.cancel()
        reading.cancel()
        with pytest.raises(CancelledError):
            await committing
        writer.abort()
        assert isinstance(await other, list)
    await store._underway.finish()
    assert await store.digests() == await expected_digests(store)
    for id in await store.listing():
        assert content_id(await content(await store.read(id))) == id
    stored = len(await store.listing())
    assert list(bodies_in(engine).values()) == [-1] * (stored if size == LARGE else 0)
    with engine.client() as client:
        made = client.info("stats")["total_connections_received"] - before
    assert made <= pool.CONNECTIONS + 2  # which are ours, to look


@ensureDeferred
async def test_an_aborted_upload_leaves_nothing(engine, store):
    """Not even a key that ends by itself."""
    for n in range(5):
        writer = store.writer()
        writing = deferred(writer.write(body_of(3 * LARGE, n)))
        writing.cancel()
        with pytest.raises(CancelledError):
            await writing
        writer.abort()
    await store.close()
    assert bodies_in(engine) == {}
    assert sorted(engine.client().keys("sos:*")) == [b"sos:format", b"sos:id"]


@ensureDeferred
async def test_an_upload_that_nobody_ends_ends_by_itself(engine, store):
    """Its pieces have an hour, which begins anew with each; what is committed stays."""
    writer = store.writer()
    for n in range(3):
        await writer.write(body_of(LARGE, n))
        (left,) = bodies_in(engine).values()
        assert 3000 < left <= 3600
        with engine.client() as client:
            client.expire(next(iter(bodies_in(engine))), 100)
    await writer.commit()
    assert list(bodies_in(engine).values()) == [-1]


@ensureDeferred
async def test_an_upload_whose_pieces_have_ended_is_not_acknowledged(engine, store):
    """However far it has come."""
    for ends_before_the_last in (True, False):
        writer = store.writer()
        await writer.write(body_of(LARGE))
        if not ends_before_the_last:
            await last_piece_gone(writer)
        with engine.client() as client:
            client.delete(*bodies_in(engine))
        if ends_before_the_last:
            with pytest.raises(Unavailable, match="again"):
                await writer.write(body_of(LARGE))
        with pytest.raises(Unavailable, match="again"):
            await writer.commit()
    assert await store.listing() == []


@pytest.mark.system
@ensureDeferred
async def test_what_was_acknowledged_survives_kills_under_load(engine, store, long):
    """Byte for byte, with digests that are right, and nothing torn can be seen."""
    acknowledged = {}
    reactor = store._reactor

    async def client(seed, until):
        n = 0
        while time.monotonic() < until:
            n += 1
            size = LARGE if n % 5 == 0 else n * 37 % 3000
            body = body_of(size, f"{seed} {n}")
            try:
                info = await put(store, body, metadata={"X-N": str(n)})
            except Unavailable:
                await deferLater(reactor, 0.01)
            else:
                acknowledged[info.id] = (body, {"X-N": str(n)})

    for round in range(50 if long else 3):
        until = time.monotonic() + 1.0
        clients = [deferred(client((round, each), until)) for each in range(8)]
        await deferLater(reactor, 0.3 + 0.2 * (round % 4))
        engine.restart()
        await gatherResults(clients)
    assert len(acknowledged) > 50
    for id, (body, kept) in acknowledged.items():
        blob = await store.read(id)
        assert (await content(blob), blob.info.metadata) == (body, kept)
    for id in await store.listing():
        await content(await store.read(id))
    assert await store.digests() == await expected_digests(store)


@ensureDeferred
async def test_several_processes_share_a_redis(engine, store, stores):
    """Two stores that put, settle and drop the same at once come to the same."""
    other = stores(engine.url)
    await other.open()
    kept = [{"X-A": str(n)} for n in range(6)]
    work = [
        put(each, body_of(500, n), None, meta)
        for n, meta in enumerate(kept)
        for each in (store, other)
    ]
    await gatherResults([deferred(each) for each in work])
    id = content_id(body_of(500, 0))
    await gatherResults(
        [deferred(each.reconcile(id, meta)) for meta in kept for each in (store, other)]
    )
    assert await store.digests() == await other.digests() == await expected_digests(store)
    token = await store.lease(60)
    await gatherResults([deferred(each.drop(id, token)) for each in (store, other)])
    assert await other.digests() == await expected_digests(store)
    assert len(await other.listing()) == 5


@ensureDeferred
async def test_a_long_listing_is_asked_for_in_pages(store, monkeypatch):
    """Of which nothing can be seen."""
    monkeypatch.setattr(redis_store, "_PAGE", 7)
    stored = sorted([(await put(store, b"%d" % n)).id for n in range(21)], key=sort_key)
    assert await store.listing() == stored
    assert await store.listing(limit=10) == stored[:10]
    assert await store.listing(after=stored[3], limit=14) == stored[4:18]


@ensureDeferred
async def test_the_sum_of_a_partition_is_of_128_bits(store):
    """It is exact with each blob that comes, changes and goes, whatever is carried over."""
    names = (name for n in count() if partition(name := f"name{n}") == "abc")
    stored = [(await put(store, b"body", next(names))).id for _ in range(12)]
    assert await store.digests() == await expected_digests(store)
    token = await store.lease(60)
    for id in stored[:-1]:
        await store.reconcile(id, {"X-A": id})
        assert await store.digests() == await expected_digests(store)
        await store.drop(id, token)
        assert await store.digests() == await expected_digests(store)


@ensureDeferred
async def test_digests_that_have_not_changed_are_the_same_object(store):
    """So that who has seen them has nothing to do; those that have are another."""
    await put(store, b"one")
    before = await store.digests()
    assert await store.digests() is before
    await put(store, b"two")
    assert await store.digests() != before
