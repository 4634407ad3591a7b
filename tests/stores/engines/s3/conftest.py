"""Fixtures of the tests against real servers: Swift, and SeaweedFS where pytest is told of one."""

from __future__ import annotations

from itertools import count

import pytest
from pytest_twisted import async_yield_fixture

from tests.stores.engines.s3.stores import store_in
from tests.support.engines.seaweedfs import SeaweedFS

_numbers = count()


def pytest_generate_tests(metafunc):
    """Let there be tests on SeaweedFS where one was named, and the second tier is wanted."""
    config, names = metafunc.config, metafunc.fixturenames
    wanted = config.getoption("--system") or config.getoption("--long")
    # What is for a Swift alone asks for that by its name.
    if "server" in names and "swift" not in names and wanted and config.getoption("--seaweedfs"):
        other = pytest.param("seaweedfs", marks=pytest.mark.system)
        metafunc.parametrize("server", ["swift", other], indirect=True, scope="session")


@pytest.fixture(scope="session")
def seaweedfs(request, tmp_path_factory):
    """A SeaweedFS, which is started once for all tests."""
    program = request.config.getoption("--seaweedfs")
    seaweedfs = SeaweedFS(program, tmp_path_factory.mktemp("seaweedfs"))
    try:
        seaweedfs.start()
        yield seaweedfs
    finally:
        seaweedfs.stop()


@pytest.fixture(scope="session")
def server(request):
    """What speaks S3: the Swift, or another server in the place of it."""
    return request.getfixturevalue(getattr(request, "param", "swift"))


@pytest.fixture
def prefix() -> str:
    """Part of the bucket that no other test uses."""
    return f"test{next(_numbers)}"


@async_yield_fixture
async def store(server, prefix, reactor):
    """An open store with nothing in it."""
    store = store_in(server, prefix, reactor)
    await store.open()
    yield store
    await store.close()
