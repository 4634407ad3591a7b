"""The right to drop blobs of a store, which is given to one at a time."""

from __future__ import annotations

import secrets

from attrs import frozen

from sos.errors import Conflict

#: The header that carries a token.
LEASE = "X-Sos-Lease"
#: Seconds for which one is given at most.
MAX_SECONDS = 300


@frozen
class Lease:
    """A right that was given.

    :param token: who knows it has the right.
    :param until: when it ends, by a clock in seconds that stands still for nobody.
    """

    token: str
    until: float

    def is_valid(self, now: float) -> bool:
        """Tell whether it has not ended; one from before the clock began anew is of no use."""
        return now < self.until <= now + MAX_SECONDS


def grant(held: Lease | None, seconds: float, now: float, token: str | None = None) -> Lease:
    """Return a lease for *seconds*; raises Conflict while the one that is *held* is valid.

    :param token: of a lease that is valid, to make that last longer.
    """
    if token is not None:
        check(held, token, now)
        return Lease(token, now + min(seconds, MAX_SECONDS))
    if held is not None and held.is_valid(now):
        raise Conflict(f"another has the lease, for at most {held.until - now:.0f} s")
    return Lease(secrets.token_hex(16), now + min(seconds, MAX_SECONDS))


def check(held: Lease | None, token: str, now: float) -> None:
    """Raise Conflict unless *token* is that of the lease that is *held*, and valid."""
    if held is None or held.token != token or not held.is_valid(now):
        raise Conflict("this lease is not valid, or not any more")
