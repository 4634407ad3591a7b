"""Fixtures that several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_twisted import async_yield_fixture

from sos.stores.local import LocalStore


@pytest.fixture
def reactor():
    """The real reactor, which pytest-twisted runs."""
    from twisted.internet import reactor

    return reactor


@async_yield_fixture
async def local_store(tmp_path: Path, reactor):
    """An open local store in a directory of its own."""
    store = LocalStore(tmp_path / "store", reactor)
    store.open()
    yield store
    await store.close()
