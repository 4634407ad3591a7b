"""Fixtures that several folders share."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_twisted import async_yield_fixture

from sos.stores.local import LocalStore


def pytest_addoption(parser):
    parser.addoption(
        "--long",
        action="store_true",
        help="run the long form of the campaigns: every case, not a sample (some 20 minutes)",
    )


@pytest.fixture
def long(request) -> bool:
    """Whether the long form was asked for."""
    return request.config.getoption("--long")


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
