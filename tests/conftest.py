"""Fixtures that several folders share."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import time
from collections import deque
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pytest_twisted import async_yield_fixture
from twisted.logger import formatEventAsClassicLogText, globalLogPublisher

from sos.http.client import agent
from sos.stores.local import LocalStore
from tests.support.engines.swift import Swift
from tests.support.processes import Place

SYSTEM = Path(__file__).parent / "system"
#: Real servers that tests share: those of one run in one process, which starts it once.
SHARED = ("swift", "server", "shared_engine", "mistreated_engine", "locked_engine", "open_engine")
#: Most processes among which the tests are divided: each starts servers of its own.
MOST_PROCESSES = 8
#: What of the environment says how programs behave, and is not to say it in tests.
_ENVIRONMENT = ("AWS_", "LANG", "LC_", "LISTEN_", "NOTIFY_", "PG", "PYTHON", "SOS_", "TZ")


def pytest_addoption(parser):
    parser.addoption(
        "--system",
        action="store_true",
        help="run what needs many processes, root or programs of Debian, too",
    )
    parser.addoption(
        "--seaweedfs",
        metavar="WEED",
        help="with --system, run the tests of S3 on this program, a SeaweedFS, as well",
    )
    parser.addoption(
        "--other-release",
        metavar="DIRECTORY",
        help="with --system, test clusters of this version and of the one checked out there, too",
    )
    parser.addoption(
        "--long",
        action="store_true",
        help="run everything, and campaigns in their long form: every case, not a sample",
    )


# A machine that is busy can take seconds to accept a connection of its own.
agent.CONNECT_SECONDS = 60.0

settings.register_profile(
    # The same examples each time, however slow the machine is.
    "short",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", deadline=None, max_examples=3000)


def pytest_xdist_auto_num_workers(config):
    """Use the processors that there are; none but this process for a file or a test."""
    if any(".py" in argument for argument in config.args):
        return 0
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def pytest_configure(config):
    settings.load_profile("long" if config.getoption("--long") else "short")
    config.addinivalue_line("markers", "system: a test of the second tier, run by --system")
    _forget_who_started_us()


def _forget_who_started_us():
    """Let tests, and all that they start, find what they would find in a terminal."""
    # A shell starts what is in the background with signals that are ignored, as nohup does,
    # and processes inherit that.
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGHUP, lambda *_: None),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    os.umask(0o022)
    for name in list(os.environ):
        if name.startswith(_ENVIRONMENT):
            del os.environ[name]
    time.tzset()


def _wants_system(config):
    return config.getoption("--system") or config.getoption("--long")


def pytest_ignore_collect(collection_path, config):
    """Import nothing of the second tier in the first, which does without its libraries."""
    return True if collection_path == SYSTEM and not _wants_system(config) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if SYSTEM in item.path.parents:
            item.add_marker("system")
        for name in SHARED:
            if name in item.fixturenames:
                # What speaks S3 is the Swift, unless another server was named.
                group = "swift" if name == "server" else name
                item.add_marker(pytest.mark.xdist_group(group))
    if not _wants_system(config):
        second = [item for item in items if item.get_closest_marker("system")]
        if second:
            config.hook.pytest_deselected(items=second)
            items[:] = [item for item in items if not item.get_closest_marker("system")]
    # The longest come first, so that no processor waits for the last of them.
    items.sort(key=lambda item: item.get_closest_marker("system") is None)


def pytest_runtest_setup(item):
    """Let campaigns in their long form take as long as they take."""
    if item.config.getoption("--long"):
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Show, of a test that fails, what was logged in it."""
    events = deque(maxlen=200)
    globalLogPublisher.addObserver(events.append)
    try:
        return (yield)
    finally:
        globalLogPublisher.removeObserver(events.append)
        lines = [formatEventAsClassicLogText(event) or "" for event in events]
        item.add_report_section("call", "log", "".join(lines))


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
