"""The line from a worker to its supervisor, when that does not read."""

from __future__ import annotations

import json
import socket
import threading

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, LogPublisher

from sos.tap import worker
from sos.tap.worker import MOST_UNSENT, Line


class Reactor(MemoryReactorClock):
    """Calls at once what other threads want to be called."""

    def callFromThread(self, function, *arguments):
        function(*arguments)


class Supervisor:
    """The other end of a line, which reads when it is told to."""

    def __init__(self, monkeypatch):
        ours, self._connection = socket.socketpair()
        self.line = Line(ours)
        self.log = Logger(namespace="sos.here", observer=LogPublisher(self.line))
        monkeypatch.setattr(worker, "_log", self.log)
        self._connection.setblocking(False)
        self._received = b""

    def read(self):
        """Return what has been sent, with all that the line can send meanwhile."""
        while True:
            try:
                data = self._connection.recv(1 << 20)
            except BlockingIOError:
                if self.reactor.writers:
                    self.line.doWrite()
                    continue
                break
            if not data:
                break
            self._received += data
        return [json.loads(line) for line in self._received.splitlines()]

    def cut_off(self):
        """Return the lines that came before the end, whether or not the last is whole."""
        self._connection.setblocking(True)
        with self._connection.makefile("rb") as file:
            return file.read().splitlines()

    @property
    def reactor(self):
        return self.line._reactor


@pytest.fixture
def supervisor(monkeypatch):
    return Supervisor(monkeypatch)


def texts(messages):
    return [message["log"]["text"] for message in messages if "log" in message]


def test_a_log_that_nobody_reads_holds_nobody_up(supervisor):
    """What was logged first is kept, the rest is dropped, and how much that was is told."""
    supervisor.line.attach(Reactor())
    for n in range(10_000):
        supervisor.log.info("{n} {filling}", n=n, filling="x" * 1000)
    told = texts(supervisor.read())
    kept = len(told) - 1
    assert MOST_UNSENT // 1100 < kept < 9000
    assert [text.split()[0] for text in told[:-1]] == [str(n) for n in range(kept)]
    assert told[-1].endswith(f"count={10_000 - kept}")
    # And from then on all is as before.
    supervisor.log.info("again")
    assert texts(supervisor.read())[-1] == "again"
    assert not supervisor.reactor.writers


def test_what_is_no_entry_of_the_log_is_never_dropped(supervisor):
    """A worker that does not send its beat back is killed."""
    supervisor.line.attach(Reactor())
    for n in range(5_000):
        supervisor.log.info("{n} {filling}", n=n, filling="x" * 1000)
        supervisor.line.send(beat=True)
    assert sum("beat" in message for message in supervisor.read()) == 5_000


def test_an_entry_of_another_thread_is_sent_as_well(supervisor):
    """Whole, and in whatever order."""
    supervisor.line.attach(Reactor())

    def log(number):
        for _ in range(200):
            supervisor.log.info("{number} {filling}", number=number, filling="x" * 1000)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    told = texts(supervisor.read())
    assert sorted(text[0] for text in told) == sorted("0123" * 200)


def test_what_is_left_at_the_end_is_sent(supervisor):
    """By the process that has no reactor any more; whoever reads gets it all."""
    supervisor.line.attach(Reactor())
    for n in range(2_000):
        supervisor.log.info("{n} {filling}", n=n, filling="x" * 1000)
    received = []
    reading = threading.Thread(target=lambda: received.extend(lines_of(supervisor)))
    reading.start()
    supervisor.line.finish()
    supervisor.line._connection.close()
    reading.join()
    told = texts(received)
    assert told[-1].endswith(f"count={2_000 - (len(told) - 1)}")


def lines_of(supervisor):
    supervisor._connection.setblocking(True)
    with supervisor._connection.makefile("rb") as file:
        return [json.loads(line) for line in file]


def test_at_the_end_a_supervisor_that_does_not_read_is_not_waited_for(supervisor, monkeypatch):
    """Or it would have to kill what ends."""
    monkeypatch.setattr(worker, "_LAST_SECONDS", 0.01)
    supervisor.line.attach(Reactor())
    for _ in range(2_000):
        supervisor.log.info("{filling}", filling="x" * 1000)
    supervisor.line.finish()
    supervisor.log.info("and last")
    received = supervisor.cut_off()
    assert len(texts(map(json.loads, received[:-1]))) > 10
    assert b"and last" not in received[-1]
