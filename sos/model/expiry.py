"""When an object expires, if it does.

Clients say it with an upload.  Each copy of the object carries it in its metadata, so each server
knows by itself when the end has come.
"""

from __future__ import annotations

from datetime import datetime

from sos.errors import Deleted
from sos.model import quantities
from sos.model.addresses import shown
from sos.model.metadata import EMPTY, EXPIRES_AT, NEVER, TICKS, Metadata, ticks


def parse(text: str, now: float) -> int:
    """Return the time that *text* names, in ticks.

    :param text: a time span from *now* on (``90s``, ``15m``, ``12h``, ``30d``), or a time with its
        offset from UTC (``2030-12-31T23:59:59Z``, RFC 3339).
    :param now: in seconds since the epoch.
    :raises ValueError: if it is neither, or not in the future, or beyond all times that metadata
        can have.
    """
    try:
        found = ticks(now + quantities.duration(text))
    except ValueError:
        found = _parse_time(text)
    if found <= ticks(now):
        raise ValueError(f"{shown(text)} is in the past")
    if found >= NEVER:
        raise ValueError(f"{shown(text)} is too far in the future")
    return found


def _parse_time(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    # RFC 3339 has an offset, and a time of day.
    if time is None or time.tzinfo is None:
        raise ValueError(
            f"{shown(text)} is not a time span, as 12h or 30d, and not a time with an offset, as "
            "2030-12-31T23:59:59Z"
        ) from None
    return ticks(time.timestamp())


def has_expired(metadata: Metadata, now: float) -> bool:
    """Return whether the object with this *metadata* has expired.

    :param now: in seconds since the epoch.
    """
    return EXPIRES_AT in metadata and int(metadata[EXPIRES_AT]) <= ticks(now)


def expired(id: str) -> Deleted:
    """Return the error for the object *id*, which has expired."""
    return Deleted(f"{id} has expired", EMPTY)


def seconds_left(metadata: Metadata, now: float) -> float | None:
    """Return how long the object with this *metadata* lives on; None for ever.

    :param now: in seconds since the epoch.
    """
    return int(metadata[EXPIRES_AT]) / TICKS - now if EXPIRES_AT in metadata else None
