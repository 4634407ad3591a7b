"""Leases: the right to drop blobs of a store, for one holder at a time."""

from __future__ import annotations

import secrets

from attrs import frozen

from sos.errors import Conflict

#: The header that carries a token.
LEASE = "X-Sos-Lease"
#: The longest duration of a lease, in seconds.
MAX_SECONDS = 300


@frozen
class Lease:
    """A lease in force.

    :param token: a secret that proves who holds the lease.
    :param until: when it ends, in seconds on a clock that never stops.
    """

    token: str
    until: float

    def is_valid(self, now: float) -> bool:
        """Return whether it is in force; one from before the clock was reset is not."""
        return now < self.until <= now + MAX_SECONDS


def grant(held: Lease | None, seconds: float, now: float, token: str | None = None) -> Lease:
    """Return a lease for *seconds*; raise Conflict while the lease *held* is valid.

    :param token: of the valid lease, to extend it.
    """
    if token is not None:
        check(held, token, now)
        return Lease(token, now + min(seconds, MAX_SECONDS))
    if held is not None and held.is_valid(now):
        raise Conflict(f"another process holds the lease, for at most {held.until - now:.0f} s")
    return Lease(secrets.token_hex(16), now + min(seconds, MAX_SECONDS))


def check(held: Lease | None, token: str, now: float) -> None:
    """Raise Conflict unless *token* belongs to the lease *held*, and that is valid."""
    if held is None or held.token != token or not held.is_valid(now):
        raise Conflict("the lease is invalid or has expired")
