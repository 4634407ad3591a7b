"""How workers are kept running, and connections spread over them, without processes."""

from __future__ import annotations

import json
import os

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from sos.tap.balance import Balance, counts_file
from sos.tap.services import CannotStart
from sos.tap.workers import Backoff, Place


class Reactor(MemoryReactorClock):
    """Lets a test have the lines to the workers."""

    def adoptStreamConnection(self, descriptor, family, factory):
        self.line = factory.buildProtocol(None)
        self.line.makeConnection(StringTransport())


class Process:
    """A worker that has said what it has to say as soon as it is started."""

    pid = 1

    def __init__(self, protocol, line, says):
        self.protocol = protocol
        self.line = os.dup(line)
        self.signals = []
        for message in says:
            self.say(**message)

    def say(self, **message):
        os.write(self.line, json.dumps(message).encode() + b"\n")

    def signalProcess(self, name):
        self.signals.append(name)

    def end(self):
        self.protocol.processEnded(Failure(ProcessTerminated(1)))


class TestPlace:
    @pytest.fixture(autouse=True)
    def _place(self):
        self.reactor = Reactor()
        self.processes = []
        self.says = [{"ready": True}]
        self.calls = []
        self.place = Place(
            7,
            self.spawn,
            lambda place: self.calls.append("ready"),
            lambda place, reason: self.calls.append(reason),
            lambda reason: self.calls.append(f"unusable: {reason}"),
            lambda *message: self.calls.append(message),
            self.calls.append,
            self.reactor,
        )

    def spawn(self, number, line, protocol):
        self.processes.append(Process(protocol, line, self.says))
        return self.processes[-1]

    def start(self):
        self.place.start()
        self.place.wait_until_ready()

    def be_silent(self, seconds):
        """Let so many seconds pass, one by one."""
        for _ in range(seconds):
            self.reactor.advance(1)

    def test_what_ends_is_started_again(self):
        """Later and later, until one has run for a while."""
        self.start()
        for wait in (1, 2, 4, 8, 16, 32, 60, 60):
            self.processes[-1].end()
            count = len(self.processes)
            self.reactor.advance(wait - 0.1)
            assert len(self.processes) == count
            self.reactor.advance(0.2)
            assert len(self.processes) == count + 1
        self.reactor.advance(60)
        self.processes[-1].end()
        self.reactor.advance(1)
        assert len(self.processes) == 10

    def test_what_ends_because_it_is_told_to_is_not(self):
        """Nor what was waiting for its next start."""
        self.start()
        stopped = self.place.stop()
        assert self.processes[0].signals == ["TERM"]
        self.processes[0].end()
        assert stopped.called
        self.reactor.advance(1000)
        assert len(self.processes) == 1
        assert self.processes[0].signals == ["TERM"]

    def test_a_start_that_is_due_is_called_off(self):
        """When the daemon is stopped meanwhile."""
        self.start()
        self.processes[0].end()
        assert self.place.stop().called
        self.reactor.advance(1000)
        assert len(self.processes) == 1

    def test_what_does_not_end_is_killed(self):
        """After what requests under way are given, and some more."""
        self.start()
        self.place.stop()
        self.reactor.advance(19)
        assert self.processes[0].signals == ["TERM"]
        self.reactor.advance(2)
        assert self.processes[0].signals == ["TERM", "KILL"]

    def test_one_that_hangs_is_killed(self):
        """When it has left questions unanswered for half a minute; another comes in its place."""
        self.start()
        self.be_silent(25)
        assert self.processes[0].signals == []
        self.be_silent(5)
        assert self.processes[0].signals == ["KILL"]
        self.be_silent(1000)
        assert self.processes[0].signals == ["KILL"]
        self.processes[0].end()
        self.reactor.advance(1)
        assert len(self.processes) == 2

    def test_one_that_answers_is_not(self):
        """However late, as long as it is not too late."""
        self.start()
        for _ in range(10):
            self.be_silent(25)
            assert b'{"beat": true}\n' in self.reactor.line.transport.value()
            self.reactor.line.dataReceived(b'{"beat": true}\n')
        assert self.processes[0].signals == []

    def test_one_that_was_not_asked_is_not(self):
        """For the supervisor was suspended, perhaps with all its workers, or the clock was set."""
        self.start()
        for _ in range(5):
            self.reactor.advance(3600)
        assert self.processes[0].signals == []

    def test_one_that_comes_later_has_longer_to_start(self):
        """As long as those have with which the daemon is started, and no longer."""
        self.start()
        self.processes[0].end()
        self.reactor.advance(1)
        self.be_silent(55)
        assert self.processes[1].signals == []
        self.reactor.line.dataReceived(b'{"ready": true}\n')
        self.be_silent(25)
        assert self.processes[1].signals == []
        self.processes[1].end()
        self.reactor.advance(2)
        self.be_silent(60)
        assert self.processes[2].signals == ["KILL"]

    def test_one_that_has_ended_is_asked_nothing(self):
        """Nor one that is told to end, which has its own time for that."""
        self.start()
        self.be_silent(25)
        self.place.stop()
        self.be_silent(15)
        assert self.processes[0].signals == ["TERM"]
        self.processes[0].end()
        assert self.reactor.getDelayedCalls() == []

    def test_one_that_cannot_start_ends_the_daemons_start(self):
        """With the reason that it gives, or that it has none."""
        self.says = [{"cannot": "cannot start: for a reason"}]
        with pytest.raises(CannotStart, match="for a reason"):
            self.start()
        self.says = []
        self.place.start()
        os.close(self.processes[-1].line)
        with pytest.raises(CannotStart, match="worker 7 ended before"):
            self.place.wait_until_ready()

    def test_a_store_of_no_use_is_told(self):
        """Of one that is started again later it is the end alone: the others go on."""
        self.start()
        self.reactor.line.dataReceived(b'{"unusable": "a password"}\n')
        assert self.calls == ["ready", "unusable: a password"]
        assert self.processes[0].signals == []
        self.processes[0].end()
        self.reactor.advance(1)
        self.reactor.line.dataReceived(b'{"ready": true}\n{"unusable": "a password"}\n')
        assert self.calls == ["ready", "unusable: a password", 7, "ready"]
        assert self.processes[1].signals == ["TERM"]

    def test_signals_are_for_those_who_are_ready(self):
        """Others would die of them."""
        self.place.start()
        self.place.signal("HUP")
        assert self.processes[0].signals == []
        self.place.wait_until_ready()
        self.place.signal("HUP")
        assert self.processes[0].signals == ["HUP"]

    def test_what_is_for_other_workers_is_passed_on(self):
        """With the number of the one that has it."""
        self.says = [{"to": [1, 2], "message": {"ask": 5}}, {"ready": True}]
        self.start()
        assert self.calls == [(7, [1, 2], {"ask": 5}), "ready"]

    def test_a_failure_is_told(self):
        """To those who are to tell the other workers."""
        self.says = [{"ready": True}, {"failure": "a disk"}]
        self.start()
        assert self.calls == ["ready", "a disk"]
        self.processes[0].end()
        assert self.calls == ["ready", "a disk", 7]


def test_the_wait_begins_anew_after_a_good_while():
    """What ran for a minute did not fail to start."""
    backoff = Backoff()
    assert [backoff.after(1) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.after(60) == 1
    assert backoff.after(1) == 2


class TestBalance:
    @pytest.fixture
    def balance(self):
        with counts_file(2, 3) as file:
            yield Balance(file.fileno(), 2, 3)

    def test_who_has_more_than_another_is_ahead(self, balance):
        """By an eighth, at this very socket."""
        for process in range(3):
            balance.open(process)
        assert not balance.ahead(0, 0)
        balance.add(0, 0, 1)
        assert balance.ahead(0, 0)
        assert not balance.ahead(1, 0)
        for process in (1, 2):
            balance.add(0, process, 1)
        assert not balance.ahead(0, 0)
        for process in range(3):
            balance.add(0, process, 15)
        balance.add(0, 0, 2)
        assert not balance.ahead(0, 0)
        balance.add(0, 0, 1)
        assert balance.ahead(0, 0)

    def test_who_is_not_there_does_not_count(self, balance):
        """Before its start and after its end."""
        balance.open(0)
        balance.add(0, 0, 100)
        assert not balance.ahead(0, 0)
        balance.open(1)
        assert balance.ahead(0, 0)
        balance.close(1)
        balance.add(0, 1, -1)  # of a connection that it has yet to finish
        assert not balance.ahead(0, 0)
