"""A lease is given to one at a time, and ends by itself."""

from __future__ import annotations

import pytest

from sos.errors import Conflict
from sos.model import lease
from sos.model.lease import MAX_SECONDS, Lease


def test_it_ends_by_itself():
    """And then another can have it, and the first has nothing."""
    first = lease.grant(None, 10, now=100.0)
    lease.check(first, first.token, now=109.9)
    with pytest.raises(Conflict):
        lease.grant(first, 10, now=109.9)
    with pytest.raises(Conflict):
        lease.check(first, first.token, now=110.0)
    assert lease.grant(first, 10, now=110.0).token != first.token


def test_it_never_lasts_longer_than_the_most():
    assert lease.grant(None, 10 * MAX_SECONDS, now=1.0).until == 1.0 + MAX_SECONDS


def test_one_from_before_the_clock_began_anew_holds_nobody_up():
    """As after a restart of the machine."""
    old = Lease("token", until=1_000_000.0)
    lease.grant(old, 10, now=5.0)
    with pytest.raises(Conflict):
        lease.check(old, "token", now=5.0)


def test_nobody_has_it_at_first():
    with pytest.raises(Conflict):
        lease.check(None, "", now=0.0)
