"""Stores in a PostgreSQL, for tests that need more than one, or one in trouble."""

from __future__ import annotations

from contextlib import asynccontextmanager

from twisted.internet.task import deferLater

from sos.errors import Unavailable
from sos.model.digest import PartitionDigest, record_sum
from sos.model.ids import partition
from sos.model.metadata import encode
from sos.stores.factories import factory


def make(url, reactor):
    return factory("postgresql").make(url, "sha1", reactor)


@asynccontextmanager
async def opened(url, reactor):
    """Open a store while the block runs."""
    store = make(url, reactor)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def eventually(reactor, ask, holds):
    """Return what *ask* gives once that *holds*; Unavailable is asked again."""
    for _ in range(400):
        try:
            found = await ask()
            if holds(found):
                return found
        except Unavailable as error:
            found = error
        await deferLater(reactor, 0.05)
    raise AssertionError(f"it is still {found!r}")


async def answering(store, reactor):
    """Return when *store* answers again, which it does by itself."""
    await eventually(reactor, store.status, lambda status: status.writable)


async def check_digests(store):
    """See that the digests are of what is listed."""
    expected = {}
    for id in await store.listing():
        info = await store.stat(id)
        before = expected.get(partition(id), PartitionDigest())
        hash = (await store.blob_digests(partition(id)))[id].hash
        sum = record_sum(id, encode(info.metadata), bytes.fromhex(hash))
        expected[partition(id)] = before.with_blob(info.size, sum)
    assert await store.digests() == expected


_GUEST = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'guest') THEN
        DROP OWNED BY guest;
        DROP ROLE guest;
    END IF;
END $$;
CREATE ROLE guest LOGIN;
GRANT USAGE ON SCHEMA public TO guest;
GRANT ALL ON ALL TABLES IN SCHEMA public TO guest;
"""


def let_in_guest(engine):
    """Let a role called guest do all with the tables that there are, which are not its own."""
    with engine.connection() as connection:
        connection.execute(_GUEST)


class Tables:
    """The tables of a store, behind its back.

    :param engine: which has them.
    """

    def __init__(self, engine, url):
        self._engine = engine
        self._name = url.rpartition("=")[2]

    def run(self, statement, *values):
        """Run a *statement* in which ``$`` is the name of the first table; return what comes."""
        with self._engine.connection() as connection:
            cursor = connection.execute(statement.replace("$", self._name), values or None)
            return cursor.fetchall() if cursor.description else cursor.rowcount

    def count(self, table):
        """Return how many rows there are in one of the other tables."""
        return self.run(f"select count(*) from $_{table}")[0][0]


async def looked_after(store) -> None:
    """Have an open *store* clear up now, when it is not at it already."""
    await settled(store)
    await store._garbage_collector._once()


async def settled(store) -> None:
    """Wait until *store* has done all that it does by itself."""
    await store._garbage_collector._underway.finish()
