"""What others have written: each parser takes it, or refuses it in its own way, and no other."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sos.auth import signed_urls, tokens
from sos.auth.request_signing import Key, Keys, Verifier, parse_keys
from sos.errors import (
    ConfigError,
    InvalidRequest,
    Mismatch,
    Unauthorized,
    Unavailable,
    UnsupportedCoding,
)
from sos.http.server.framing import body_length
from sos.http.server.heads import RejectedRequest, gather, split_host, split_target
from sos.model import batch, ids, manifest, membership, metadata
from sos.model.conf_parser import parse
from sos.stores.engines.s3 import records
from sos.stores.engines.s3.client import seconds_of
from sos.web import digest_fields
from sos.web.client_headers import KeptHeaders
from sos.web.filenames import disposition

ID = "a" * 40
KEYS = Keys((Key(b"k" * 32),))
NAMES = ["copies", "groups", "metadata", "body", "id", "size", "chunks", "format", "version", "a"]
NAMES += ["name", "hash", "scopes", "created", "expires", ID, "X-A", "X-Sos-Set-At"]
TRAPS = [b"", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"\xff", b"[1", b"null", b'"\\ud800"']
WORDS = [*'=:;,.-+*/%"\\()[]{}<>@?! \t', *"0159azAZ", "sha-256", "Bearer ", "SOS1 ", "key=", "X-A"]
WORDS += ["date=", "nonce=", "signature=", "expires=", "/fetch/", "/blob/", "http://", "AAAA", ID]
WORDS += ["0" * 16, "0" * 64, "9" * 30, "9" * 5000, "\u00b2", "\u0663", "\r\n", "\0", "\ud800"]

DATES = ["Sat, 01 Jan 2000 00:00:00 +99999999999999", "1 Jan 99999999999999999999 00:00:00 GMT"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**30), 1e308, float("inf"), float("nan")]),
    st.sampled_from(["", ID, "a", "\ud800", "\0", "2026-11-25T12:00:00Z", "9999-12-31", "upload"]),
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=8,
)
bodies = documents.map(lambda each: json.dumps(each).encode()) | st.sampled_from(TRAPS)
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=2), max_size=12).map("".join)
values = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=20)
heads = st.dictionaries(
    st.sampled_from([b"repr-digest", b"content-digest", b"content-md5", b"host", b"authorization"])
    | st.sampled_from([b"transfer-encoding", b"content-length", b"x-a", b"x-sos-lease"]),
    values,
)
weights = st.sampled_from([1, -1, 10**400, 1e308, float("inf"), "1", "x", None, True, [], {}])
memberships = st.fixed_dictionaries(
    {
        "copies": st.just(1) | scalars,
        "groups": st.dictionaries(
            st.just("g"), st.dictionaries(st.just("a"), weights, min_size=1), min_size=1
        ),
    }
).map(lambda each: json.dumps(each).encode())


metadata_maps = st.dictionaries(
    st.sampled_from([b"Content-Type", b"content-encoding", b"X-Mime-Encoding", b"X-Mime-Type"])
    | st.sampled_from([b"X-Orig-Filename", b"X-Orig-Filename*", b"X-Sos-Metadata", b"X-\xff"]),
    values | values.map(lambda value: b"UTF-8''" + quote(value).encode()),
)


def named(head):
    return {
        name.decode("latin-1"): v.decode("utf-8", "surrogateescape") for name, v in head.items()
    }


def signed(value):
    Verifier(lambda: KEYS, lambda: 0.0).check(b"GET", b"/", 0, {b"authorization": value})


def length(fields):
    if fields.get(b"content-length", b"0").isdigit():  # as llhttp has seen to
        body_length(b"GET", "1.1", gather(list(fields.items())))


PARSERS = {
    "id": (ids.check, texts, InvalidRequest),
    "partition": (ids.check_partition, texts, InvalidRequest),
    "target": (partial(split_target, b"GET"), values, RejectedRequest),
    "host": (split_host, values, ()),
    "length": (length, heads, RejectedRequest),
    "claims": (digest_fields.claims, heads, InvalidRequest),
    "wanted digest": (lambda value: digest_fields.answer(value, "0" * 64), values, ()),
    "headers": (lambda head: metadata.from_server(head.items()), heads, InvalidRequest),
    "metadata": (metadata.decode, bodies, InvalidRequest),
    "metadata of a server": (metadata.from_header, bodies | values, InvalidRequest),
    "headers of a client": (
        lambda head: KeptHeaders().read(head.items()),
        metadata_maps,
        (InvalidRequest, UnsupportedCoding),
    ),
    "file name": (lambda head: disposition(named(head)), metadata_maps, ()),
    "batch": (batch.parse, bodies, InvalidRequest),
    "answers to a batch": (lambda body: batch.parse_answers(body, 1), bodies, Unavailable),
    "members": (membership.decode, memberships, InvalidRequest),
    "no members": (membership.decode, bodies, InvalidRequest),
    "speaker": (membership.parse_announcement, texts, InvalidRequest),
    "manifest": (lambda body: manifest.parse(body, ID, "5"), bodies, Mismatch),
    "mark": (manifest.marked_size, texts, Mismatch),
    "signature": (signed, values, Unauthorized),
    "link": (lambda value: signed_urls.check_signed(KEYS, value, 0, "x"), values, Unauthorized),
    "tokens": (tokens.parse_tokens, texts | bodies.map(lambda b: b.decode("latin-1")), ValueError),
    "keys": (parse_keys, texts, ValueError),
    "bucket's document": (records.id_in, bodies, ValueError),
    "bucket's time": (seconds_of, texts | st.sampled_from(DATES), ()),
    "bucket's key": (records.read_marker, texts, ()),
    "sos.conf": (lambda text: parse(text, "sos.conf"), texts, ConfigError),
}


@pytest.mark.parametrize("name", PARSERS)
def test_is_taken_or_refused(name):
    """Nothing else is raised, whatever it is."""
    parser, inputs, refusals = PARSERS[name]

    @given(inputs)
    def check(value):
        with suppress(refusals):
            parser(value)

    check()
