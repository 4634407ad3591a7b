"""What is garbage: pure decisions about one blob, from the digests of all of its copies."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from attrs import frozen

from sos.model import ids
from sos.model.digest import BlobDigest
from sos.model.merge import MAX_SKEW_SECONDS, Times, latest
from sos.model.metadata import ticks


@frozen
class Limits:
    """How old garbage must be.

    :param grace: seconds since a chunk was stored or renewed.  An upload that takes longer than
        half of it renews its chunks.
    :param tombstone_age: seconds since a deletion.
    """

    grace: float = 7 * 86_400.0
    tombstone_age: float = 30 * 86_400.0


def is_object(copies: Iterable[BlobDigest]) -> bool:
    """Return whether one of *copies* is an object, or its manifest, that nobody has deleted."""
    return _merged(copies).is_object


def is_expired(copies: Collection[BlobDigest], limits: Limits, now: float) -> bool:
    """Return whether *copies* are of an object that has expired, which no manifest names.

    It has for so long that clocks which differ agree on that, and renewals have arrived.  If it was
    a chunk as well, it is an old one.

    :param copies: on all servers.
    :param now: the time in seconds since the epoch.
    """
    known = _merged(copies)
    if known.expires is None or _is_in_future(known, now):  # None also if it is no object
        return False
    is_used = known.part is not None and known.part >= ticks(now - limits.grace)
    return known.expires < ticks(now - MAX_SKEW_SECONDS) and not is_used


def is_garbage(id: str, copies: Collection[BlobDigest], limits: Limits, now: float) -> bool:
    """Return whether *id*, which no manifest names, is an old chunk and nothing else.

    :param copies: on all servers.
    :param now: the time in seconds since the epoch.
    """
    if ids.algorithm(id) is None or any(copy.is_manifest for copy in copies):
        return False
    # One of several servers could be wrong: then the others have copies that are objects.
    if any(copy.times.is_object for copy in copies):
        return False
    known = _merged(copies)
    if _is_in_future(known, now):
        return False
    is_old = known.part is not None and known.part < ticks(now - limits.grace)
    return is_old and not all(copy.is_tombstone for copy in copies)


def is_old_tombstone(copies: Collection[BlobDigest], limits: Limits, now: float) -> bool:
    """Return whether there are only tombstones, and no server can have missed the deletion."""
    if not all(copy.is_tombstone for copy in copies):
        return False
    deleted = _merged(copies).deleted
    return deleted is not None and deleted < ticks(now - limits.tombstone_age)


def _is_in_future(known: Times, now: float) -> bool:
    last = max(known.stored or 0, known.part or 0, known.deleted or 0)
    return last > ticks(now + MAX_SKEW_SECONDS)


def _merged(copies: Iterable[BlobDigest]) -> Times:
    return latest(copy.times for copy in copies)
