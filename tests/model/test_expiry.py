"""When objects expire."""

from __future__ import annotations

import pytest

from sos.model.expiry import has_expired, parse, seconds_left
from sos.model.metadata import EXPIRES_AT, TICKS, ticks

NOW = 1.79e9  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("30d", 30 * 86_400),
        ("2026-09-21T14:13:21Z", 1),
        ("2026-09-21T14:13:20.5Z", 0.5),
        ("2026-09-21T16:14:20+02:00", 60),
    ],
)
def test_what_clients_say(text, seconds):
    """Time spans and times of RFC 3339."""
    assert parse(text, NOW) == ticks(NOW + seconds)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a time span"),
        ("soon", "not a time span"),
        ("0s", "not a time span"),
        ("-5m", "not a time span"),
        ("1796000000", "not a time span"),
        ("2030-12-31T00:00:00", "with an offset"),
        ("2030-12-31", "with an offset"),
        ("2030-13-31T00:00:00Z", "not a time span"),
        ("2026-09-21T14:13:20Z", "in the past"),
        ("1970-01-01T00:00:00Z", "in the past"),
        ("0001-01-01T00:00:00+14:00", "in the past"),
        ("999999999d", "too far"),
        ("9999-12-31T23:59:59Z", "too far"),
        ("9999-12-31T23:59:59-14:00", "too far"),
        ("٣d", "not a time span"),
    ],
)
def test_what_is_no_end(text, why):
    with pytest.raises(ValueError, match=why):
        parse(text, NOW)


def test_before_and_after_the_end():
    """At the very moment it has expired."""
    end = {EXPIRES_AT: str(int(NOW * TICKS))}
    assert (has_expired(end, NOW - 0.001), seconds_left(end, NOW - 60)) == (False, 60)
    assert has_expired(end, NOW)
    assert (has_expired({}, NOW), seconds_left({}, NOW)) == (False, None)
