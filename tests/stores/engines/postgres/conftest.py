"""Fixtures of the tests of what a PostgreSQL keeps."""

from __future__ import annotations

import os
import subprocess
from itertools import count

import pytest
from pytest_twisted import async_yield_fixture

from sos.stores.factories import factory
from tests.stores.engines.postgres.stores import Tables
from tests.support.engines.postgres import PostgresEngine

_numbers = count()


@pytest.fixture(scope="session")
def shared_engine():
    """A PostgreSQL for all tests that do it no harm."""
    engine = PostgresEngine()
    engine.start()
    yield engine
    engine.remove()


@pytest.fixture(scope="session")
def mistreated_engine():
    """A PostgreSQL for the tests that kill it."""
    engine = PostgresEngine()
    yield engine
    engine.remove()


@pytest.fixture
def engine(mistreated_engine):
    """A PostgreSQL that may be killed, frozen and restarted, and has nothing in it."""
    mistreated_engine.restart()
    with mistreated_engine.connection() as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    yield mistreated_engine
    if mistreated_engine.process is not None:
        mistreated_engine.thaw()


@pytest.fixture
def small_tablespace(engine):
    """A place for tables, called small, with room for 6 MiB; and for 8 when this file is gone."""
    directory = engine.directory / "small"
    directory.mkdir()
    options = "size=8m,mode=0700" + ",uid=65534,gid=65534" * (os.getuid() == 0)
    mount = ["mount", "-t", "tmpfs", "-o", options, "sos-test", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs can be mounted by root alone")
    with engine.connection() as connection:
        connection.execute(f"create tablespace small location '{directory}'")
    ballast = directory / "ballast"
    ballast.write_bytes(bytes(2 * 1024 * 1024))
    yield ballast
    with engine.connection() as connection:
        connection.execute("drop schema public cascade; create schema public")
        connection.execute("drop tablespace small")
    subprocess.run(["umount", "-l", str(directory)], check=True)
    directory.rmdir()


@pytest.fixture(scope="session")
def locked_engine():
    """A PostgreSQL that wants a password, which is opensesame."""
    engine = PostgresEngine(password="opensesame")
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


@pytest.fixture
def tables(shared_engine, url):
    """What *store* keeps there, behind its back."""
    return Tables(shared_engine, url)
