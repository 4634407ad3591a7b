"""The fast path: the same bytes in give the same bytes out, whichever way they go."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klein import Klein

from sos.http.server import fast_path
from sos.http.server.fast_path import MAX_BLOCK_BYTES, MAX_BLOCKS, MAX_BODY_BYTES, whole_request
from sos.http.server.parser import MAX_FIELDS
from sos.web.routes import handler
from tests.http.server import test_smuggling
from tests.support.conversation import Conversation, request

GET = b"GET /blob/abc HTTP/1.1\r\nHost: x\r\n\r\n"
# What differs between two answers to the same bytes.
_OWN = re.compile(rb"(X-Request-Id|Date): [^\r]*\r\n")


class Seen:
    """Routes that answer with all that they can see of a request."""

    app = Klein()

    @app.route("/<path:path>")
    @app.route("/")
    async def show(self, request, path=""):
        body = b"".join([piece async for piece in request.body])
        request.setHeader(b"X-Body-Received", b"%d" % request.body.received)
        return repr(
            (
                request.method,
                request.uri,
                request.path,
                request.args,
                request.clientproto,
                request.received_headers,
                request.headers,
                request.body.length,
                body,
            )
        ).encode()


def exchanged(stream: bytes, at: int | None = None) -> tuple[bytes, bool]:
    """Return the answers to *stream*, sent whole or in two parts, and whether it is closed."""
    talk = Conversation(handler(Seen().app))
    for part in [stream] if at is None else [stream[:at], stream[at:]]:
        talk.send(part)
    return _OWN.sub(b"", talk.transport.value()), talk.closed


def takes_fast_path(data: bytes) -> bool:
    return whole_request(Conversation(handler(Seen().app)).channel, data) is not None


@pytest.mark.parametrize(
    "data",
    [
        GET,
        request("POST", "/blob/abc", b"hello", b"X-Mime-Type: text/plain"),
        request("PUT", "/upload/a%20b.txt", b"x" * MAX_BODY_BYTES),
        request("POST", "/upload", b""),
        request("GET", "/blobs?after=a&limit=3", None, b"Connection: close", b"Range: bytes=0-1"),
        request("GET", "/blob/abc", None, b"Authorization: Bearer t", b"X-Request-Id: mine"),
    ],
)
def test_an_ordinary_request_goes_the_fast_path(data):
    """Whole, with a length or without a body."""
    assert takes_fast_path(data)
    assert exchanged(data) == exchanged(data, 1) == exchanged(data, len(data) - 1)


@pytest.mark.parametrize(
    "data",
    [
        GET[:-1],
        GET + b"G",
        GET + GET,
        b"\r\n" + GET,
        b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        request("GET", "/", None, *[b"A: b"] * MAX_FIELDS),
        request("GET", "/", None, b"A: " + b"b" * MAX_BLOCK_BYTES),
        request("POST", "/", b"x" * (MAX_BODY_BYTES + 1)),
        request("POST", "/", b"hello")[:-1],
        request("POST", "/", b"hello") + b"x",
        request("POST", "/", b"hello", b"Expect: 100-continue"),
        request("POST", "/", b"hello", b"Upgrade: h2c", b"Connection: Upgrade"),
        request("POST", "/", b"hello", b"Transfer-Encoding: chunked"),
        request("POST", "/", None, b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        request("DELETE", "/blob/abc"),
        request("HEAD", "/blob/abc"),
    ],
)
def test_what_is_unusual_goes_the_long_way(data):
    """It is answered all the same, as when it comes in pieces."""
    assert not takes_fast_path(data)
    assert exchanged(data) == exchanged(data, 1)


CORPUS = [
    each.values[0]
    for cases in vars(test_smuggling).values()
    if isinstance(cases, list)
    for each in cases
    if isinstance(getattr(each, "values", (None,))[0], test_smuggling.Case)
]


def test_a_corpus_of_ambiguous_requests_is_answered_alike():
    """The fast path takes none of them for anything else than the parser does."""
    assert len(CORPUS) > 300
    short = 0
    for case in CORPUS:
        short += takes_fast_path(case.opening)
        assert exchanged(case.opening) == exchanged(case.opening, 1), case
        stream = case.opening + test_smuggling.SMUGGLED
        assert exchanged(stream) == exchanged(stream, 1), case
    assert short > 10


NAMES = st.sampled_from(
    b"Host Content-Length Connection Accept X-Mime-Type Range Expect Upgrade Authorization "
    b"Transfer-Encoding X-Request-Id content-length HOST X-A".split()
)
VALUES = st.sampled_from(
    [
        *b"x localhost 0 3 5 05 5,5 +5 close keep-alive chunked upgrade a,b 100-continue".split(),
        *[b"", b"\xe9", b" x ", b"\tx", b"a\tb", b"a:b", b"x\r\n folded", b"x\nX-B: y", b"x\0"],
    ]
)
LINES = st.sampled_from(
    [
        b"%s %s HTTP/1.1" % (method, target)
        for method in (b"GET", b"POST", b"PUT", b"HEAD", b"get", b"GETT")
        for target in (b"/", b"/a?b=c&b", b"/%41%2f", b"/a b", b"*", b"//x", b"/#", b"http://y/z")
    ]
    + [b"GET / HTTP/1.0", b"GET / HTTP/2.0", b"GET  / HTTP/1.1", b"GET / HTTP/1.1 "]
)


@given(
    line=LINES,
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    host=st.booleans(),
    end=st.sampled_from([b"\r\n\r\n", b"\r\n\r\n", b"\r\n\r\n", b"\n\n", b"\r\n\n"]),
    body=st.sampled_from([b"", b"hello", b"hel", b"hello world", b"5\r\nhello\r\n0\r\n\r\n"]),
    data=st.data(),
)
def test_any_request_is_answered_alike(line, fields, host, end, body, data):
    """In one piece, where it can take the fast path, and cut in two, where it cannot."""
    lines = [line, *([b"Host: x"] if host else []), *(b"%s: %s" % each for each in fields)]
    stream = b"\r\n".join(lines) + end + body
    cut = data.draw(st.integers(1, len(line)))
    assert exchanged(stream) == exchanged(stream, cut)


def test_requests_one_after_the_other_can_go_either_way():
    """Neither way leaves anything behind for the next request."""
    talk = Conversation(handler(Seen().app))
    other = Conversation(handler(Seen().app))
    for data in [GET, request("POST", "/a", b"hello"), request("HEAD", "/"), GET, GET + GET, GET]:
        whole = talk.send(data)
        cut = other.send(data[:7]) + other.send(data[7:])
        assert _OWN.sub(b"", whole) == _OWN.sub(b"", cut)


def test_a_request_behind_the_beginning_of_another_goes_the_long_way():
    """Its bytes may be the body of that other one."""
    talk = Conversation(handler(Seen().app))
    assert talk.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GET)) == b""
    assert repr(GET).encode() in talk.send(GET)
    assert talk.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: ") == b""
    assert talk.send(GET) == b"" or talk.closed


def test_few_header_blocks_are_remembered(monkeypatch):
    """A client cannot fill the memory with them; and none with credentials is kept."""
    monkeypatch.setattr(fast_path, "_remembered", {})
    for number in range(3 * MAX_BLOCKS):
        assert takes_fast_path(request("GET", "/", None, b"X-A: %d" % number))
        assert len(fast_path._remembered) <= MAX_BLOCKS
    before = len(fast_path._remembered)
    for number in range(5):
        assert takes_fast_path(request("GET", "/", None, b"Authorization: Bearer %d" % number))
        data = request("GET", "/", None, b"authorization: Bearer %d" % number, b"Expect: x")
        assert not takes_fast_path(data)
    assert len(fast_path._remembered) == before
