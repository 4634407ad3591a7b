"""What is told of servers, by what was noted of them and what they say."""

from __future__ import annotations

import json

import attrs
import pytest

from sos.errors import Unavailable
from sos.interfaces import StoreStatus
from sos.monitoring.server_health import (
    LEFT_ALONE,
    TAKES_NO_BLOBS,
    UNREACHABLE,
    UP,
    Account,
    parse_standings,
    percentile,
    standing,
)

WELL = StoreStatus(True, blobs=3, size=30, capacity=100, free=70)
FULL = StoreStatus(False, "full")


@pytest.mark.parametrize(
    ("account", "answer", "readonly", "state", "reason"),
    [
        (Account(), WELL, False, UP, None),
        (Account(), FULL, False, TAKES_NO_BLOBS, "full"),
        (Account(), StoreStatus(False), False, TAKES_NO_BLOBS, "it is not writable"),
        (Account(refusal="no room"), WELL, False, TAKES_NO_BLOBS, "no room"),
        (Account(), FULL, True, UP, None),
        (Account(), Unavailable("gone"), False, UNREACHABLE, "gone"),
        (Account(refusal="no room"), Unavailable("gone"), False, UNREACHABLE, "gone"),
        (Account(failure="broke"), WELL, False, LEFT_ALONE, "broke"),
        (Account(failure="broke"), Unavailable("gone"), True, LEFT_ALONE, "broke"),
    ],
)
def test_a_server_is_in_one_state_for_one_reason(account, answer, readonly, state, reason):
    """The one that keeps most from it."""
    found = standing("http://a:1", account, answer, readonly)
    assert (found.state, found.reason, found.readonly) == (state, reason, readonly)


def test_what_a_server_says_is_told_with_what_was_noted():
    """Of one that says nothing the numbers are not known."""
    account = Account(10, 2, (0.001, 0.002, 0.5), ("broke", 7.0), failure="broke", asked_again=3.0)
    found = standing("http://a:1", account, WELL, preferred=True, weight=2.0)
    assert (found.blobs, found.size, found.capacity, found.free) == (3, 30, 100, 70)
    assert (found.requests, found.errors, found.p50_ms, found.p95_ms) == (10, 2, 2.0, 500.0)
    assert (found.last_error, found.last_error_ago, found.asked_again) == ("broke", 7.0, 3.0)
    assert (found.preferred, found.weight) == (True, 2.0)
    found = standing("http://a:1", Account(), Unavailable("gone"))
    assert (found.blobs, found.size, found.capacity, found.free) == (None, None, None, None)
    assert (found.last_error, found.p50_ms, found.p95_ms) == (None, None, None)


def test_percentiles():
    """They are values that were there."""
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.95) == 3.0
    assert percentile(range(100, 0, -1), 0.5) == 51
    assert percentile(range(100, 0, -1), 0.95) == 96


def test_what_is_told_can_be_read():
    """As JSON, and with more in it than is known here."""
    told = {"default": [standing("http://a:1", Account(1, 1, (0.1,), ("x", 2.0)), WELL)]}
    document = {group: [attrs.asdict(each) for each in servers] for group, servers in told.items()}
    document["default"][0]["colour"] = "green"
    assert parse_standings(json.loads(json.dumps(document))) == told
    del document["default"][0]["name"]  # as API servers of the release before
    (parsed,) = parse_standings(document)["default"]
    assert parsed.name == parsed.url == "http://a:1"


@pytest.mark.parametrize(
    "change",
    [
        {"url": 1},
        {"name": 1},
        {"state": "odd"},
        {"blobs": "3"},
        {"free": []},
        {"reason": 0},
        {"weight": None},
    ],
)
def test_what_is_told_is_checked(change):
    """It comes from elsewhere."""
    told = {**attrs.asdict(standing("http://a:1", Account(), WELL)), **change}
    with pytest.raises(Unavailable):
        parse_standings({"default": [told]})


@pytest.mark.parametrize("document", [None, [], 1, "x", {"a": 1}, {"a": [1]}, {"a": [{}]}])
def test_what_is_no_such_document(document):
    """It is refused, whatever it is."""
    with pytest.raises(Unavailable):
        parse_standings(document)
