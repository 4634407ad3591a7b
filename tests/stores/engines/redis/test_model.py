"""The Redis store is a dictionary whose entries never change, whatever happens in between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from sos.errors import Mismatch, NotFound
from sos.scrub import Report, scrub
from sos.stores.engines.redis import make
from sos.stores.engines.redis.record import PIECE
from tests.stores.engines.redis.test_damage import CASES, DAMAGES
from tests.stores.engines.redis.test_faults import recovered
from tests.stores.test_model import Machine, run, steps
from tests.support.blobs import body_of, content
from tests.support.engines.redis import started

large = st.builds(body_of, st.sampled_from([PIECE, PIECE + 1, 2 * PIECE + 100]), st.integers(0, 1))
redis_steps = st.one_of(
    steps,
    st.tuples(st.just("put"), st.sampled_from([None, "large"]), large, st.just({"X-L": "1"})),
    st.tuples(st.just("abort"), large),
    st.tuples(st.just("drop"), st.integers(0, 99)),
    st.tuples(st.just("crash")),
    st.tuples(
        st.just("damage"),
        st.integers(0, 99),
        st.sampled_from(sorted({name for name, _ in CASES})),
        st.sampled_from(["read", "scrub", "put"]),
    ),
)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    with started(tmp_path_factory.mktemp("redis")) as engine:
        yield engine


class RedisMachine(Machine):
    """The same with a Redis, to which things can happen."""

    def __init__(self, engine, reactor):
        super().__init__(make(engine.url, "sha1", reactor))
        self.engine = engine
        self.reactor = reactor

    async def drop(self, choice):
        if self.model:
            id = sorted(self.model)[choice % len(self.model)]
            token = await self.store.lease(60)
            await self.store.drop(id, token)
            await self.store.release(token)
            del self.model[id]

    async def crash(self):
        self.engine.restart()
        await recovered(self.store)

    async def damage(self, choice, name, then):
        damage, sizes = DAMAGES[name]
        fitting = [
            id
            for id in sorted(self.model)
            if (len(self.model[id][0]) > 2 * PIECE if len(sizes) == 1 else True)
            and (0 < len(self.model[id][0]) <= PIECE if "body" in name else True)
        ]
        if not fitting:
            return
        id = fitting[choice % len(fitting)]
        with self.engine.client() as client:
            damage(client, id)
        body, metadata = self.model.pop(id)
        if then == "read":
            with pytest.raises((Mismatch, NotFound)):
                await content(await self.store.read(id))
        elif then == "scrub":
            report = Report()
            await scrub(self.store, report, self.reactor, 0, lambda: 0.0)
            assert (report.checked, report.damaged) == (len(self.model) + 1, 1)
        else:
            await self.put(id, body, metadata)


@given(st.lists(redis_steps, max_size=12))
@ensureDeferred
async def test_a_store_in_a_redis(reactor, lasting, chosen):
    """Through crashes, drops and damage."""
    with lasting.client() as client:
        client.flushall()
    machine = RedisMachine(lasting, reactor)
    await machine.store.open()
    try:
        await run(machine, chosen)
    finally:
        await machine.store.close()
