"""The signatures of requests."""

from __future__ import annotations

import hmac
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.auth.request_signing import (
    SKEW_SECONDS,
    Key,
    Keys,
    Signer,
    Verifier,
    canonical,
    make_secret,
    parse_keys,
)
from sos.errors import Unauthorized
from sos.model import metadata
from sos.model.metadata import SET_AT, to_server

OLD, NEW = Key(b"o" * 32), Key(b"n" * 32)
NOW = 1_800_000_000
HEADER = metadata.HEADER.lower().encode()

METHODS = st.sampled_from((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"))
TARGETS = st.from_regex(rb"(/[!-~]{0,20})?/(blob/)?[!-~]{0,60}", fullmatch=True)
LENGTHS = st.none() | st.integers(0, 2**50)
# No header that is sent begins or ends with blanks, or has the end of a line in it.
VALUES = st.from_regex(rb"([!-~\x80-\xff]([ -~\x80-\xff]{0,20}[!-~\x80-\xff])?)?", fullmatch=True)
NAMES = st.sampled_from(
    (b"X-Mime-Type", b"x-a", b"X-Sos-Lease", b"Range", b"Content-Digest", b"X-Orig-Filename")
)
METADATA = (b"X-Mime-Type", b"x-a", b"X-Orig-Filename")
HEADERS = st.dictionaries(NAMES, VALUES)


class Sides:
    """A client and a server, each with its keys and its clock."""

    def __init__(self, signs=(OLD,), accepts=(OLD,)):
        self.client_time = self.server_time = NOW
        self.keys = Keys(tuple(accepts))
        self.sign = Signer(lambda: Keys(tuple(signs)), lambda: self.client_time)
        self.store = None
        self._verifier = Verifier(lambda: self.keys, lambda: self.server_time, lambda: self.store)

    def signed(self, method=b"GET", target=b"/blobs", length=0, headers=()):
        """Return a request as the server sees it."""
        fields = {name.lower(): value for name, value in dict(headers).items()}
        value = self.sign(method, target, length, list(dict(headers).items()))
        return method, target, length, {**fields, b"authorization": value, b"host": b"a"}

    def accepts(self, request):
        self._verifier.check(*request)

    def refuses(self, request) -> str:
        with pytest.raises(Unauthorized) as caught:
            self.accepts(request)
        assert caught.value.challenge == "SOS1"
        return str(caught.value)


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=500))
def test_a_signature_is_the_hmac_of_the_standard(secret, text):
    """Its blocks are hashed ahead, and it is the same."""
    assert Key(secret).sign(text) == hmac.digest(secret, text, "sha256").hex()


@given(METHODS, TARGETS, LENGTHS, HEADERS)
def test_what_is_signed_is_accepted(method, target, length, headers):
    """Whatever the request is."""
    sides = Sides()
    sides.accepts(sides.signed(method, target, length, headers))


@given(METHODS, TARGETS, LENGTHS, HEADERS, st.data())
def test_what_is_changed_on_the_way_is_refused(method, target, length, headers, data):
    """Method, path, query, length, or a header that counts: changed, added or removed.

    Metadata counts where it is stored.
    """
    sides = Sides()
    stores = method in (b"POST", b"PUT", b"PATCH") and b"/blob/" in target
    names = NAMES.filter(lambda name: stores or name not in METADATA)
    request = sides.signed(method, target, length, headers)
    fields = request[3]
    part = data.draw(st.integers(0, 3))
    if part == 0:
        changed = (data.draw(METHODS.filter(lambda each: each != method)), *request[1:])
    elif part == 1:
        changed = (method, data.draw(TARGETS.filter(lambda each: each != target)), *request[2:])
    elif part == 2:
        other = data.draw(LENGTHS.filter(lambda each: each != length))
        changed = (method, target, other, fields)
    else:
        name = data.draw(names).lower()
        value = data.draw((st.none() | VALUES).filter(lambda each: each != fields.get(name)))
        others = {known: each for known, each in fields.items() if known != name}
        if value is not None:
            others[name] = value
        changed = (method, target, length, others)
    assert "signature does not match the request" in sides.refuses(changed)


def test_what_is_for_another_store_is_refused():
    """A request can be for the one that is served, or for any; what for, is signed, too."""
    sides = Sides()
    for named in (None, "1" * 32):
        request = sides.signed(headers={} if named is None else {b"X-Sos-Store": named.encode()})
        sides.store = "2" * 32
        if named is None:
            sides.accepts(request)
            continue
        assert f"for another store than {sides.store}" in sides.refuses(request)
        stripped = {name: value for name, value in request[3].items() if name != b"x-sos-store"}
        assert "signature does not match the request" in sides.refuses((*request[:3], stripped))
        sides.store = named
        sides.accepts(request)


def test_the_canonical_form_is_the_one_that_is_written_down():
    """Byte for byte, so that others can make it."""
    headers = {b"x-b": b" 2 ", b"x-a": b"1", b"range": b"bytes=0-1", b"accept": b"*/*"}
    text = canonical(b"PUT", b"/blob/a?b=c", b"17", b"0" * 32, None, headers)
    assert text == (
        b"SOS1\nPUT\n/blob/a?b=c\n17\n" + b"0" * 32 + b"\nchunked\n"
        # echo -en 'range:bytes=0-1\nx-a:1\nx-b:2\n' | sha256sum
        b"b40e982612d87eb5523443efeebf7fd2e3d8d083ad8bce316d43dd39b4bafe46\n"
    )


def test_what_proxies_add_does_not_count():
    """A request comes through one that says for whom it asks."""
    sides = Sides()
    method, target, length, fields = sides.signed()
    fields = {**fields, b"x-forwarded-for": b"::1", b"x-request-id": b"1", b"via": b"1.1 a"}
    sides.accepts((method, target, length, fields))


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"GET", b"/blob/a"), (b"HEAD", b"/blob/a"), (b"DELETE", b"/blob/a"), (b"POST", b"/batch")],
)
def test_a_header_that_has_no_effect_does_not_count(method, target):
    """Whatever it is called: a proxy before the server can add any."""
    sides = Sides()
    *request, fields = sides.signed(method, target, 0, {b"X-Sos-Lease": b"1"})
    sides.accepts((*request, {**fields, b"x-served-by": b"proxy"}))
    *request, fields = sides.signed(method, target)
    assert sides.refuses((*request, {**fields, b"x-sos-lease": b"2"}))


@pytest.mark.parametrize(
    "sent", [{}, {"X-Name": "n"}, {SET_AT: "5"}, {"X-A": '\udce9"', SET_AT: "5"}]
)
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"PATCH"])
def test_a_proxy_changes_nothing_of_metadata(method, sent):
    """It can add, replace and remove the plain headers: what counts is told in one, and signed."""
    sides = Sides()
    signed = lambda: sides.signed(method, b"/blob/a", 1, to_server(sent))  # noqa: E731
    *request, fields = signed()
    sides.accepts((*request, {**fields, b"x-real-thing": b"1", b"x-name": b"other"}))
    *request, fields = signed()
    rest = {name: fields[name] for name in fields if name in (b"authorization", HEADER)}
    sides.accepts((*request, rest))
    for changed in (b'{"X-A":"2"}', b"no JSON", None):
        *request, fields = signed()
        others = {name: value for name, value in fields.items() if name != HEADER}
        assert sides.refuses((*request, others if changed is None else {**others, HEADER: changed}))


def test_a_request_is_good_for_once():
    """The second time it has been seen; another, of the same kind, has not."""
    sides = Sides()
    request = sides.signed()
    sides.accepts(request)
    assert "received it before" in sides.refuses(request)
    sides.accepts(sides.signed())


@pytest.mark.parametrize("skew", [-SKEW_SECONDS, 0, SKEW_SECONDS])
def test_clocks_may_differ_by_five_minutes(skew):
    """In both directions, to the second."""
    sides = Sides()
    sides.client_time += skew
    sides.accepts(sides.signed())


@pytest.mark.parametrize(("skew", "word"), [(-1, "before"), (1, "after")])
def test_clocks_may_differ_by_no_more(skew, word):
    """What comes too late could be a copy that is not remembered any more."""
    sides = Sides()
    sides.client_time += skew * (SKEW_SECONDS + 1)
    message = sides.refuses(sides.signed())
    assert f"301 s {word} this server's time" in message
    assert "synchronize the clocks" in message


def test_a_recorded_request_is_never_accepted_again():
    """Neither while it is remembered nor when it is too old, to the last second."""
    sides = Sides()
    sides.client_time += SKEW_SECONDS
    request = sides.signed()
    sides.accepts(request)
    for _ in range(2 * SKEW_SECONDS + 2):
        sides.server_time += 1
        sides.refuses(request)


def test_another_key_is_refused():
    """One that the server does not have; and one that only says that it is another."""
    sides = Sides(signs=[NEW], accepts=[OLD])
    assert "an unknown key" in sides.refuses(sides.signed())
    method, target, length, fields = sides.signed()
    forged = fields[b"authorization"].replace(NEW.id, OLD.id)
    message = sides.refuses((method, target, length, {b"authorization": forged}))
    assert "signature does not match the request" in message


def test_each_step_of_a_rotation_is_accepted_by_both_sides():
    """The new key is known before it signs, and the old one until nobody signs by it."""
    steps = [(OLD,), (OLD, NEW), (NEW, OLD), (NEW,)]
    for before, after in pairwise(steps):
        for signs, accepts in product((before, after), repeat=2):
            sides = Sides(signs, accepts)
            sides.accepts(sides.signed())


VALUE = Sides().signed()[3][b"authorization"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"SOS1",
        b"Basic YTpi",
        b"Bearer abc",
        VALUE[:-1],
        VALUE + b"0",
        VALUE + b", " + VALUE,
        VALUE.upper(),
        VALUE + b"\n",
        VALUE.replace(b"date=1", b"date=+1"),
        VALUE.replace(b"date=1", b"date=\xb9"),
        VALUE.replace(b"SOS1", b"SOS2"),
        VALUE[:40],
        b"SOS1 " + b"key=" * 10_000,
    ],
    ids=lambda value: f"{len(value)} bytes",  # the same in each process
)
def test_what_is_no_signature_is_refused(value):
    """Truncated, oversized, doubled, of another scheme."""
    message = Sides().refuses((b"GET", b"/blobs", 0, {b"authorization": value}))
    assert "is malformed" in message


def test_what_is_not_signed_is_refused():
    """As by somebody who does not know that he has to."""
    assert "not signed" in Sides().refuses((b"GET", b"/blobs", 0, {}))


def test_no_text_tells_the_secret():
    """Neither what a key looks like nor what is sent."""
    secret = make_secret()
    keys = parse_keys(secret)
    assert secret not in repr(keys)
    assert bytes.fromhex(secret).__repr__()[2:-1] not in repr(keys)
    value = Signer(lambda: keys, lambda: NOW)(b"GET", b"/", 0, [])
    assert secret.encode() not in value
    assert secret[:16].encode() not in value


class TestASecretFile:
    """One or two keys, a line each."""

    def test_what_the_command_makes(self):
        """A key of 256 bits, another each time."""
        assert len(make_secret()) == 64
        assert make_secret() != make_secret()
        assert parse_keys(make_secret() + "\n").first

    def test_comments_and_blank_lines(self):
        """Are passed over; the first key signs."""
        text = f"# of March\n\n  {'6f' * 32}  \n{'6E' * 32}\n"
        assert [key.id for key in parse_keys(text).all] == [OLD.id, NEW.id]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no key"),
            ("\n# none\n", "no key"),
            ("a" * 31, "key 1 is malformed"),
            ("a" * 33, "key 1 is malformed"),
            ("g" * 32, "key 1 is malformed"),
            ("a" * 258, "key 1 is malformed"),
            (f"{'a' * 32} {'b' * 32}", "key 1 is malformed"),
            (f"{'a' * 32}\nshort", "key 2 is malformed"),
            ("\n".join(digit * 32 for digit in "abc"), "3 keys"),
            ("\n".join(["ab" * 16, "AB" * 16]), "the same key twice"),
        ],
    )
    def test_what_is_none(self, text, message):
        """It says why, and nothing of what stands there."""
        with pytest.raises(ValueError, match=message) as caught:
            parse_keys(text)
        assert "aaa" not in str(caught.value)
        assert "short" not in str(caught.value)
