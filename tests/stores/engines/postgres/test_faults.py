"""A server that is killed, frozen, cut off or full, while a store uses it."""

from __future__ import annotations

import os
from contextlib import aclosing, suppress

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import DeferredList, gatherResults
from twisted.internet.defer import ensureDeferred as deferred

from sos.errors import NoSpace, ReadOnly, Unavailable
from sos.stores.engines.postgres import connections, session
from tests.stores.engines.postgres.stores import (
    Tables,
    answering,
    check_digests,
    eventually,
    let_in_guest,
    opened,
)
from tests.support.blobs import body_of, content, content_id, put
from tests.support.engines.forwarding import Forwarding


@pytest.fixture
def impatient(engine, monkeypatch):
    """The URL of a store that waits for two seconds where others wait for ten."""
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(session, "_STATEMENT_SECONDS", 1)
    return f"{engine.url}?connect_timeout=2&table=impatient"


@ensureDeferred
async def test_a_server_that_is_killed_in_the_middle_of_a_body_comes_back(engine, reactor):
    """The upload fails, nothing of it is seen, and the same store goes on."""
    async with opened(engine.url, reactor) as store:
        id = (await put(store, body_of(700_000))).id
        blob = await store.read(id)
        writer = store.writer()
        await writer.write(body_of(600_000, seed=1))
        engine.kill()
        with pytest.raises(Unavailable):
            await writer.commit()
        writer.abort()
        with pytest.raises(Unavailable):
            await content(blob)
        for ask in (store.stat(id), store.read(id), store.listing(), store.digests()):
            with pytest.raises(Unavailable):
                await ask
        with pytest.raises(Unavailable):
            await store.status()
        engine.start()
        await answering(store, reactor)
        assert await store.listing() == [id]
        assert await content(await store.read(id)) == body_of(700_000)
        await put(store, body_of(600_000, seed=1))
        await check_digests(store)


@ensureDeferred
async def test_pieces_that_a_crash_has_lost_are_missed(engine, reactor):
    """They are not made durable one by one; a body that lacks some is never a blob."""
    async with opened(engine.url, reactor) as store:
        writer = store.writer()
        await writer.write(body_of(600_000))
        assert Tables(engine, "=sos").run("delete from $_pieces where number = 1") == 1
        with pytest.raises(Unavailable):
            await writer.commit()
        assert await store.listing() == []
        await put(store, body_of(600_000))


@ensureDeferred
async def test_a_frozen_server_is_unavailable_in_bounded_time(engine, impatient, reactor):
    """Whatever is asked, and however much: it ends, though nothing is answered."""
    async with opened(impatient, reactor) as store:
        id = (await put(store, body_of(700_000))).id
        writer = store.writer()
        await writer.write(body_of(600_000, seed=1))
        engine.freeze()
        asked = [deferred(store.stat(id)) for _ in range(30)]
        asked += [deferred(put(store, b"%d" % n)) for n in range(10)]
        asked += [deferred(put(store, body_of(300_000, seed=n))) for n in range(2)]
        asked += [deferred(store.status()), deferred(writer.commit()), deferred(store.lease(9))]
        for each in asked:
            with pytest.raises(Unavailable):
                await each
        engine.thaw()
        await answering(store, reactor)
        assert await content(await store.read(id)) == body_of(700_000)
        await check_digests(store)


@ensureDeferred
async def test_a_frozen_server_does_not_keep_a_store_from_closing(engine, impatient, reactor):
    """Not for longer than it is waited for."""
    async with opened(impatient, reactor) as store:
        await put(store, b"one")
        engine.freeze()
        asked = [deferred(store.stat("name")) for _ in range(3)]
        closing = deferred(store.close())
        for each in asked:
            with pytest.raises(Unavailable):
                await each
        await closing
        engine.thaw()


@ensureDeferred
async def test_a_connection_that_is_cut_is_made_anew(engine, reactor):
    """Those that are idle are not even missed."""
    async with opened(engine.url, reactor) as store:
        asked = [deferred(put(store, b"%d" % n)) for n in range(20)]
        await gatherResults(asked)
        blob = await store.read((await put(store, body_of(700_000))).id)
        with engine.connection() as connection:
            cut = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> %s"
            own = connection.info.backend_pid
            connection.execute(cut + " and application_name = 'sos'", (own,))
            left = "select count(*) from pg_stat_activity where application_name = 'sos'"

            async def count():
                return connection.execute(left).fetchone()[0]

            await eventually(reactor, count, lambda number: number == 0)
        assert len(await store.listing()) == 21
        assert await content(blob) == body_of(700_000)
        await put(store, b"another")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("ALTER SYSTEM SET default_transaction_read_only = on", ReadOnly),
        ("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM guest", Unavailable),
    ],
)
@pytest.mark.parametrize("together", [1, 3])
@ensureDeferred
async def test_after_a_failover_blobs_go_to_the_new_master(
    engine, shared_engine, url, tables, reactor, tmp_path, change, error, together
):
    """Though the old one lives on and refuses them, and its connections stay."""
    table = url.partition("?")[2]
    async with opened(f"{engine.url}?{table}", reactor) as store:
        await put(store, b"kept", "kept")
    (tmp_path / "dump").write_bytes(engine.run("pg_dump", "--no-acl", "-t", "t*"))
    with (tmp_path / "dump").open() as dump:
        shared_engine.run("psql", "-v", "ON_ERROR_STOP=1", stdin=dump)
    for each in (engine, shared_engine):
        let_in_guest(each)
    way = Forwarding(engine.port)
    port = reactor.listenTCP(0, way, interface="127.0.0.1")
    url = f"postgresql://guest@127.0.0.1:{port.getHost().port}/postgres?{table}"
    async with opened(url, reactor) as store:
        await gatherResults([deferred(store.stat("kept")) for _ in range(20)])
        with engine.connection() as connection:
            connection.execute(change)
            connection.execute("select pg_reload_conf()")
        while not await _refuses(store, error, 1):  # which its processes learn one by one
            pass
        way.port = shared_engine.port
        refusals = 0
        while await _refuses(store, error, together):
            refusals += 1
            assert refusals <= connections.MOST_CONNECTIONS
        assert tables.run("select count(*) from $ where key ~ 'after'") == [(together,)]
    await port.stopListening()
    with engine.connection() as connection:
        connection.execute("ALTER SYSTEM RESET ALL")


async def _refuses(store, error, together):
    """Tell whether blobs that are stored together are refused by *error*."""
    names = [f"after{n}" for n in range(together)]
    puts = [deferred(put(store, b"after", name)) for name in names]
    outcomes = await DeferredList(puts, consumeErrors=True)
    for stored, outcome in outcomes:
        assert stored or outcome.check(error)
    return not all(stored for stored, _ in outcomes)


@ensureDeferred
async def test_a_statement_that_is_cut_off_is_unavailable(engine, reactor):
    """Nothing is stored then, and the next one succeeds."""
    async with opened(engine.url, reactor) as store:
        await put(store, b"one", "one")
        with engine.connection() as connection, connection.transaction():
            # Another client that holds what the upload needs.
            connection.execute("lock table sos in access exclusive mode")
            upload = deferred(put(store, b"two", "two"))
            waits = "select pid from pg_locks where not granted"

            async def waiting():
                return connection.execute(waits).fetchall()

            ((pid,),) = await eventually(reactor, waiting, lambda found: found)
            connection.execute("select pg_terminate_backend(%s)", (pid,))
            with pytest.raises(Unavailable):
                await upload
        assert await store.listing() == ["one"]
        await put(store, b"two", "two")


@ensureDeferred
async def test_who_waits_too_long_for_another_is_told(engine, impatient, reactor):
    """The server gives up before its client does, and keeps the connection."""
    async with opened(impatient, reactor) as store:
        with engine.connection() as connection, connection.transaction():
            connection.execute("lock table impatient in access exclusive mode")
            with pytest.raises(Unavailable, match="statement timeout"):
                await put(store, b"one")
        await put(store, b"one")


@pytest.mark.system
@ensureDeferred
async def test_a_full_disk_refuses_what_does_not_fit(engine, reactor, small_tablespace):
    """With NoSpace; reading goes on, and so does writing when there is room."""
    url = f"{engine.url}?options=-cdefault_tablespace%3Dsmall"
    async with opened(url, reactor) as store:
        kept = {}

        async def fill():
            for _ in range(200):
                body = os.urandom(100_000)
                kept[(await put(store, body)).id] = body

        with pytest.raises(NoSpace):
            await fill()
        assert 10 < len(kept) < 100
        with pytest.raises(NoSpace):
            await put(store, os.urandom(3_000_000))
        for id, body in kept.items():
            assert await content(await store.read(id)) == body
        assert sorted(await store.listing()) == sorted(kept)
        await check_digests(store)
        small_tablespace.unlink()
        await put(store, body_of(1_000_000))
        await check_digests(store)


@ensureDeferred
async def test_one_that_fails_does_not_fail_its_neighbours(engine, reactor):
    """Of those that go in one transaction: the ones that fit are stored."""
    async with opened(engine.url, reactor) as store:
        with engine.connection() as connection:
            # What fails for one of them alone, and for no reason of its own.
            connection.execute("alter table sos add check (size <> 13)")
        bodies = [body_of(size) for size in range(10, 17)]
        uploads = [deferred(put(store, body)) for body in bodies]
        for body, upload in zip(bodies, uploads, strict=True):
            if len(body) == 13:
                with pytest.raises(Unavailable, match="check"):
                    await upload
            else:
                assert (await upload).id == content_id(body)
        assert len(await store.listing()) == 6
        await check_digests(store)


@ensureDeferred
async def test_a_body_that_is_left_does_no_harm(engine, reactor):
    """Neither in its first piece nor unread, killed or not."""
    async with opened(engine.url, reactor) as store:
        id = (await put(store, body_of(1_000_000))).id
        blob = await store.read(id)
        async with aclosing(blob.body):
            async for _ in blob.body:
                engine.kill()
                break
        engine.start()
        await answering(store, reactor)
        await (await store.read(id)).body.aclose()
        assert store._garbage_collector.used.all() == []


@ensureDeferred
async def test_an_upload_whose_answer_was_lost_may_have_been_stored(engine, reactor):
    """It is Unavailable, and either whole or not at all; sent again it is a success."""
    async with opened(engine.url, reactor) as store:
        uploads = [deferred(put(store, body_of(200_000 + n))) for n in range(20)]
        uploads += [deferred(put(store, body_of(100 + n))) for n in range(100)]
        first = await put(store, b"first")
        engine.kill()
        acknowledged = {first.id}
        for upload in uploads:
            with suppress(Unavailable):
                acknowledged.add((await upload).id)
        engine.start()
        await answering(store, reactor)
        there = await store.listing()
        assert acknowledged <= set(there)
        for id in there:
            await content(await store.read(id))
        for n in range(20):
            await put(store, body_of(200_000 + n))
        await check_digests(store)
