"""Which servers a pass still uses."""

from __future__ import annotations

from sos.errors import NoSpace, Unavailable
from sos.replication.server_failures import MOST_FAILURES, ServerFailures


def test_so_many_failures_end_it():
    """One after the other; a success begins anew."""
    failures = ServerFailures()
    for _ in range(MOST_FAILURES - 1):
        failures.failed("a", Unavailable("down"))
    failures.worked("a")
    for _ in range(MOST_FAILURES - 1):
        failures.failed("a", Unavailable("down"))
    assert failures.takes("a")
    failures.failed("a", Unavailable("down"))
    assert not failures.takes("a")
    assert failures.takes("b")


def test_a_batch_that_fails_counts_once():
    """However many copies were in it."""
    failures = ServerFailures()
    for _ in range(MOST_FAILURES - 1):
        error = Unavailable("down")
        for _ in range(64):
            failures.failed("a", error)
    assert failures.gives("a")


def test_a_full_server_still_gives():
    failures = ServerFailures()
    failures.failed("a", NoSpace("full"))
    assert not failures.takes("a")
    assert failures.gives("a")
