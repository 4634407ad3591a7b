"""What is not what was stored, because somebody or something changed it."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import Mismatch, NotFound, Quarantined
from sos.interfaces import SMALL_BODY
from sos.scrub import Report, scrub
from tests.stores.engines.postgres.stores import check_digests
from tests.support.blobs import body_of, content, content_id, put

_RECORD = [
    'update $ set metadata = \'{"X-A":"2"}\' where key like %s',
    "update $ set metadata = 'nonsense' where key like %s",
    "update $ set size = size + 1 where key like %s",
    "update $ set hash = '' where key like %s",
    "update $ set body = null, pieces = null where key like %s",
]
_SMALL = [
    *_RECORD,
    "update $ set body = overlay(body placing '\\x00' from 3) where key like %s",
    "update $ set body = '' where key like %s",
]
_LARGE = [
    *_RECORD,
    "update $_pieces set bytes = overlay(bytes placing '\\x00' from 3) where number = 1 or %s = ''",
    "update $_pieces set bytes = substr(bytes, 2) where number = 1 or %s = ''",
    "delete from $_pieces where number = 1 or %s = ''",
    "delete from $_pieces where %s <> ''",
]


@pytest.mark.parametrize(
    ("size", "damage"), [*((100, each) for each in _SMALL), *((700_000, each) for each in _LARGE)]
)
@ensureDeferred
async def test_damage_is_never_served_and_can_be_stored_anew(tables, store, size, damage):
    """It is set aside, the digests are of what is left, and another copy takes its place."""
    await put(store, b"another", "neighbour")
    body = body_of(size)
    id = (await put(store, body, metadata={"X-A": "1"})).id
    assert tables.run(damage, f"%{id}") == 1 + ("<>" in damage) * 2
    with pytest.raises((Quarantined, Mismatch)):
        await content(await store.read(id))
    with pytest.raises(NotFound):
        await store.stat(id)
    assert await store.listing() == ["neighbour"]
    await check_digests(store)
    ((key, reason),) = tables.run("select key, reason from $_damaged")
    assert key.endswith(id)
    assert reason
    await put(store, body)
    assert await content(await store.read(id)) == body
    await check_digests(store)


@pytest.mark.parametrize("size", [100, 700_000])
@ensureDeferred
async def test_a_damaged_copy_gives_way_to_an_upload(tables, store, size):
    """What is uploaded again is compared with what is there, not with what is told of it."""
    body = body_of(size)
    id = (await put(store, body)).id
    table, column = ("$", "body") if size <= SMALL_BODY else ("$_pieces", "bytes")
    tables.run(f"update {table} set {column} = overlay({column} placing 'x' from 9)")
    await put(store, body)
    assert tables.count("damaged") == 1
    assert await content(await store.read(id)) == body
    await check_digests(store)


@ensureDeferred
async def test_a_part_that_is_missing_is_damage(tables, store):
    """Like one that does not match its hash."""
    id = (await put(store, body_of(700_000))).id
    tables.run("delete from $_pieces where number = 1")
    with pytest.raises(Mismatch):
        await content(await store.read(id, (300_000, 300_010)))
    assert await store.listing() == []


@ensureDeferred
async def test_a_record_that_is_damaged_is_neither_settled_nor_dropped_as_it_says(tables, store):
    """It is set aside, and counted no more."""
    for name in ("settled", "dropped"):
        await put(store, name.encode(), name)
    tables.run("update $ set size = 100")
    with pytest.raises(NotFound):
        await store.reconcile("settled", {"X-A": "1"})
    await store.drop("dropped", await store.lease(60))
    assert tables.count("damaged") == 2
    assert await store.listing() == []
    assert await store.digests() == {}


@ensureDeferred
async def test_a_scrub_finds_all_damage(tables, store, reactor):
    """By reading."""
    whole = [(await put(store, body_of(size))).id for size in (1, 1000, 300_000)]
    tables.run("update $_pieces set bytes = overlay(bytes placing 'x' from 9)")
    tables.run("update $ set body = 'x' where size = 1000")
    report = Report()
    await scrub(store, report, reactor, 0, reactor.seconds)
    assert (report.checked, report.damaged, report.unreadable) == (3, 2, 0)
    assert await store.listing() == whole[:1]


@ensureDeferred
async def test_what_somebody_else_has_put_there_since_is_not_set_aside(tables, store):
    """A judgement is of the row that was read, and of no later one."""
    body = body_of(700_000)
    id = (await put(store, body)).id
    tables.run("update $_pieces set bytes = overlay(bytes placing 'x' from 9) where number = 2")
    blob = await store.read(id)
    tables.run("update $ set size = size")  # another row, to all appearance
    with pytest.raises(Mismatch):
        await content(blob)
    assert await store.listing() == [content_id(body)]
    assert tables.count("damaged") == 0
