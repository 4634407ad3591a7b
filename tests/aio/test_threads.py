"""Work on threads: it goes on when nobody waits for it, and its mistakes are logged."""

from __future__ import annotations

from threading import Event

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.python.threadpool import ThreadPool

from sos.aio.shield import Underway
from sos.aio.threads import ThreadJobs, on_thread, shielded
from sos.errors import Unavailable


async def _awaited(work):
    return await work


def _shielded_by_a_lane(work):
    return ThreadJobs(lambda function, *args: function(*args)).run(lambda: work)


def _underway(work):
    return Underway().to_its_end(_awaited(work))


SHIELDS = pytest.mark.parametrize("shield", [shielded, _shielded_by_a_lane, _underway])


def _abandoned(shield):
    """Return work, after the one who waited for its result has been cancelled."""
    work = Deferred()
    waiting = shield(work)
    waiting.cancel()
    failures = []
    waiting.addErrback(lambda failure: failures.append(failure.type))
    assert failures == [CancelledError]
    assert not work.called
    return work


@SHIELDS
def test_a_mistake_is_logged_when_nobody_waits_any_more(shield):
    """With its traceback; else it would be lost."""

    class Mistake(Exception):
        """Of another kind than those that were logged already, which are left out."""

    work = _abandoned(shield)
    with capturedLogs() as logged:
        work.errback(Mistake())
    assert [event["log_failure"].type for event in logged] == [Mistake]


@SHIELDS
@pytest.mark.parametrize("outcome", [Unavailable("it is down"), 7])
def test_what_is_no_mistake_is_not_logged(shield, outcome):
    """A result, or a server that fails, after the one who waited has gone."""
    work = _abandoned(shield)
    with capturedLogs() as logged:
        work.errback(outcome) if isinstance(outcome, Exception) else work.callback(outcome)
    assert logged == []


@SHIELDS
def test_a_mistake_goes_to_who_waits_for_it(shield):
    """And to the log only if that one does not handle it."""
    work, failures = Deferred(), []
    with capturedLogs() as logged:
        shield(work).addErrback(lambda failure: failures.append(failure.type))
        work.errback(TypeError("ours"))
    assert failures == [TypeError]
    assert logged == []


@pytest.fixture
def thread(reactor):
    """A pool of one thread: what it runs later ends later."""
    pool = ThreadPool(0, 1)
    pool.start()
    yield pool
    pool.stop()


@ensureDeferred
async def test_a_mistake_on_a_thread_is_logged_when_nobody_waits_any_more(reactor, thread):
    """A thread cannot be cancelled: it goes on when the client is gone."""
    gone = Event()

    def mistake():
        gone.wait()
        raise TypeError("ours")

    with capturedLogs() as logged:
        waiting = on_thread(reactor, thread, mistake)
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
        waiting.cancel()
        gone.set()
        await on_thread(reactor, thread, lambda: None)
    assert [event["log_failure"].type for event in logged] == [TypeError]
