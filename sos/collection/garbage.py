"""What is garbage: pure decisions about one blob, from the digests of all of its copies."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from attrs import frozen

from sos.model import ids
from sos.model.digest import BlobDigest
from sos.model.merge import Times
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
    return _merged(list(copies)).is_object


def is_garbage(id: str, copies: Collection[BlobDigest], limits: Limits, now: float) -> bool:
    """Return whether *id*, which no manifest names, is an old chunk and nothing else.

    :param copies: on all servers.
    :param now: the time in seconds since the epoch.
    """
    if ids.algorithm(id) is None or any(copy.is_manifest for copy in copies):
        return False
    times = _merged(copies)
    is_old = times.part is not None and times.part < ticks(now - limits.grace)
    return is_old and not times.is_object and not all(copy.is_tombstone for copy in copies)


def is_old_tombstone(copies: Collection[BlobDigest], limits: Limits, now: float) -> bool:
    """Return whether there are only tombstones, and no server can have missed the deletion."""
    deleted = _merged(copies).deleted
    return (
        all(copy.is_tombstone for copy in copies)
        and deleted is not None
        and deleted < ticks(now - limits.tombstone_age)
    )


def _merged(copies: Collection[BlobDigest]) -> Times:
    """Return the latest times of *copies*."""

    def latest(times: Iterable[int | None]) -> int | None:
        return max((time for time in times if time is not None), default=None)

    return Times(
        latest(copy.times.stored for copy in copies),
        latest(copy.times.part for copy in copies),
        latest(copy.times.deleted for copy in copies),
    )
