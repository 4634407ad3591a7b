"""Coroutines that run by themselves."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from sos.aio.tasks import run


class Ended(list):
    """The outcomes that were told."""

    def __call__(self, outcome):
        self.append(outcome.type if isinstance(outcome, Failure) else outcome)


async def add(*numbers):
    return sum([await each if isinstance(each, Deferred) else each for each in numbers])


def test_one_that_waits_for_nothing_ends_at_once():
    """With its result, or what it raised; nothing of it is left."""
    ended = Ended()
    assert run(add(1, 2), ended) is None
    assert run(add(1, "2"), ended) is None
    assert ended == [3, TypeError]


def test_one_that_waits_goes_on_with_what_comes():
    """However often it has to wait, also for what is there already."""
    ended = Ended()
    first, second, third = Deferred(), Deferred(), Deferred()
    assert run(add(first, second, third), ended) is not None
    second.callback(2)
    first.callback(1)
    assert ended == []
    third.callback(3)
    assert ended == [6]


def test_what_fails_is_raised_where_it_is_waited_for():
    """And told, unless it is caught there; nothing is left for the log."""
    ended = Ended()
    first, second = Deferred(), Deferred()

    async def cautious():
        try:
            await first
        except ValueError:
            return await second

    run(cautious(), ended)
    first.errback(ValueError())
    second.errback(KeyError())
    assert ended == [KeyError]


def test_cancelling_ends_what_is_waited_for():
    """It has no more effect when all is over."""
    ended = Ended()
    running = run(add(Deferred()), ended)
    running.cancel()
    running.cancel()
    assert ended == [CancelledError]
