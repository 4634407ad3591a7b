"""The hashes of the pieces of a body, by which a part of it is verified."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import Mismatch, NotFound, Unavailable
from sos.stores.engines.postgres.schema import PIECE_SIZE
from tests.stores.engines.postgres.stores import check_digests, let_in_guest, opened
from tests.support.blobs import body_of, content, put

SIZE = 2 * PIECE_SIZE + 1000
BODY = body_of(SIZE)

# How versions without hashes add pieces.
_COPY = "insert into $_pieces (body, number, bytes) select {}, number, bytes from $_pieces"


async def read_until_failure(store, id, span=None):
    """Return the bytes that a read of a damaged blob yields before it fails."""
    found = bytearray()

    async def read():
        blob = await store.read(id, span)
        async with aclosing(blob.body):
            async for piece in blob.body:
                found.extend(piece)

    with pytest.raises(Mismatch):
        await read()
    return found


@pytest.mark.parametrize("at", [0, PIECE_SIZE - 1, PIECE_SIZE, SIZE - 1])
@ensureDeferred
async def test_no_part_of_a_damaged_piece_is_read(tables, store, at):
    """Not even a part without the damaged byte; the blob is quarantined."""
    id = (await put(store, BODY)).id
    number, place = divmod(at, PIECE_SIZE)
    damage = "update $_pieces set bytes = overlay(bytes placing %s from %s) where number = %s"
    assert tables.run(damage, bytes([BODY[at] ^ 1]), place + 1, number) == 1
    middle = number * PIECE_SIZE + 500
    assert await read_until_failure(store, id, (middle, middle + 10)) == b""
    assert await store.listing() == []
    await check_digests(store)
    assert tables.run("select reason from $_damaged") == [
        ("a piece of the body does not match its hash",)
    ]
    await put(store, BODY)
    assert await content(await store.read(id, (middle, middle + 10))) == BODY[middle : middle + 10]


@pytest.mark.parametrize("span", [None, (5, SIZE - 5)])
@ensureDeferred
async def test_a_read_yields_the_pieces_before_the_damaged_one_alone(tables, store, span):
    """Whether all is read, or a part over several pieces."""
    id = (await put(store, BODY)).id
    tables.run("update $_pieces set bytes = overlay(bytes placing 'x' from 9) where number = 1")
    first = span[0] if span else 0
    assert await read_until_failure(store, id, span) == BODY[first:PIECE_SIZE]
    assert await store.listing() == []


@pytest.mark.parametrize(
    "misplaced",
    [
        "update $_pieces set number = 1 - number where number < 2",
        "update $_pieces set bytes = other.bytes, hash = other.hash from $_pieces as other"
        " where $_pieces.number = 1 and other.number = 0",
        "update $_pieces set bytes = other.bytes, hash = other.hash from $_pieces as other"
        " where $_pieces.number = 1 and other.number = 1 and $_pieces.body <> other.body",
    ],
)
@ensureDeferred
async def test_a_sound_piece_at_the_wrong_place_is_damage(tables, store, misplaced):
    """As after damage to an index: a hash is valid for one body and one place."""
    id = (await put(store, BODY)).id
    await put(store, body_of(SIZE, seed=1))
    tables.run("alter table $_pieces drop constraint $_pieces_pkey")
    assert tables.run(misplaced)
    assert await read_until_failure(store, id, (PIECE_SIZE + 5, PIECE_SIZE + 10)) == b""


@ensureDeferred
async def test_a_part_equals_the_slice_of_the_body(store):
    """Wherever it begins and ends."""
    id = (await put(store, BODY)).id
    places = [0, 1, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 2 * PIECE_SIZE, SIZE - 1, SIZE]
    for start in places:
        for stop in places:
            if start < stop:
                assert await content(await store.read(id, (start, stop))) == BODY[start:stop]


@ensureDeferred
async def test_a_body_without_hashes_is_read_as_before(tables, store):
    """A part is checked for its length, the whole by its id."""
    id = (await put(store, BODY)).id
    tables.run("update $_pieces set hash = null")
    span = PIECE_SIZE - 5, 2 * PIECE_SIZE + 5
    assert await content(await store.read(id, span)) == BODY[slice(*span)]
    assert await content(await store.read(id)) == BODY
    tables.run("update $_pieces set bytes = substr(bytes, 2) where number = 1")
    with pytest.raises(Mismatch):
        await content(await store.read(id, span))


@ensureDeferred
async def test_a_body_that_an_earlier_version_replaced_has_no_hashes(tables, store):
    """It replaces all pieces of a body, and hashes are in the rows of the pieces."""
    id = (await put(store, BODY)).id
    (body,) = tables.run("select pieces from $")[0]
    tables.run(_COPY.format(body - 1))
    tables.run("delete from $_pieces where body = %s", body)
    tables.run("update $ set pieces = %s", body - 1)
    span = PIECE_SIZE - 5, 2 * PIECE_SIZE + 5
    assert await content(await store.read(id, span)) == BODY[slice(*span)]
    assert await content(await store.read(id)) == BODY


@ensureDeferred
async def test_a_store_without_hashes_gets_a_column_for_them(url, reactor, tables, logged):
    """When it is opened, beside a process that had it open before; both read and write on."""
    async with opened(url, reactor) as earlier:
        id = (await put(earlier, BODY, "old")).id
        tables.run("alter table $_pieces drop hash")
        async with opened(url, reactor) as store:
            await put(store, BODY, "new")
            assert tables.run("select count(*), count(hash) from $_pieces") == [(6, 3)]
            for id in ("old", "new"):
                for each in (earlier, store):
                    assert await content(await each.read(id, (5, SIZE - 5))) == BODY[5:-5]
    assert len(logged("added a column for hashes of pieces")) == 1
    async with opened(url, reactor):
        assert len(logged("added a column for hashes of pieces")) == 1


@pytest.mark.parametrize("read_only", [True, False])
@ensureDeferred
async def test_where_no_column_can_be_added_the_store_is_opened_without(
    engine, reactor, logged, read_only
):
    """Its owner adds the column later: bodies stored from then on are verified in parts, too."""
    async with opened(engine.url, reactor) as store:
        await put(store, BODY, "one")
    with engine.connection() as connection:
        connection.execute("alter table sos_pieces drop hash")
    let_in_guest(engine)
    if read_only:
        engine.restart(default_transaction_read_only="on")
    guest = engine.url.replace("//postgres@", "//guest@")
    async with opened(guest, reactor) as store:
        assert len(logged("cannot add a column for hashes of pieces")) == 1
        if not read_only:
            await put(store, BODY, "two")
        for id in await store.listing():
            assert await content(await store.read(id, (5, SIZE - 5))) == BODY[5:-5]
            assert await content(await store.read(id)) == BODY
        if read_only:
            return
        async with opened(engine.url, reactor) as owner:
            await put(owner, BODY, "three")
        with engine.connection() as connection:
            damage = "update sos_pieces set bytes = overlay(bytes placing 'x' from 9)"
            connection.execute(damage)
        assert await read_until_failure(store, "three", (500, 510)) == b""


@ensureDeferred
async def test_a_table_that_somebody_reads_for_long_gets_the_column_later(
    shared_engine, url, reactor, tables, logged
):
    """A dump, say. To wait for its end would keep all others waiting, too."""
    async with opened(url, reactor):
        pass
    tables.run("alter table $_pieces drop hash")
    table = url.rpartition("=")[2]
    with shared_engine.connection() as connection, connection.transaction():
        connection.execute(f"select from {table}_pieces")
        async with opened(url, reactor) as store:
            assert len(logged("cannot add a column for hashes of pieces")) == 1
            await put(store, BODY, "one")
            assert await content(await store.read("one", (5, SIZE - 5))) == BODY[5:-5]
    async with opened(url, reactor) as store:
        await put(store, BODY, "two")
    assert tables.run("select count(*), count(hash) from $_pieces") == [(6, 3)]


@ensureDeferred
async def test_a_store_with_the_column_is_opened_while_somebody_reads_the_table(
    shared_engine, url, reactor, logged
):
    """No lock is asked for that a dump keeps from others."""
    async with opened(url, reactor):
        pass
    table = url.rpartition("=")[2]
    with shared_engine.connection() as connection, connection.transaction():
        connection.execute(f"select from {table}_pieces")
        async with opened(url, reactor):
            pass
    assert not logged("cannot add a column for hashes of pieces")


@ensureDeferred
async def test_tables_of_an_earlier_version_can_be_restored_below_a_store(tables, store):
    """An upload fails once; then it is stored without hashes."""
    await put(store, BODY, "one")
    tables.run("alter table $_pieces drop hash")
    assert await content(await store.read("one", (5, SIZE - 5))) == BODY[5:-5]
    for _ in range(8):  # one for each connection
        try:
            await put(store, BODY, "two")
            break
        except Unavailable:
            with pytest.raises(NotFound):
                await store.stat("two")
    assert await content(await store.read("two", (5, SIZE - 5))) == BODY[5:-5]
