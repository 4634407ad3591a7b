"""The records of a batch."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.errors import InvalidRequest, Unavailable
from sos.model.batch import (
    MOST_RECORDS,
    READ,
    STAT,
    STORE,
    UNKNOWN,
    Answer,
    Record,
    parse,
    parse_answers,
)

short = st.binary(max_size=64)
records = st.one_of(
    st.builds(Record, st.sampled_from([READ, STAT]), short, short, st.just(b""), st.just(b"")),
    st.builds(Record, st.just(STORE), short, short, short, st.binary(max_size=300)),
)
answers = st.builds(
    Answer,
    st.integers(0, 999),
    st.integers(0, UNKNOWN),
    st.binary(max_size=100),
    st.binary(max_size=300),
)


def encoded(found):
    return b"".join(each.encode() for each in found)


@given(st.lists(records, max_size=MOST_RECORDS))
def test_requests_there_and_back(found):
    assert parse(encoded(found)) == found


@given(st.lists(answers, max_size=10))
def test_answers_there_and_back(found):
    assert list(parse_answers(encoded(found), len(found))) == found


@given(st.lists(records, min_size=1, max_size=3), st.data())
def test_a_request_that_is_cut_short(found, data):
    """It is refused as a whole, or has fewer records."""
    text = encoded(found)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        fewer = parse(cut)
    except InvalidRequest:
        return
    assert fewer == found[: len(fewer)]
    assert encoded(fewer) == cut


@given(st.lists(answers, min_size=1, max_size=3), st.data())
def test_an_answer_that_is_cut_short_is_none(found, data):
    """No operation is taken for done because others are."""
    text = encoded(found)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(Unavailable):
        parse_answers(text[:cut], len(found))


@given(st.binary(max_size=300), st.integers(0, 5))
def test_any_bytes_as_an_answer(text, count):
    with suppress(Unavailable):
        assert encoded(parse_answers(text, count)) == text


@pytest.mark.parametrize(
    "text",
    [
        b"\0",
        b"\0" * 9,
        b"\x04" + b"\0" * 8,
        b"{}",
        Record(READ, b"", b"a", b"{}").encode(),
        Record(STAT, b"", b"a", b"", b"x").encode(),
        Record(READ, b"", b"a").encode() * (MOST_RECORDS + 1),
    ],
)
def test_what_is_no_batch(text):
    with pytest.raises(InvalidRequest):
        parse(text)


def test_an_answer_to_another_number_of_operations():
    """It cannot be known which of them it is about."""
    text = Answer(200).encode() * 2
    for count in (0, 1, 3):
        with pytest.raises(Unavailable):
            parse_answers(text, count)
