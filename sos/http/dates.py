"""The dates of HTTP (RFC 9110, 5.6.7)."""

from __future__ import annotations

from werkzeug.http import parse_date


def seconds(date: str | None) -> float | None:
    """Return *date* in seconds since 1970, None if it is not a date."""
    try:
        found = parse_date(date)
        return None if found is None else found.timestamp()
    except OverflowError:  # a number in it is too large for a date
        return None
