"""Tokens, and the file that lists them."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from sos.auth.tokens import (
    SCOPES,
    Token,
    Tokens,
    check_bearer,
    format_tokens,
    make_token,
    parse_tokens,
)

NOW = 1_800_000_000
SECRET, TOKEN = make_token("backup", ["upload"], NOW, 60)
LINE = json.loads(format_tokens([TOKEN]))

TIMES = st.integers(0, 4_000_000_000)
TOKENS = st.builds(
    Token,
    st.from_regex("[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True),
    st.binary(max_size=8).map(lambda data: sha256(data).hexdigest()),
    st.sets(st.sampled_from(SCOPES), min_size=1).map(
        lambda scopes: tuple(each for each in SCOPES if each in scopes)
    ),
    TIMES,
    st.none() | TIMES,
)


@given(st.lists(TOKENS, unique_by=(lambda each: each.name, lambda each: each.hash), max_size=5))
def test_what_is_written_is_read(tokens):
    """Whatever the tokens are."""
    assert parse_tokens(format_tokens(tokens)).all == tuple(tokens)


def test_a_token_is_found_by_itself_alone():
    """Not by its hash, its name, a part of it, or something much longer."""
    tokens = Tokens([TOKEN])
    assert tokens.find(SECRET.encode()) == TOKEN
    for other in (TOKEN.hash, "backup", SECRET[:-1], SECRET + "x", "", SECRET * 100_000):
        assert tokens.find(other.encode()) is None


def test_a_token_holds_until_it_expires():
    """To the second."""
    assert TOKEN.holds(NOW + 59.9)
    assert not TOKEN.holds(NOW + 60)
    assert evolve(TOKEN, expires=None).holds(NOW * 2)


def test_the_file_does_not_hold_the_token():
    """But its hash, which nobody can use."""
    assert SECRET not in format_tokens([TOKEN]) + repr(TOKEN) + repr(Tokens([TOKEN]))
    assert TOKEN.hash == sha256(SECRET.encode()).hexdigest()
    assert len(SECRET) == len("sos_") + 43  # 256 bits, 6 a character
    assert make_token("a", ["read"], NOW, None)[0] != make_token("a", ["read"], NOW, None)[0]
    assert check_bearer(SECRET) == SECRET


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "token name"),
        ({"name": "a b"}, "token name"),
        ({"name": "a\n"}, "token name"),
        ({"name": 1}, "token name"),
        ({"hash": "0" * 63}, "SHA-256"),
        ({"hash": SECRET}, "SHA-256"),
        ({"hash": None}, "SHA-256"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["write"]}, "scopes"),
        ({"scopes": "upload"}, "scopes"),
        ({"scopes": [[]]}, "scopes"),
        ({"created": "yesterday"}, "created is not a date"),
        ({"created": 1}, "created is not a date"),
        ({"expires": "2026-11-25T12:00:00"}, "no time zone"),
        ({"colour": "red"}, "unknown members"),
        ({"scope": "admin"}, "unknown members"),
    ],
)
def test_a_line_that_is_no_token(change, message):
    """Its number is told, and why; and nothing of a token that stands there in error."""
    with pytest.raises(ValueError, match=f"line 2 is invalid.*{message}") as caught:
        parse_tokens("\n" + json.dumps({**LINE, **change}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("text", ["x", "[]", "1", "null", "{", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text):
    """As a file that was torn."""
    with pytest.raises(ValueError, match="line 1 is invalid"):
        parse_tokens(text)


@pytest.mark.parametrize("missing", ["name", "hash", "scopes", "created"])
def test_a_line_without_what_it_needs(missing):
    """Which is told."""
    line = {name: value for name, value in LINE.items() if name != missing}
    with pytest.raises(ValueError, match=f"it lacks the members {missing}"):
        parse_tokens(json.dumps(line))


def test_what_is_listed_twice():
    """A name, or a token."""
    with pytest.raises(ValueError, match="two tokens have the name backup"):
        Tokens([TOKEN, evolve(TOKEN, hash="0" * 64)])
    with pytest.raises(ValueError, match="listed twice"):
        Tokens([TOKEN, evolve(TOKEN, name="other")])


@pytest.mark.parametrize("text", ["", "a b", "a\r\nX-A: 1", "\x00", "a" * 300, "ü", "a\n"])
def test_what_cannot_be_sent_as_a_token(text):
    """It would end the header, or is nothing that anybody gave out."""
    with pytest.raises(ValueError, match="the token is malformed"):
        check_bearer(text)
