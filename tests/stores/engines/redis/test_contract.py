"""The Redis store against the contract, over a host, a socket, and with a password."""

from __future__ import annotations

import pytest
from pytest_twisted import async_yield_fixture

from sos.stores.engines.redis import make
from tests.contract import ManifestContract, ReplicaContract, StoreContract
from tests.support.engines.redis import started


class RedisContract(StoreContract, ReplicaContract, ManifestContract):
    @async_yield_fixture
    async def store(self, engine, reactor):
        with engine.client() as client:
            client.flushall()
        store = make(self.url(engine), "sha1", reactor)
        await store.open()
        yield store
        await store.close()


@pytest.fixture(scope="module")
def open_engine(tmp_path_factory):
    with started(tmp_path_factory.mktemp("redis")) as engine:
        yield engine


@pytest.fixture(scope="module")
def closed_engine(tmp_path_factory):
    with started(tmp_path_factory.mktemp("redis"), password="open sesame") as engine:
        yield engine


class TestOverAHost(RedisContract):
    @pytest.fixture
    def engine(self, open_engine):
        return open_engine

    def url(self, engine):
        return engine.url


class TestOverASocketWithAPassword(RedisContract):
    @pytest.fixture
    def engine(self, closed_engine):
        return closed_engine

    def url(self, engine):
        word = engine.directory / "password"
        word.write_text("open sesame\n")
        return f"redis://{engine.socket}?db=3&prefix=blobs&password-file={word}"
