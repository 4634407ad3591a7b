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
    HealthRecord,
    health_of,
    parse_health,
    percentile,
)

WELL = StoreStatus(True, blobs=3, size=30, capacity=100, free=70)
FULL = StoreStatus(False, "full")


@pytest.mark.parametrize(
    ("record", "answer", "readonly", "state", "reason"),
    [
        (HealthRecord(), WELL, False, UP, None),
        (HealthRecord(), FULL, False, TAKES_NO_BLOBS, "full"),
        (HealthRecord(), StoreStatus(False), False, TAKES_NO_BLOBS, "it is not writable"),
        (HealthRecord(refusal="no room"), WELL, False, TAKES_NO_BLOBS, "no room"),
        (HealthRecord(), FULL, True, UP, None),
        (HealthRecord(), Unavailable("gone"), False, UNREACHABLE, "gone"),
        (HealthRecord(refusal="no room"), Unavailable("gone"), False, UNREACHABLE, "gone"),
        (HealthRecord(failure="broke"), WELL, False, LEFT_ALONE, "broke"),
        (HealthRecord(failure="broke"), Unavailable("gone"), True, LEFT_ALONE, "broke"),
    ],
)
def test_a_server_is_in_one_state_for_one_reason(record, answer, readonly, state, reason):
    """The one that keeps most from it."""
    found = health_of("http://a:1", record, answer, readonly)
    assert (found.state, found.reason, found.readonly) == (state, reason, readonly)


def test_what_a_server_says_is_told_with_what_was_noted():
    """Of one that says nothing the numbers are not known."""
    record = HealthRecord(
        10, 2, (0.001, 0.002, 0.5), ("broke", 7.0), failure="broke", asked_again=3.0
    )
    found = health_of("http://a:1", record, WELL, preferred=True, weight=2.0)
    assert (found.blobs, found.size, found.capacity, found.free) == (3, 30, 100, 70)
    assert (found.requests, found.errors, found.p50_ms, found.p95_ms) == (10, 2, 2.0, 500.0)
    assert (found.last_error, found.last_error_ago, found.asked_again) == ("broke", 7.0, 3.0)
    assert (found.preferred, found.weight) == (True, 2.0)
    found = health_of("http://a:1", HealthRecord(), Unavailable("gone"))
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
    groups = {"default": [health_of("http://a:1", HealthRecord(1, 1, (0.1,), ("x", 2.0)), WELL)]}
    document = {
        group: [attrs.asdict(each) for each in servers] for group, servers in groups.items()
    }
    document["default"][0]["colour"] = "green"
    assert parse_health(json.loads(json.dumps(document))) == groups
    del document["default"][0]["name"]  # as API servers of the release before
    (parsed,) = parse_health(document)["default"]
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
    server = {**attrs.asdict(health_of("http://a:1", HealthRecord(), WELL)), **change}
    with pytest.raises(Unavailable):
        parse_health({"default": [server]})


@pytest.mark.parametrize("document", [None, [], 1, "x", {"a": 1}, {"a": [1]}, {"a": [{}]}])
def test_what_is_no_such_document(document):
    """It is refused, whatever it is."""
    with pytest.raises(Unavailable):
        parse_health(document)
