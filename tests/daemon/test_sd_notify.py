"""What a service manager is told."""

from __future__ import annotations

import os
import select
import signal
import socket

import pytest
from twisted.internet.task import Clock

from sos.daemon.sd_notify import Notification
from tests.support.ports import free_ports


class Reactor(Clock):
    """A clock that runs from the beginning."""

    def callWhenRunning(self, call, *arguments):
        call(*arguments)


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


def messages_to(manager) -> list[str]:
    """Return what has come so far."""
    found = []
    while select.select([manager], [], [], 0)[0]:
        found.append(manager.recv(1000).decode())
    return found


def started(manager, **more) -> tuple[Notification, Reactor]:
    reactor = Reactor()
    service = Notification({"NOTIFY_SOCKET": manager.getsockname(), **more}, reactor)
    assert messages_to(manager) == []
    service.startService()
    return service, reactor


def test_ready_alive_and_stopping(manager):
    """One after the other; it is alive twice as often as is asked for."""
    service, reactor = started(manager, WATCHDOG_USEC="20000000", WATCHDOG_PID=str(os.getpid()))
    assert messages_to(manager) == [f"READY=1\nMAINPID={os.getpid()}", "WATCHDOG=1"]
    reactor.advance(9.9)
    assert messages_to(manager) == []
    reactor.advance(0.2)
    assert messages_to(manager) == ["WATCHDOG=1"]
    service.stopService()
    assert messages_to(manager) == ["STOPPING=1"]
    assert reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog(manager, more):
    """Where none is asked for, or another process is meant."""
    _, reactor = started(manager, **more)
    assert messages_to(manager) == [f"READY=1\nMAINPID={os.getpid()}"]
    assert reactor.getDelayedCalls() == []


def test_an_abstract_address():
    """Which begins with a zero byte, for which @ stands."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # the system chooses one
        name = listening.getsockname().decode()
        Notification({"NOTIFY_SOCKET": name.replace("\0", "@")}, Reactor()).startService()
        assert messages_to(listening)[0].startswith("READY=1")


def test_no_one_who_wants_to_know(tmp_path):
    """No socket, or one that is not there, or that is not read: the daemon does not mind."""
    for name in ("", str(tmp_path / "none")):
        service = Notification({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"}, Reactor())
        service.startService()
        service.stopService()


def test_a_manager_that_does_not_read(manager):
    """Nothing waits for it."""
    _, reactor = started(manager, WATCHDOG_USEC="2000000")
    for _ in range(1000):
        reactor.advance(1)
    assert len(messages_to(manager)) < 1000


def test_a_daemon_is_ready_when_it_answers(place, manager):
    (port,) = free_ports(1)
    place.environment.update(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="200000")
    daemon = place.twistd(f"sos-blob --port {port} --store data")
    process = daemon.process.pid
    assert manager.recv(1000).decode() == f"READY=1\nMAINPID={process}"
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"GET /alive HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"alive")
    assert manager.recv(1000) == b"WATCHDOG=1"
    assert manager.recv(1000) == b"WATCHDOG=1"
    daemon.stop(signal.SIGTERM)
    rest = messages_to(manager)
    assert rest[-1] == "STOPPING=1"
    assert set(rest[:-1]) <= {"WATCHDOG=1"}


def test_a_daemon_that_cannot_start_is_never_ready(place, manager):
    """Its manager hears nothing of it."""
    place.environment.update(NOTIFY_SOCKET=manager.getsockname())
    (place.directory / "data").write_text("no directory")
    assert place.run_twistd("-n sos-blob --port 0 --store data").returncode == 1
    assert messages_to(manager) == []
