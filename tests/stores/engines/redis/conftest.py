"""A Redis to oneself, and stores in it."""

from __future__ import annotations

import pytest
from pytest_twisted import async_yield_fixture
from twisted.internet.task import deferLater

from sos.stores.engines.redis import make, pool
from tests.support.engines.redis import started


@pytest.fixture
def engine(tmp_path):
    """A Redis that nobody else uses, and to which things can happen."""
    with started(tmp_path / "redis") as engine:
        yield engine


@async_yield_fixture
async def stores(reactor):
    """Makes stores, which are closed at the end."""
    made = []

    def new(url):
        made.append(make(url, "sha1", reactor))
        return made[-1]

    yield new
    for store in made:
        await store.close()
    await deferLater(reactor, 0)


@async_yield_fixture
async def store(engine, stores):
    """An open store in that Redis."""
    store = stores(engine.url)
    await store.open()
    yield store


@pytest.fixture
def hurried(monkeypatch):
    """Who waits for an answer gives up sooner, so that tests do not take so long."""
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 1.0)
