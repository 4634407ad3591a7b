"""PostgreSQL killed under load, again and again: nothing acknowledged is lost."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from sos.errors import NotFound, Unavailable
from tests.stores.engines.postgres.stores import (
    Tables,
    answering,
    check_digests,
    looked_after,
    opened,
)
from tests.support.blobs import content, content_id, put

_SIZES = (0, 1, 1000, 65_536, 65_537, 262_144, 700_000)
_UPLOADERS = 12


@pytest.mark.system
@ensureDeferred
async def test_nothing_acknowledged_is_lost(engine, reactor, long):
    """Byte for byte, with digests that fit, and no piece of what failed is left over."""
    numbers = random.Random(7)
    acknowledged = {}
    dropped = set()

    async def upload(store, seed, round):
        own = random.Random(f"{seed} {round}")
        while True:
            body = own.randbytes(own.choice(_SIZES))
            id = (await put(store, body)).id
            acknowledged[id] = body

    async def drop(store):
        token = await store.lease(5)
        for id in [id for id, body in acknowledged.items() if len(body) > 1][::9]:
            dropped.add(id)
            await store.drop(id, token)

    async def until_it_fails(work):
        with suppress(Unavailable):
            await work

    async with opened(engine.url, reactor) as one, opened(engine.url, reactor) as other:
        for round in range(40 if long else 4):
            works = [upload((one, other)[n % 2], n, round) for n in range(_UPLOADERS)]
            works.append(drop(one))
            running = gatherResults([deferred(until_it_fails(work)) for work in works])
            await deferLater(reactor, numbers.uniform(0.2, 1.5))
            engine.kill()
            await running
            engine.start()
            await answering(one, reactor)
            await answering(other, reactor)
            assert set(acknowledged) - dropped <= set(await other.listing())
            # The lease, for who has it is gone.
            Tables(engine, "=sos").run("update $_state set lease = null")
        assert len(acknowledged) > 30
        for id, body in acknowledged.items():
            try:
                assert await content(await one.read(id)) == body
            except NotFound:
                assert id in dropped
        for id in await one.listing():
            assert id == content_id(await content(await one.read(id)))
        await check_digests(one)
        tables = Tables(engine, "=sos")
        tables.run("update $_loose set seen = now() - interval '1 day'")
        await looked_after(one)
        stray = (
            "select count(*) from $_pieces left join $ on pieces = $_pieces.body where key is null"
        )
        assert tables.run(stray) == [(0,)]
        assert tables.count("loose") == 0
        assert tables.count("damaged") == 0
