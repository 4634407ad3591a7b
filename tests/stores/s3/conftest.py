"""Fixtures of the tests against a real Swift."""

from __future__ import annotations

from itertools import count

import pytest
from pytest_twisted import async_yield_fixture

from tests.stores.s3.stores import store_in

_numbers = count()


@pytest.fixture
def prefix() -> str:
    """Part of the bucket that no other test uses."""
    return f"test{next(_numbers)}"


@async_yield_fixture
async def store(swift, prefix, reactor):
    """An open store with nothing in it."""
    store = store_in(swift, prefix, reactor)
    await store.open()
    yield store
    await store.close()
