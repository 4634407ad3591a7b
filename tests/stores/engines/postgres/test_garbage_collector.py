"""What a store in a PostgreSQL does from time to time, without one."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from sos.aio.shield import Underway
from sos.stores.engines.postgres.garbage_collector import GarbageCollector


class Bodies:
    """Functions that are told apart, and are never called."""

    use = "use"
    abandoned = "abandoned"
    clear = "clear"


class Connections:
    """Notes what is asked; clearing a body takes until it is let end."""

    name = "a store"

    def __init__(self):
        self.asked = []
        self.clearing = []
        self.abandoned = [1, 2]

    def run(self, function, *arguments):
        self.asked.append(function)
        if function == "abandoned":
            return succeed(self.abandoned.pop(0) if self.abandoned else None)
        if function == "clear":
            self.clearing.append(Deferred())
            return self.clearing[-1]
        return succeed(None)


def test_clearing_up_that_takes_long_is_not_begun_again_beside():
    """Meanwhile what is used is claimed as ever, or others would take it for abandoned."""
    clock, connections = Clock(), Connections()
    garbage_collector = GarbageCollector(Bodies(), connections, Underway(), clock)
    garbage_collector.start()
    for _ in range(5):
        clock.advance(60)
    assert connections.asked.count("use") == 6
    assert len(connections.clearing) == 1
    for _ in range(2):
        connections.clearing[-1].callback(False)
    assert len(connections.clearing) == 2
    connections.abandoned.append(3)
    clock.advance(60)
    assert len(connections.clearing) == 3
    garbage_collector.stop()
    connections.clearing[-1].callback(False)
    assert clock.getDelayedCalls() == []


def test_clearing_up_that_fails_is_begun_again():
    """The next time."""
    clock, connections = Clock(), Connections()
    garbage_collector = GarbageCollector(Bodies(), connections, Underway(), clock)
    garbage_collector.start()
    connections.clearing[-1].errback(ZeroDivisionError())
    clock.advance(60)
    assert len(connections.clearing) == 2
    garbage_collector.stop()
