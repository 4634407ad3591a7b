"""Fixtures that several folders share."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import settings
from pytest_twisted import async_yield_fixture

from sos.stores.local import LocalStore
from tests.support.engines.swift import Swift
from tests.support.processes import Place


def pytest_addoption(parser):
    parser.addoption(
        "--long",
        action="store_true",
        help="run the long form of the campaigns: every case, not a sample (some 20 minutes)",
    )


settings.register_profile("short", deadline=None)
settings.register_profile("long", deadline=None, max_examples=3000)


def pytest_configure(config):
    settings.load_profile("long" if config.getoption("--long") else "short")


@pytest.fixture
def long(request) -> bool:
    """Whether the long form was asked for."""
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without a configuration, which a test can put one in; it is the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sos.tap.cluster.CONFIG_FILES", ("~/sos.conf", "~/.sos.conf"))
    return tmp_path


@pytest.fixture
def place(tmp_path: Path):
    """Where real processes are started, which are stopped at the end."""
    place = Place(tmp_path)
    yield place
    place.stop()


@pytest.fixture(scope="session")
def swift(tmp_path_factory):
    """A Swift, which is started once for all tests."""
    swift = Swift(tmp_path_factory.mktemp("swift"))
    try:
        swift.start()
        yield swift
    finally:
        swift.stop()


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a disk of its own, of 8 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "sos-test", str(directory)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a tmpfs can be mounted by root alone")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)
