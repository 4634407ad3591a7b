"""What API servers tell of the servers they go by, and who hears it."""

from __future__ import annotations

import json

import pytest

from sos.errors import InvalidRequest
from sos.model.conf_parser import from_urls, parse
from sos.model.membership import (
    ALIVE_SECONDS,
    Announcer,
    Membership,
    decode,
    parse_announcement,
    parse_views,
)
from sos.monitoring.sightings import Sightings

ONE = Membership.of(parse("http://a:1\nhttp://b:1 weight=2", "x").groups, 2)
OTHER = Membership.of(parse("http://b:1 readonly\nhttp://c:1", "x").groups, 3)


def membership(text, copies=2):
    return Membership.of(parse(text, "sos.conf").groups, copies)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("http://b:1 weight=2\nhttp://a:1", True),
        ("http://a:1 preferred\nhttp://b:1 weight=2.0", True),
        ("http://elsewhere:1 name=http://a:1\nhttp://b:1 weight=2", True),
        ("http://a:1\nhttp://b:1", False),
        ("http://a:1 readonly\nhttp://b:1 weight=2", False),
        ("http://a:1 name=a\nhttp://b:1 weight=2", False),
        ("http://a:1\nhttp://b:1 weight=2\nhttp://c:1", False),
        ("http://a:1\n[more]\nhttp://b:1 weight=2", False),
        ("[other]\nhttp://a:1\nhttp://b:1 weight=2", False),
    ],
)
def test_the_fingerprint_is_that_of_what_places(text, same):
    """Not of the order of lines, nor of what each API server may have its own way."""
    assert (membership(text).fingerprint == ONE.fingerprint) == same


def test_copies_count():
    assert membership("http://a:1", 2).fingerprint != membership("http://a:1", 3).fingerprint


def test_the_order_of_groups_does_not_count():
    one = membership("[x]\nhttp://a:1\n[y]\nhttp://b:1")
    assert one.fingerprint == membership("[y]\nhttp://b:1\n[x]\nhttp://a:1").fingerprint
    assert one.names == {"http://a:1", "http://b:1"}


def test_it_comes_through():
    assert decode(ONE.encoded) == ONE
    assert decode(b'{"groups": {"g": {"a": 1}}, "copies": 2}').encoded == (
        b'{"copies":2,"groups":{"g":{"a":1.0}}}'
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"7",
        b"{}",
        b'{"copies": 2}',
        b'{"copies": "2", "groups": {}}',
        b'{"copies": true, "groups": {}}',
        b'{"copies": 0, "groups": {}}',
        b'{"copies": 2, "groups": []}',
        b'{"copies": 2, "groups": {"g": 1}}',
        b'{"copies": 2, "groups": {"g": {"a": -1}}}',
        b'{"copies": 2, "groups": {"g": {"a": NaN}}}',
        b'{"copies": 2, "groups": {"g": {"a": "x"}}}',
        b'{"copies": 2, "groups": {"g": {"a": null}}}',
        b'{"copies": 2, "groups": {"g": {"a": true}}}',
        b'{"copies": 2, "groups": {"g": {"a": "1"}}}',
        b'{"copies": 2, "groups": {"g": {"a": 1%s}}}' % (b"0" * 400),
        b'{"copies": 2, "groups": {"g\\u001b[2J": {"a": 1}}}',
        b'{"copies": 2, "groups": {"g": {"a\\n": 1}}}',
        b'{"copies": 2, "groups": {"g": {"\\ud800": 1}}}',
    ],
)
def test_what_is_none_is_refused(text):
    with pytest.raises(InvalidRequest):
        decode(text)


@pytest.mark.parametrize(
    "header",
    ["", "x", "0" * 32, "0" * 32 + " ", "0" * 31 + " a", "0" * 32 + " a b", "G" * 32 + " a"],
)
def test_a_header_that_is_none_is_refused(header):
    with pytest.raises(InvalidRequest):
        parse_announcement(header)


class FakeBlobServer:
    """A blob server, and the time."""

    def __init__(self):
        self.now = 0.0
        self.sightings = Sightings(lambda: self.now)

    def record(self, name, members, whole=True):
        announcer = Announcer(name, members)
        self.sightings.record(announcer.header, members if whole else None)

    def views(self, own=ONE):
        return parse_views(json.loads(json.dumps(self.sightings.document())), own)


def test_others_are_told_and_in_what_they_differ():
    server = FakeBlobServer()
    server.record("x/1/a", ONE)
    assert server.views() == ()
    server.record("y/1/b", OTHER)
    (view,) = server.views()
    assert (view.senders, view.unknown) == (("y/1/b",), ("http://c:1",))
    assert view.difference == (
        "copies: 3, here 2; group default also has http://c:1; group default lacks http://a:1; "
        "http://b:1 is readonly, here weight=2"
    )
    assert "y/1/b uses another set of servers" in str(view)


def test_who_is_not_heard_of_any_more_is_forgotten():
    server = FakeBlobServer()
    server.record("y/1/b", OTHER)
    server.now = ALIVE_SECONDS - 1
    assert len(server.views()) == 1
    server.record("y/1/b", OTHER, whole=False)  # it is known what that stands for
    server.now += ALIVE_SECONDS - 1
    assert len(server.views()) == 1
    server.now += 1
    assert server.views() == ()


def test_who_reads_its_configuration_again_goes_by_one_thing():
    """And so who leaves."""
    server = FakeBlobServer()
    server.record("y/1/b", OTHER)
    assert len(server.views()) == 1
    server.now += 1
    server.record("y/1/b", ONE)
    assert server.views() == ()
    server.now += 1
    server.record("y/1/b", OTHER, whole=False)
    assert len(server.views()) == 1
    server.now += 1
    server.sightings.leave(Announcer("y/1/b", OTHER).header)
    assert server.views() == ()


def test_what_a_fingerprint_stands_for_need_not_be_known_yet():
    """Then nothing is taken for granted; a membership does not stand for another's."""
    server = FakeBlobServer()
    server.sightings.record(Announcer("y/1/b", OTHER).header, ONE)
    (view,) = server.views()
    assert view.unknown
    server.record("y/1/b", OTHER)
    assert server.views()[0].unknown == ("http://c:1",)


def test_memory_is_bounded():
    server = FakeBlobServer()
    for n in range(1000):
        server.record(f"y/{n}/b", membership(f"http://{n}:1"))
    rows = server.sightings.document()
    assert (len(rows), sum(row["members"] is not None for row in rows)) == (256, 16)
    assert ["y/999/b"] in [row["speakers"] for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "x"},
        {"fingerprint": "0" * 32},
        {"speakers": ["a b"]},
        {"speakers": None},
        {"members": {}},
        {"members": json.loads(OTHER.encoded) | {"copies": 4}},
    ],
)
def test_what_a_blob_server_tells_is_checked(change):
    server = FakeBlobServer()
    server.record("y/1/b", OTHER)
    (document,) = server.sightings.document()
    assert parse_views([document], ONE)
    with pytest.raises((InvalidRequest, TypeError)):
        parse_views([document | change], ONE)


def test_servers_of_an_option_are_told_as_those_of_a_file():
    assert (
        Membership.of(from_urls("http://a:1,http://b:1", "x").groups, 2).encoded
        == membership("http://b:1\nhttp://a:1").encoded
    )
