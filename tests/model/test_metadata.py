"""The X-* headers."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import InvalidMetadata
from sos.model import metadata
from sos.model.manifest import MARK


def test_x_headers_are_kept_in_canonical_spelling():
    """Names are told apart without regard to case; other headers are left."""
    found = metadata.from_server(
        [(b"x-mime-TYPE", b"text/plain"), (b"Content-Type", b"a/b"), (b"X-Name", b"n")]
    )
    assert found == {"X-Mime-Type": "text/plain", "X-Name": "n"}


def test_a_header_sent_twice_is_joined():
    """RFC 9110, 5.3."""
    assert metadata.from_server([(b"X-A", b"1"), (b"x-a", b"2")]) == {"X-A": "1, 2"}


@pytest.mark.parametrize(
    "name",
    [
        b"X-Envoy-Immediate-Health-Check-Fail",
        b"X-LiteSpeed-Location",
        b"X-LIGHTTPD-send-tempfile",
        b"X-REPROXY-URL",
        b"X-Rewrite-URI",
    ],
)
def test_what_steers_a_proxy_is_told_to_servers_alone(name):
    """What was stored of it before: so copies stay the same, and no client sees it."""
    kept = metadata.from_server([(name, b"value")])
    assert list(kept.values()) == ["value"]
    assert metadata.to_client(kept) == []
    assert metadata.from_server(metadata.to_server(kept)) == kept


@given(st.dictionaries(st.from_regex(rb"\AX-[A-Za-z]{1,8}\Z"), st.binary(max_size=20), max_size=5))
def test_any_bytes_come_back(headers):
    """Through the canonical form and back to headers, but for what no header can hold."""
    headers = {
        metadata.canonical_name(name.decode()).encode(): value.translate(None, b"\r\n\0")
        for name, value in headers.items()
    }
    found = metadata.from_server(headers.items())
    kept = [(n, v) for n, v in sorted(headers.items()) if not metadata.is_excluded(n.decode())]
    assert metadata.to_headers(metadata.decode(metadata.encode(found))) == kept


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\0b"])
def test_a_value_that_could_end_a_header_is_refused(value):
    """CR, LF and NUL never reach a response."""
    with pytest.raises(InvalidMetadata):
        metadata.from_server([(b"X-A", value)])


def test_there_is_a_limit():
    """90 headers, 4 KiB of them."""
    many = [(b"X-%d" % n, b"") for n in range(90)]
    assert len(metadata.from_server(many)) == 90
    with pytest.raises(InvalidMetadata, match="at most 90"):
        metadata.from_server([*many, (b"X-One-More", b"")])
    assert metadata.from_server([(b"X-A", b"v" * 4093)])
    with pytest.raises(InvalidMetadata, match="at most 4096"):
        metadata.from_server([(b"X-A", b"v" * 4094)])


def test_what_servers_tell_each_other_comes_on_top_of_the_limits():
    """And what proxies and earlier versions add is left."""
    headers = [(b"x-sos-manifest", b"10"), (b"X-Sos-Nonce", b"1"), (b"X-Real-IP", b"1")]
    assert metadata.from_server(headers) == {MARK: "10"}
    many = [(b"X-%d" % n, b"") for n in range(89)]
    full = [*headers, *many, (b"X-A", b"v" * (4093 - sum(len(name) for name, _ in many)))]
    assert len(metadata.from_server(full)) == 91


def test_a_header_that_was_added_on_the_way_is_no_metadata():
    """Servers tell it in one header; they mean the plain ones where there is none."""
    plain = [(b"X-Name", b"n"), (b"X-Served-By", b"proxy")]
    assert metadata.from_server(plain) == {"X-Name": "n", "X-Served-By": "proxy"}
    for sent in ({}, {"X-Name": "n"}, {metadata.SET_AT: "5"}, {"X-A": "1", MARK: "7"}):
        headers = metadata.to_server(sent)
        assert metadata.from_server([*plain, *headers, *plain]) == sent
        assert {name.decode(): value.decode() for name, value in headers[1:]} == sent
        assert {**metadata.for_server(sent)} == {
            name.decode(): value.decode() for name, value in headers
        }


@given(
    st.dictionaries(
        st.from_regex(r"\AX-[A-Z][a-z*_]{0,8}\Z").filter(lambda name: name != "X-Sos"),
        st.binary(max_size=20).map(lambda value: value.translate(None, b"\r\n\0")),
        max_size=5,
    )
)
def test_any_metadata_comes_through_in_one_header(values):
    """Of a size that fits in a head, whatever bytes it is of; and in no other form."""
    sent = {name: value.decode("utf-8", "surrogateescape") for name, value in values.items()}
    header = metadata.to_header(sent)
    assert metadata.from_header(header) == sent
    assert metadata.encode(metadata.from_header(header)) == metadata.encode(sent)
    if sent:
        spaced = header.replace(b":", b": ", 1)
        with pytest.raises(InvalidMetadata, match="canonical form"):
            metadata.from_header(spaced)


def test_the_largest_metadata_fits_in_a_head_beside_itself():
    """Which has 16 KiB; twice, for servers of earlier versions.  Quotes take most."""
    for value in ('"', "\\", "\udce9", "\u00e9"):
        size = metadata.MAX_BYTES // len(value.encode("utf-8", "surrogateescape")) - 3
        sent = metadata.check({"X-A": value * size})
        assert sum(len(name) + len(value) for name, value in metadata.to_server(sent)) < 13_000


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"X-A":1}',
        b'{"x-a":"1"}',
        b'{"Y-A":"1"}',
        b'{"X-A":"1","X-A":"2"}',
        b'{"X-B":"1","X-A":"2"}',
        b'{"X-A":"\\u0041"}',
        b'{"X-A":"\\n"}',
        b'{"X-A":"\\ud800"}',
        b'{"X-Real-Ip":"1"}',
        b'{"X-Sos-Nonce":"1"}',
        b'{"X-Sos-Metadata":"{}"}',
        b'{"X-Sos-Set-At":"x"}',
        b"{}, {}",
        b"[" * 10_000,
        b'{"X-A":"%b"}' % (b"v" * 5000),
    ],
)
def test_another_form_of_the_one_header_is_refused(value):
    """Two servers would take it for two things."""
    with pytest.raises(InvalidMetadata):
        metadata.from_server([(b"x-sos-METADATA", value)])


def test_the_one_header_sent_twice_is_refused():
    """Which of the two is meant cannot be known."""
    with pytest.raises(InvalidMetadata):
        metadata.from_server([(b"X-Sos-Metadata", b"{}"), (b"X-Sos-Metadata", b"{}")])


@pytest.mark.parametrize("name", ["Y-A", "X-", "X-a b", "X-a:", "X-\u00e9", "X-a\n"])
def test_a_name_that_is_none_is_refused(name):
    """Where metadata comes from elsewhere than a parsed request."""
    with pytest.raises(InvalidMetadata):
        metadata.check({name: "value"})


@pytest.mark.parametrize("data", [b"", b"[]", b'{"X-A": 1}', b'{"A": "1"}', b"{", b"\xff"])
def test_stored_metadata_is_checked(data):
    """A file can hold anything."""
    with pytest.raises(InvalidMetadata):
        metadata.decode(data)


_times = st.none() | st.integers(0, 3)
_said = st.dictionaries(st.sampled_from(["X-A", "X-B"]), st.sampled_from(["1", "2"]))


@st.composite
def metadatas(draw):
    """Metadata of the copies of one blob, set at times that are often equal, or unknown."""
    found, time = draw(_said), draw(_times)
    if draw(st.booleans()):
        found[MARK] = "10"
    if time is not None:
        found[metadata.SET_AT] = str(time)
    return found


def order_of(found):
    return metadata.order(metadata.version(found), metadata.set_at(found))


def shown(found):
    return {name: value for name, value in found.items() if name != metadata.SET_AT}


@given(st.lists(metadatas(), min_size=1))
def test_all_who_compare_copies_agree(copies):
    """What comes first depends on no order of comparing; what nobody has said gives way."""
    first = min(copies, key=order_of)
    assert shown(min(reversed(copies), key=order_of)) == shown(first)
    alike = [each for each in copies if (MARK in each) == (MARK in first)]
    assert metadata.set_at(first) < metadata.NEVER or all(map(metadata.is_empty, alike))
    assert metadata.set_at(first) == min(map(metadata.set_at, alike))


def test_what_servers_keep_under_an_odd_name_stays():
    """An underscore is none of a server's business: it was stored by an earlier version."""
    odd = [(b"X-Sos_Set_At", b"1"), (b"X-Sos-Nonce", b"1")]
    assert metadata.from_server(odd) == {"X-Sos_set_at": "1"}


def test_times_in_milliseconds_and_in_ticks_are_compared():
    """Of an earlier version, which tells milliseconds, and of this one."""
    seconds = 1_790_000_000
    version = metadata.version({"X-A": "1"})
    times = [seconds * 1000 - 1, metadata.ticks(seconds), seconds * 1000 + 1]
    assert sorted(times, key=lambda each: metadata.order(version, each)) == times


def test_metadata_of_either_kind():
    """An object's and its manifest's differ by the mark."""
    later = metadata.stamped({"X-A": "1"}, 2)
    assert metadata.with_kind_of(later, {MARK: "3"}) == {**later, MARK: "3"}
    assert metadata.with_kind_of({**later, MARK: "3"}, {}) == later


def test_a_tombstone_is_a_kind_of_its_own():
    stone = {metadata.DELETED_AT: "5"}
    assert metadata.version(stone)[0] == "2"
    assert metadata.version({**stone, metadata.PART_AT: "5"})[0] == "0"


@given(metadatas())
def test_a_time_changes_nothing_for_servers_that_keep_none(found):
    """Version and digest are those of the rest."""
    assert metadata.version(found) == metadata.version(shown(found))
    assert metadata.untimed(metadata.encode(found)) == metadata.encode(shown(found))


@pytest.mark.parametrize("value", ['"X-Sos-Set-At":"5"', "X-Sos-Set-At", '"', "\\", '\\"', ","])
@pytest.mark.parametrize("names", [["X-A"], ["X-Z"], ["X-A", "X-Z"], ["X-Sos-Manifest", "X-T"]])
def test_a_time_is_cut_out_of_the_canonical_form(value, names):
    """Whatever stands around it, or looks like it."""
    found = dict.fromkeys(names, value)
    assert metadata.untimed(metadata.encode({**found, metadata.SET_AT: "7"})) == (
        metadata.encode(found)
    )
    assert metadata.untimed(metadata.encode(found)) == metadata.encode(found)


def test_a_time_is_given_once():
    """And to nothing that has nothing to say, but of an object that is said, too."""
    assert metadata.stamped({}, 5) == {metadata.SET_AT: "500000"}
    assert metadata.set_at(metadata.stamped({}, 5)) == 500_000
    assert metadata.timed({}, 5) == {}
    assert metadata.timed({MARK: "1"}, 5) == {MARK: "1"}
    assert metadata.timed({"X-A": "1"}, 5) == {"X-A": "1", metadata.SET_AT: "5"}
    given = {"X-A": "1", metadata.SET_AT: "4"}
    assert metadata.timed(given, 5) == given


@given(st.from_regex(r"\A[0-9]{0,16}\Z", fullmatch=True) | st.text(max_size=3))
def test_a_time_alone_is_like_any_other_metadata(value):
    """It goes by another way, which is a short one."""
    found = {metadata.SET_AT: value}
    plain = json.dumps(found, separators=(",", ":")).encode()
    if re.fullmatch("[0-9]{1,15}", value, re.ASCII):
        assert metadata.check(found) == found
        assert metadata.encode(found) == plain
        assert metadata.decode(plain) == found
        assert metadata.untimed(plain) == b"{}"
    else:
        for refused in (lambda: metadata.check(found), lambda: metadata.decode(plain)):
            with pytest.raises(InvalidMetadata):
                refused()
