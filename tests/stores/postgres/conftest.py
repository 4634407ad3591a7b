"""Fixtures of the tests of what a PostgreSQL keeps."""

from __future__ import annotations

from itertools import count

import pytest
from pytest_twisted import async_yield_fixture

from sos.stores.factories import factory
from tests.engines.postgres import PostgresEngine

_numbers = count()


@pytest.fixture(scope="session")
def shared_engine():
    """A PostgreSQL for all tests that do it no harm."""
    engine = PostgresEngine()
    engine.start()
    yield engine
    engine.remove()


@pytest.fixture
def url(shared_engine):
    """Where there is no store yet."""
    return f"{shared_engine.url}?table=t{next(_numbers)}"


@async_yield_fixture
async def store(url, reactor):
    """An open store with nothing in it."""
    store = factory("postgresql").make(url, "sha1", reactor)
    await store.open()
    yield store
    await store.close()
