"""Deadlines that are kept by one timer."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from sos.aio.timeouts import Deadlines


class Runner:
    """Writes down when it was told that it is late."""

    def __init__(self, clock, then=lambda: None):
        self.clock, self.then = clock, then
        self.missed = []

    def on_deadline(self):
        self.missed.append(self.clock.seconds())
        self.then()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def deadlines(clock):
    return Deadlines(clock, 0.5)


def pump(clock, seconds):
    clock.pump([0.25] * int(seconds * 4))


def test_who_is_late_is_told_once(clock, deadlines):
    """When the deadline is over, or a tick later."""
    first, second = Runner(clock), Runner(clock)
    deadlines.set(first, 1.0)
    deadlines.set(second, 2.1)
    pump(clock, 10)
    assert first.missed == [1.0]
    assert second.missed == [2.5]


def test_who_is_done_is_not_told(clock, deadlines):
    """And whoever had none can be done as well."""
    runner = Runner(clock)
    deadlines.set(runner, 1.0)
    deadlines.clear(runner)
    deadlines.clear(runner)
    pump(clock, 3)
    assert runner.missed == []


def test_another_deadline_takes_the_place_of_the_first(clock, deadlines):
    """There is one for each."""
    runner = Runner(clock)
    deadlines.set(runner, 1.0)
    deadlines.set(runner, 3.0)
    pump(clock, 5)
    assert runner.missed == [3.0]


def test_no_timer_runs_when_none_is_late(clock, deadlines):
    """Nor when nobody has a deadline any more."""
    deadlines.set(Runner(clock), 1.0)
    pump(clock, 2)
    assert clock.getDelayedCalls() == []
    deadlines.set(Runner(clock), 1.0)
    assert len(clock.getDelayedCalls()) == 1


def test_one_may_free_another_and_set_a_new_one(clock, deadlines):
    """While they are being told."""
    second = Runner(clock)
    first = Runner(clock, lambda: (deadlines.clear(second), deadlines.set(third, 1.0)))
    third = Runner(clock)
    deadlines.set(first, 1.0)
    deadlines.set(second, 1.0)
    pump(clock, 5)
    assert (first.missed, second.missed, third.missed) == ([1.0], [], [2.0])
