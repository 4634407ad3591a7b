"""What is found when a store is opened, and what is made of it."""

from __future__ import annotations

from uuid import UUID

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from sos.errors import NotFound, ReadOnly, StoreUnusable, Unavailable
from tests.stores.engines.postgres.stores import (
    Tables,
    check_digests,
    let_in_guest,
    looked_after,
    make,
    opened,
)
from tests.support.blobs import body_of, content, content_id, put
from tests.support.ports import free_ports


@ensureDeferred
async def test_several_can_be_opened_at_once(url, reactor):
    """One of them makes the tables, which the others wait for."""
    stores = [make(url, reactor) for _ in range(6)]
    await gatherResults([deferred(store.open()) for store in stores])
    id = (await put(stores[0], b"one")).id
    for store in stores:
        assert (await store.stat(id)).size == 3
        await store.close()


@ensureDeferred
async def test_what_was_stored_is_there_when_it_is_opened_again(url, reactor):
    """Under another address of the same server, too: its Unix socket."""
    async with opened(url, reactor) as store:
        id = (await put(store, b"one")).id
    async with opened(url, reactor) as store:
        assert (await store.stat(id)).size == 3


@ensureDeferred
async def test_a_unix_socket_is_an_address(shared_engine, url, reactor):
    """As libpq has them, in the host."""
    table = url.partition("?")[2]
    async with opened(url, reactor) as store:
        id = (await put(store, b"one")).id
    async with opened(f"{shared_engine.socket_url}&{table}", reactor) as store:
        assert (await store.stat(id)).size == 3


@ensureDeferred
async def test_stores_of_one_database_are_apart(url, reactor):
    """By their tables."""
    async with opened(url, reactor) as one, opened(url + "b", reactor) as other:
        id = (await put(one, b"one")).id
        with pytest.raises(NotFound):
            await other.stat(id)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("CREATE TABLE {} (x int)", "does not belong to a store"),
        ("CREATE TABLE {0}_state (x int); CREATE TABLE {0} (x int)", "cannot be read"),
        ("CREATE TABLE {}_pieces (x int)", "cannot create the tables"),
        (
            "CREATE TABLE {0}_state AS SELECT 2 AS sos_version; CREATE TABLE {0} (x int)",
            "have version 2",
        ),
        (
            "CREATE TABLE {0}_state (sos_version int); CREATE TABLE {0} (x int)",
            "is empty",
        ),
    ],
)
@ensureDeferred
async def test_tables_of_another_kind_are_refused(shared_engine, url, reactor, before, message):
    """They are somebody's, or of a later version; and they are left as they are."""
    with shared_engine.connection() as connection:
        connection.execute(before.format(url.rpartition("=")[2]))
    store = make(url, reactor)
    with pytest.raises(StoreUnusable, match=message) as caught:
        await store.open()
    assert store.name in str(caught.value)
    with pytest.raises(Unavailable, match="not open"):
        await store.listing()
    await store.close()


@pytest.mark.parametrize("wrong", ["nobody@", "postgres:wrong@"])
@ensureDeferred
async def test_a_wrong_password_is_refused(locked_engine, reactor, wrong):
    """And is not in what is said of it."""
    store = make(locked_engine.url.replace("postgres@", wrong), reactor)
    with pytest.raises(StoreUnusable, match="password") as caught:
        await store.open()
    assert "wrong" not in str(caught.value).replace("wrong password", "")
    await store.close()


@ensureDeferred
async def test_libpq_finds_the_password(locked_engine, reactor, monkeypatch, tmp_path):
    """In the URL, in the environment, or in a file."""
    table = "?table=found"
    with_password = locked_engine.url.replace("@", ":opensesame@")
    async with opened(with_password + table, reactor) as store:
        id = (await put(store, b"one")).id
        assert "opensesame" not in store.name
    monkeypatch.setenv("PGPASSWORD", "opensesame")
    async with opened(locked_engine.url + table, reactor) as store:
        assert (await store.stat(id)).size == 3
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.write_text("127.0.0.1:*:*:postgres:opensesame\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    async with opened(locked_engine.url + table, reactor) as store:
        assert (await store.stat(id)).size == 3


@ensureDeferred
async def test_a_database_that_is_not_there_is_refused(shared_engine, reactor):
    """It will not come by itself."""
    store = make(shared_engine.url + "2", reactor)
    with pytest.raises(StoreUnusable, match="does not exist"):
        await store.open()
    await store.close()


@ensureDeferred
async def test_a_server_that_is_not_there_may_come(reactor):
    """So it is tried again, and nothing is done before."""
    (port,) = free_ports(1)
    store = make(f"postgresql://127.0.0.1:{port}/x", reactor)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.open()
    with pytest.raises(Unavailable):
        await put(store, b"one")
    await store.close()


@ensureDeferred
async def test_a_store_that_is_not_open_is_unavailable(url, reactor):
    """Before and after; closing it is possible all the same."""
    store = make(url, reactor)
    with pytest.raises(Unavailable):
        await store.stat("name")
    await store.open()
    await store.close()
    for ask in (store.stat("name"), put(store, b"one"), put(store, bytes(300_000))):
        with pytest.raises(Unavailable):
            await ask


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
@ensureDeferred
async def test_a_server_that_loses_what_it_acknowledged_is_refused(engine, reactor, setting):
    """Unless one says that this is meant."""
    engine.restart(**{setting: "off"})
    store = make(engine.url, reactor)
    with pytest.raises(StoreUnusable, match=f"{setting} = off.*durability=relaxed"):
        await store.open()
    await store.close()
    async with opened(engine.url + "?durability=relaxed", reactor) as store:
        assert (await store.stat((await put(store, b"one")).id)).size == 3
        assert (await store.status()).writable


@ensureDeferred
async def test_a_server_that_turns_careless_is_not_written_to(engine, reactor):
    """Reading goes on, and writing when it has changed its mind."""
    async with opened(engine.url, reactor) as store:
        id = (await put(store, b"one")).id
        engine.restart(fsync="off")
        for ask in (put(store, b"two"), put(store, bytes(300_000)), store.lease(60)):
            with pytest.raises(ReadOnly, match="fsync = off"):
                await ask
        assert (await store.stat(id)).size == 3
        status = await store.status()
        assert not status.writable
        assert "fsync = off" in status.reason
        engine.restart()
        await put(store, b"two")


@ensureDeferred
async def test_commits_are_durable_where_the_server_would_not_make_them(engine, reactor):
    """It is for each session to say, and these do."""
    engine.restart(synchronous_commit="off")
    shown = "SHOW synchronous_commit"
    async with opened(engine.url, reactor) as store:
        ask = store._connections.run
        assert await ask(lambda session: session.execute(shown).fetchone()) == ("on",)
        assert (await store.status()).writable
    async with opened(engine.url + "?durability=relaxed", reactor) as store:
        ask = store._connections.run
        assert await ask(lambda session: session.execute(shown).fetchone()) == ("off",)


@ensureDeferred
async def test_a_server_that_is_read_only_is_read_from(engine, reactor):
    """Its status says so; without tables there is nothing to read, and it is tried again."""
    engine.restart(default_transaction_read_only="on")
    store = make(engine.url + "?table=none", reactor)
    with pytest.raises(Unavailable, match="read-only"):
        await store.open()
    await store.close()
    engine.restart()
    async with opened(engine.url, reactor) as store:
        id = (await put(store, b"one")).id
    engine.restart(default_transaction_read_only="on")
    async with opened(engine.url, reactor) as store:
        assert (await store.stat(id)).size == 3
        for ask in (
            put(store, b"two"),
            put(store, bytes(300_000)),
            store.lease(60),
            store.reconcile(id, {}),
            store.drop(id, "0" * 32),
            store.release("0" * 32),
        ):
            with pytest.raises(ReadOnly):
                await ask
        assert not (await store.status()).writable
        assert await store.listing() == [id]
        engine.restart()
        await put(store, b"two")
        assert (await store.status()).writable


@pytest.fixture
def ascii_url(shared_engine, url):
    """Where a store can be in a database without an encoding."""
    name = url.rpartition("=")[2]
    with shared_engine.connection() as connection:
        made = f"create database {name} encoding 'SQL_ASCII' locale 'C' template template0"
        connection.execute(made)
    yield url.replace("/postgres?", f"/{name}?")
    with shared_engine.connection() as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.mark.parametrize("asked", ["", "&client_encoding=LATIN1", "&client_encoding=SQL_ASCII"])
@ensureDeferred
async def test_a_database_without_an_encoding_is_as_good_as_any(ascii_url, reactor, asked):
    """Text is written and read as it is, whatever the URL says of encodings."""
    async with opened(ascii_url + asked, reactor) as store:
        for n, body in enumerate((b"\xff", body_of(300_000))):
            await put(store, body, f"name{n}", {"X-A": "\u20ac\udcff"})
            blob = await store.read(f"name{n}")
            assert (await content(blob), blob.info.metadata) == (body, {"X-A": "\u20ac\udcff"})
        assert sorted(await store.listing()) == ["name0", "name1"]
        await check_digests(store)


@pytest.mark.parametrize(
    "broken",
    [
        "ALTER TABLE $ ALTER metadata TYPE char(2)",
        "ALTER TABLE $ RENAME body TO trunk",
        "ALTER TABLE $_pieces DROP bytes",
        "ALTER TABLE $_pieces ALTER hash TYPE text",
        "DROP TABLE $_pieces",
        "ALTER TABLE $_digests DROP sum",
        "ALTER TABLE $_loose DROP doomed",
        "CREATE FUNCTION $_f() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.body = NULL; RETURN NEW; END'; "
        "CREATE TRIGGER t BEFORE INSERT ON $ FOR EACH ROW EXECUTE FUNCTION $_f()",
    ],
)
@ensureDeferred
async def test_tables_in_which_nothing_can_be_kept_are_not_opened(url, reactor, tables, broken):
    """It is tried before anything is taken, and leaves no trace."""
    async with opened(url, reactor):
        pass
    tables.run(broken)
    store = make(url, reactor)
    with pytest.raises(StoreUnusable, match=r"cannot write and read|read back different"):
        await store.open()
    with pytest.raises(Unavailable, match="not open"):
        await put(store, b"one")
    await store.close()
    assert tables.run("select count(*) from $") == [(0,)]


@ensureDeferred
async def test_the_trial_leaves_nothing(url, reactor, tables):
    """Neither in one table nor in another."""
    async with opened(url, reactor) as store:
        assert await store.listing() == []
        assert await store.digests() == {}
        for table in ("pieces", "loose", "digests", "damaged"):
            assert tables.count(table) == 0


@ensureDeferred
async def test_a_new_store_is_made_where_there_is_nothing(url, reactor, logged):
    """That is logged, with its id, by which it is known from then on."""
    stores = [make(url, reactor) for _ in range(4)]
    await gatherResults([deferred(store.open()) for store in stores])
    (id,) = {store.identity for store in stores}
    assert str(UUID(id)) == id
    assert logged("created a new store") == [f"created a new store in {stores[0].name}, id={id}"]
    for store in stores:
        await store.close()
    async with opened(url, reactor) as store:
        assert store.identity == id


@ensureDeferred
async def test_a_store_that_has_to_be_there_is_not_made(url, reactor, tables):
    """One that is there is opened."""
    store = make(url, reactor)
    with pytest.raises(StoreUnusable, match="no tables"):
        await store.open(require=True)
    assert tables.run("select to_regclass('$')") == [(None,)]
    await store.open()
    await store.close()
    again = make(url, reactor)
    await again.open(require=True)
    assert again.identity == store.identity
    await again.close()


@ensureDeferred
async def test_a_changed_search_path_makes_no_second_store(shared_engine, url, reactor, tables):
    """The tables are where they were; the daemon says where, and what to do."""
    async with opened(url, reactor) as store:
        await put(store, b"one", "one")
    with shared_engine.connection() as connection:
        connection.execute("create schema if not exists other")
    elsewhere = make(f"{url}&options=-csearch_path%3Dother", reactor)
    with pytest.raises(StoreUnusable, match="in the schema public, which is not in"):
        await elsewhere.open()
    await elsewhere.close()
    assert tables.run("select to_regclass('other.$')") == [(None,)]
    async with opened(f"{url}b&options=-csearch_path%3Dother", reactor) as other:
        assert await other.listing() == []
    async with opened(f"{url}&options=-csearch_path%3Dother,public", reactor) as store:
        assert await store.listing() == ["one"]


@ensureDeferred
async def test_a_store_from_before_stores_had_ids_gets_one(url, reactor, tables, logged):
    """What it holds stays."""
    async with opened(url, reactor) as store:
        await put(store, b"one", "one")
    tables.run("alter table $_state drop store_id")
    before, again = make(url, reactor), make(url, reactor)
    await before.open(require=True)
    await again.open()
    assert before.identity == again.identity is not None
    assert await again.listing() == ["one"]
    assert len(logged("gave an id to the store")) == 1
    await before.close()
    await again.close()


@pytest.mark.parametrize("read_only", [True, False])
@ensureDeferred
async def test_where_no_id_can_be_given_the_store_is_opened_without(
    engine, reactor, logged, read_only
):
    """By who does not own the tables, or cannot write."""
    async with opened(engine.url, reactor) as store:
        await put(store, b"one", "one")
    with engine.connection() as connection:
        connection.execute("alter table sos_state drop store_id")
    let_in_guest(engine)
    if read_only:
        engine.restart(default_transaction_read_only="on")
    async with opened(engine.url.replace("//postgres@", "//guest@"), reactor) as store:
        assert store.identity is None
        assert await store.listing() == ["one"]
        if not read_only:
            await put(store, b"two")
    assert len(logged("cannot give an id")) == 1


@pytest.mark.parametrize(
    ("change", "back"),
    [
        ("update $_state set store_id = 'another'", "update $_state set store_id = '{}'"),
        ("alter table $_state rename to $_gone", "alter table $_gone rename to $_state"),
        ("alter table $ rename to $_gone", "alter table $_gone rename to $"),
        (
            "alter table $_state rename sos_version to x",
            "alter table $_state rename x to sos_version",
        ),
    ],
)
@ensureDeferred
async def test_another_store_in_its_place_is_not_believed(url, reactor, tables, change, back):
    """A new connection is to lead to the same store, whole; and when it does all is well."""
    async with opened(url, reactor) as store:
        await put(store, b"one", "one")
        tables.run(change)
        while store._connections._pool.working:  # with one that it would give back
            await deferLater(reactor, 0.01)
        while store._connections._idle:
            store._connections._idle.pop().close()
        for ask in (store.listing(), put(store, b"two"), store.status()):
            with pytest.raises(Unavailable, match="no longer contains the store"):
                await ask
        tables.run(back.format(store.identity))
        assert await store.listing() == ["one"]


@ensureDeferred
async def test_a_dump_can_be_restored(engine, reactor, tmp_path):
    """It is of one moment; what was on its way then is cleared away some time."""
    bodies = [body_of(size) for size in (0, 1000, 700_000)]
    async with opened(engine.url, reactor) as store:
        for body in bodies:
            await put(store, body, metadata={"X-A": "1"})
        writer = store.writer()
        await writer.write(body_of(600_000, seed=1))
        (tmp_path / "dump").write_bytes(engine.run("pg_dump"))
        writer.abort()
    with engine.connection() as connection:
        connection.execute("drop schema public cascade; create schema public")
    with (tmp_path / "dump").open() as dump:
        engine.run("psql", "-v", "ON_ERROR_STOP=1", stdin=dump)
    async with opened(engine.url, reactor) as store:
        assert sorted(await store.listing()) == sorted(map(content_id, bodies))
        for body in bodies:
            blob = await store.read(content_id(body))
            assert (await content(blob), blob.info.metadata) == (body, {"X-A": "1"})
        await check_digests(store)
        tables = Tables(engine, "=sos")
        tables.run("update $_loose set seen = now() - interval '1 day'")
        await looked_after(store)
        assert tables.count("pieces") == 3
