"""Requests made to be read in two ways: what is one request, what is two, what is none.

Every case is an opening, after which the client sends ``GET /smuggled``.  The
tables say what RFC 9110 and RFC 9112 make of the opening; where those leave a
choice, the case is what this server has chosen, which is the stricter reading.
"""

from __future__ import annotations

import pytest
from attrs import define, frozen
from klein import Klein

from sos.errors import Incomplete
from sos.http.server.parser import MAX_FIELDS, MAX_HEAD_BYTES
from sos.web.routes import handler
from tests.support.conversation import Conversation, parse_answers

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@define
class HighWaterMark:
    """A request that came to a route; the body is None as long as it is not whole."""

    path: bytes
    body: bytes | None = None


class Recorder:
    """Routes that remember what came to them."""

    app = Klein()

    def __init__(self):
        self.reached = []

    @app.route("/echo")
    @app.route("/smuggled")
    @app.route("/")
    async def record(self, request):
        reached = HighWaterMark(request.path)
        self.reached.append(reached)
        answer = b""
        try:
            answer = reached.body = b"".join([piece async for piece in request.body])
        except Incomplete:
            request.setResponseCode(400)
        if request.method == b"HEAD":
            answer = b""
        request.setHeader(b"Content-Length", b"%d" % len(answer))
        return answer


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def talk(recorder):
    return Conversation(handler(recorder.app))


@frozen
class Case:
    """What is sent, and what becomes of it.

    :ivar opening: the bytes before ``GET /smuggled``.
    :ivar statuses: those answered to the whole; 100 is not counted.
    :ivar reached: what comes to the routes.
    """

    opening: bytes
    statuses: list[int]
    reached: list[HighWaterMark]
    closed: bool


def refused(name, opening, status=400):
    """It is no request: one answer, and nothing after it is looked at."""
    return pytest.param(Case(opening, [status], [], closed=True), id=name)


def then_refused(name, opening, body):
    """The opening is a request and more, and the more begins none."""
    case = Case(opening, [200, 400], [HighWaterMark(b"/echo", body)], closed=True)
    return pytest.param(case, id=name)


def broken(name, opening):
    """The head is right and the body is not: its route learns that, and nothing follows."""
    return pytest.param(Case(opening, [400], [HighWaterMark(b"/echo")], closed=True), id=name)


def separate(name, opening, body=b"", path=b"/echo", status=200):
    """The opening is a request, whole in itself, and the next is one too."""
    first = [HighWaterMark(path, body)] if status == 200 else []
    reached = [*first, HighWaterMark(b"/smuggled", b"")]
    return pytest.param(Case(opening, [status, 200], reached, closed=False), id=name)


def taken(name, opening, body=SMUGGLED):
    """What is appended is the end of the body, and so no request."""
    return pytest.param(
        Case(opening, [200], [HighWaterMark(b"/echo", body)], closed=False), id=name
    )


def last(name, opening, body=b""):
    """The opening is answered, and nothing after it."""
    return pytest.param(Case(opening, [200], [HighWaterMark(b"/echo", body)], closed=True), id=name)


def held(name, opening):
    """More is to come of the opening: what is appended is a part of it."""
    return pytest.param(Case(opening, [], [HighWaterMark(b"/echo")], closed=False), id=name)


def head(*fields, line=b"POST /echo HTTP/1.1", host=b"Host: x"):
    """Write a request's line and headers."""
    return b"\r\n".join([line, *([host] if host else []), *fields]) + b"\r\n\r\n"


def get(*fields):
    return head(*fields, line=b"GET /echo HTTP/1.1")


def old(*fields):
    return head(*fields, line=b"POST /echo HTTP/1.0")


LENGTH = b"Content-Length: %d" % len(SMUGGLED)
CHUNKED = head(b"Transfer-Encoding: chunked")
H2C = b"Upgrade: h2c"
ABCD_IN_CHUNKS = b"4\r\nabcd\r\n0\r\n\r\n"
SMUGGLED_IN_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
TWO_LENGTHS = [b"Content-Length: 4", b"Content-Length: 5"]
LENGTH_THEN_CODING = [b"Content-Length: 5", b"Transfer-Encoding: chunked"]
LONG = b"a" * (MAX_HEAD_BYTES + 1024)

# RFC 9112, 6.3, item 3: a length beside a transfer coding ought to be handled
# as an error; 6.1: the connection ends whatever becomes of the request.
LENGTH_AND_CODING = [
    refused(name, head(*fields) + b"0\r\n\r\n")
    for name, *fields in [
        ("length-an-option", b"Connection: Content-Length", *LENGTH_THEN_CODING),
        ("coding-an-option", b"Connection: Transfer-Encoding", *LENGTH_THEN_CODING),
        ("length-first", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        ("coding-first", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        ("length-nought", b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        ("coding-before-length-nought", b"Transfer-Encoding: chunked", b"Content-Length: 0"),
        ("length-of-what-follows", LENGTH, b"Transfer-Encoding: chunked"),
        ("lower-case", b"content-length: 5", b"transfer-encoding: chunked"),
        ("upper-case", b"CONTENT-LENGTH: 5", b"TRANSFER-ENCODING: CHUNKED"),
        ("mixed-case", b"cOnTeNt-LeNgTh: 5", b"tRaNsFeR-eNcOdInG: cHuNkEd"),
        ("others-between", b"Content-Length: 5", b"X-A: b", b"Transfer-Encoding: chunked"),
        ("coding-on-both-sides", b"Transfer-Encoding: chunked", b"Content-Length: 5", b"TE: x"),
        ("coding-identity", b"Content-Length: 5", b"Transfer-Encoding: identity"),
        ("coding-unknown", b"Content-Length: 5", b"Transfer-Encoding: xchunked"),
        ("coding-unknown-first", b"Transfer-Encoding: xchunked", b"Content-Length: 5"),
        ("coding-empty", b"Content-Length: 5", b"Transfer-Encoding:"),
        ("coding-empty-first", b"Transfer-Encoding:", b"Content-Length: 5"),
        ("length-empty", b"Content-Length:", b"Transfer-Encoding: chunked"),
        ("length-invalid", b"Transfer-Encoding: chunked", b"Content-Length: x"),
    ]
]

# RFC 9112, 6.3, item 5, and RFC 9110, 8.6: Content-Length = 1*DIGIT, once.
LENGTHS = [
    *(
        refused(name, head(*fields) + b"abcd")
        for name, *fields in [
            ("twice-the-same", b"Content-Length: 4", b"Content-Length: 4"),
            ("twice-shorter-first", b"Content-Length: 4", b"Content-Length: 40"),
            ("twice-longer-first", b"Content-Length: 40", b"Content-Length: 4"),
            ("twice-nought-first", b"Content-Length: 0", b"Content-Length: 4"),
            ("twice-other-case", b"Content-Length: 4", b"content-length: 5"),
            ("twice-apart", b"Content-Length: 4", b"X-A: b", b"Content-Length: 5"),
            ("twice-second-empty", b"Content-Length: 4", b"Content-Length:"),
            ("list-of-the-same", b"Content-Length: 4, 4"),
            ("list-of-different", b"Content-Length: 4, 5"),
            ("list-without-space", b"Content-Length: 4,5"),
            ("list-ends-empty", b"Content-Length: 4,"),
            ("list-begins-empty", b"Content-Length: ,4"),
            ("plus", b"Content-Length: +4"),
            ("minus", b"Content-Length: -4"),
            ("minus-nought", b"Content-Length: -0"),
            ("hex", b"Content-Length: 0x4"),
            ("hex-digit", b"Content-Length: a"),
            ("octal", b"Content-Length: 0o4"),
            ("fraction", b"Content-Length: 4.0"),
            ("exponent", b"Content-Length: 4e0"),
            ("underscore", b"Content-Length: 1_0"),
            ("space-between-digits", b"Content-Length: 4 0"),
            ("tab-between-digits", b"Content-Length: 4\t0"),
            ("quoted", b'Content-Length: "4"'),
            ("arabic-digit", b"Content-Length: \xd9\xa4"),
            ("full-width-digit", b"Content-Length: \xef\xbc\x94"),
            ("superscript-digit", b"Content-Length: \xb2"),
            ("no-break-space-before", b"Content-Length: \xa04"),
            ("no-break-space-after", b"Content-Length: 4\xa0"),
            ("vertical-tab-before", b"Content-Length:\x0b4"),
            ("form-feed-after", b"Content-Length: 4\x0c"),
            ("nul-after", b"Content-Length: 4\0"),
            ("semicolon-after", b"Content-Length: 4;"),
            ("letter-after", b"Content-Length: 4x"),
            ("empty", b"Content-Length:"),
            ("only-spaces", b"Content-Length:   "),
            ("64-bits-and-one", b"Content-Length: 18446744073709551616"),
            ("64-bits-wrapped-to-4", b"Content-Length: 18446744073709551620"),
            ("128-bits-wrapped-to-4", b"Content-Length: 340282366920938463463374607431768211460"),
            ("a-thousand-digits", b"Content-Length: " + b"9" * 1000),
            ("space-before-colon", b"Content-Length : 4"),
            ("tab-before-colon", b"Content-Length\t: 4"),
            ("nul-in-name", b"Content-Length\0: 4"),
            ("space-in-name", b"Content Length: 4"),
            ("space-before-name", b" Content-Length: 4"),
            ("folded", b"Content-Length:\r\n 4"),
            ("folded-digits", b"Content-Length: 4\r\n 0"),
            ("behind-bare-lf", b"X-A: b\nContent-Length: 4"),
            ("behind-bare-cr", b"X-A: b\rContent-Length: 4"),
            ("behind-nul", b"X-A: b\0Content-Length: 4"),
        ]
    ),
    separate("spaces-around", head(b"Content-Length: \t 4 \t ") + b"abcd", b"abcd"),
    separate("no-space", head(b"Content-Length:4") + b"abcd", b"abcd"),
    separate("lower-case", head(b"content-length: 4") + b"abcd", b"abcd"),
    separate("leading-noughts", head(b"Content-Length: 0000004") + b"abcd", b"abcd"),
    separate("nought", head(b"Content-Length: 0")),
    separate("none", head()),
    separate("other-name-underscore", head(b"Content_Length: %d" % len(SMUGGLED))),
    separate("other-name-prefixed", head(b"X-Content-Length: %d" % len(SMUGGLED))),
    separate("other-name-longer", head(b"Content-Lengths: %d" % len(SMUGGLED))),
    taken("exact", head(LENGTH)),
    held("more-than-comes", head(b"Content-Length: 4000")),
    held("63-bits", head(b"Content-Length: 9223372036854775807")),
    then_refused("shorter-than-comes", head(b"Content-Length: 4") + b"abcdX", b"abcd"),
]

# RFC 9112, 6.1 and 6.3, item 4: a request whose last coding is not chunked has
# no length, and is refused.  RFC 9112, 7: chunked comes once, and has no
# parameters; RFC 9112, 5.1: nothing stands between a name and its colon.
# Codings not understood are 501 by RFC 9112, 6.1, which is advice: here, 400.
CODINGS = [
    *(
        refused(name, head(*fields) + b"4\r\nabcd\r\n0\r\n\r\n")
        for name, *fields in [
            ("identity", b"Transfer-Encoding: identity"),
            ("gzip", b"Transfer-Encoding: gzip"),
            ("gzip-then-chunked", b"Transfer-Encoding: gzip, chunked"),
            ("chunked-then-gzip", b"Transfer-Encoding: chunked, gzip"),
            ("identity-then-chunked", b"Transfer-Encoding: identity, chunked"),
            ("chunked-then-identity", b"Transfer-Encoding: chunked, identity"),
            ("chunked-twice-in-a-list", b"Transfer-Encoding: chunked, chunked"),
            ("chunked-lines", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
            ("identity-line-last", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
            ("identity-line-first", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
            ("unknown-line-first", b"Transfer-Encoding: cow", b"Transfer-Encoding: chunked"),
            ("unknown-line-last", b"Transfer-Encoding: chunked", b"transfer-encoding: cow"),
            ("gzip-line", b"Transfer-Encoding: chunked", b"X-A: b", b"Transfer-Encoding: gzip"),
            ("parameter", b"Transfer-Encoding: chunked;q=1"),
            ("parameter-spaced", b"Transfer-Encoding: chunked ; q=1"),
            ("parameter-empty", b"Transfer-Encoding: chunked;"),
            ("letter-before", b"Transfer-Encoding: xchunked"),
            ("letter-after", b"Transfer-Encoding: chunkedx"),
            ("word-before", b"Transfer-Encoding: x chunked"),
            ("word-after", b"Transfer-Encoding: chunked x"),
            ("space-inside", b"Transfer-Encoding: chun ked"),
            ("shortened", b"Transfer-Encoding: chunk"),
            ("double-quoted", b'Transfer-Encoding: "chunked"'),
            ("single-quoted", b"Transfer-Encoding: 'chunked'"),
            ("in-brackets", b"Transfer-Encoding: [chunked]"),
            ("kelvin-sign", b"Transfer-Encoding: chun\xe2\x84\xaaed"),
            ("empty", b"Transfer-Encoding:"),
            ("only-spaces", b"Transfer-Encoding: \t "),
            ("only-a-comma", b"Transfer-Encoding: ,"),
            ("vertical-tab-before", b"Transfer-Encoding:\x0bchunked"),
            ("form-feed-before", b"Transfer-Encoding: \x0cchunked"),
            ("backspace-before", b"Transfer-Encoding: x\x08chunked"),
            ("vertical-tab-after", b"Transfer-Encoding: chunked\x0b"),
            ("no-break-space-before", b"Transfer-Encoding: \xa0chunked"),
            ("no-break-space-after", b"Transfer-Encoding: chunked\xa0"),
            ("next-line-after", b"Transfer-Encoding: chunked\x85"),
            ("nul-before", b"Transfer-Encoding: \0chunked"),
            ("nul-after", b"Transfer-Encoding: chunked\0"),
            ("bare-cr-before", b"Transfer-Encoding:\rchunked"),
            ("bare-cr-after", b"Transfer-Encoding: chunked\r"),
            ("bare-lf-before", b"Transfer-Encoding:\nchunked"),
            ("space-before-colon", b"Transfer-Encoding : chunked"),
            ("tab-before-colon", b"Transfer-Encoding\t: chunked"),
            ("cr-before-colon", b"Transfer-Encoding\r: chunked"),
            ("lf-before-colon", b"Transfer-Encoding\n: chunked"),
            ("vertical-tab-before-colon", b"Transfer-Encoding\x0b: chunked"),
            ("nul-before-colon", b"Transfer-Encoding\0: chunked"),
            ("no-colon", b"Transfer-Encoding chunked"),
            ("parameter-in-name", b"Transfer-Encoding;x: chunked"),
            ("slash-in-name", b"Transfer/Encoding: chunked"),
            ("space-in-name", b"Transfer Encoding: chunked"),
            ("long-s-in-name", b"Tran\xc5\xbffer-Encoding: chunked"),
            ("space-before-name", b" Transfer-Encoding: chunked"),
            ("tab-before-name", b"\tTransfer-Encoding: chunked"),
            ("folded", b"Transfer-Encoding:\r\n chunked"),
            ("folded-by-a-tab", b"Transfer-Encoding:\r\n\tchunked"),
            ("folded-in-the-word", b"Transfer-Encoding: chun\r\n ked"),
            ("folded-after", b"Transfer-Encoding: chunked\r\n , identity"),
            ("behind-bare-lf", b"X: y\nTransfer-Encoding: chunked"),
            ("behind-bare-cr", b"X: y\rTransfer-Encoding: chunked"),
            ("behind-lf-cr", b"X: y\n\rTransfer-Encoding: chunked"),
            ("behind-cr-cr-lf", b"X: y\r\r\nTransfer-Encoding: chunked"),
            ("behind-nul", b"X: y\0Transfer-Encoding: chunked"),
        ]
    ),
    # RFC 9112, 6.1: on HTTP/1.0 it means that the framing is faulty.
    refused("http-1.0", old(b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    refused("http-1.0-with-length", old(*LENGTH_THEN_CODING) + b"0\r\n\r\n"),
    refused(
        "http-1.0-kept-alive",
        old(b"Connection: keep-alive", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    ),
    # RFC 9112, 7: the name's case does not matter; RFC 9110, 5.5: nor does space around it.
    *(
        separate(name, head(field) + ABCD_IN_CHUNKS, b"abcd")
        for name, field in [
            ("chunked", b"Transfer-Encoding: chunked"),
            ("capital", b"Transfer-Encoding: Chunked"),
            ("capitals", b"TRANSFER-ENCODING: CHUNKED"),
            ("no-space", b"Transfer-Encoding:chunked"),
            ("spaces-around", b"Transfer-Encoding:   chunked   "),
            ("tab-before", b"Transfer-Encoding:\tchunked"),
        ]
    ),
    # RFC 9110, 5.5 and 5.6.1.2, would have these read.  Nobody writes them but to
    # have them read in two ways, as llhttp does.
    *(
        refused(name, head(field) + ABCD_IN_CHUNKS)
        for name, field in [
            ("tab-after", b"Transfer-Encoding: chunked\t"),
            ("list-ends-empty", b"Transfer-Encoding: chunked,"),
            ("list-begins-empty", b"Transfer-Encoding: ,chunked"),
        ]
    ),
    # Names that only look like it mean nothing (RFC 9110, 5.1).
    *(
        separate(name, head(field))
        for name, field in [
            ("other-name-underscore", b"Transfer_Encoding: chunked"),
            ("other-name-te", b"TE: chunked"),
            ("other-name-prefixed", b"X-Transfer-Encoding: chunked"),
            ("other-name-longer", b"Transfer-Encodings: chunked"),
            ("other-name-content-encoding", b"Content-Encoding: chunked"),
        ]
    ),
]

# RFC 9112, 7.1: chunk = 1*HEXDIG [ chunk-ext ] CRLF chunk-data CRLF; 7.1.1:
# extensions that mean nothing are passed over; 7.1.2: so are trailers, and RFC
# 9110, 6.5.1, lets none of them change the framing.
CHUNKS = [
    *(
        separate(name, CHUNKED + body, b"hello")
        for name, body in [
            ("plain", b"5\r\nhello\r\n0\r\n\r\n"),
            ("two-chunks", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
            ("leading-nought", b"05\r\nhello\r\n0\r\n\r\n"),
            ("leading-noughts-over-64-bits", b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n"),
            ("many-noughts-last", b"5\r\nhello\r\n00000000\r\n\r\n"),
            ("extension-name", b"5;a\r\nhello\r\n0\r\n\r\n"),
            ("extension", b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n"),
            ("extension-quoted", b'5;a="b c"\r\nhello\r\n0\r\n\r\n'),
            ("extension-quotes-a-semicolon", b'5;a="b;0"\r\nhello\r\n0\r\n\r\n'),
            ("extension-quotes-a-quote", b'5;a="b\\"0"\r\nhello\r\n0\r\n\r\n'),
            ("extensions", b"5;a=b;c;d=e\r\nhello\r\n0\r\n\r\n"),
            # Where the chunk ends is clear in these, whatever is wrong with them.
            ("extension-only-value", b"5;=b\r\nhello\r\n0\r\n\r\n"),
            ("extension-without-value", b"5;a=\r\nhello\r\n0\r\n\r\n"),
            ("trailer", b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n"),
            ("trailer-empty", b"5\r\nhello\r\n0\r\nX-A:\r\n\r\n"),
            ("trailer-host", b"5\r\nhello\r\n0\r\nHost: y\r\nHost: z\r\n\r\n"),
            (
                "trailer-upgrade",
                b"5\r\nhello\r\n0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            ),
            ("trailer-expect", b"5\r\nhello\r\n0\r\nExpect: 100-continue\r\n\r\n"),
        ]
    ),
    separate("upper-case-size", CHUNKED + b"A\r\nhellohello\r\n0\r\n\r\n", b"hellohello"),
    separate("lower-case-size", CHUNKED + b"a\r\nhellohello\r\n0\r\n\r\n", b"hellohello"),
    separate("nothing", CHUNKED + b"0\r\n\r\n"),
    separate("data-like-a-last-chunk", CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    separate("data-like-a-request", CHUNKED + SMUGGLED_IN_CHUNKS, SMUGGLED),
    # llhttp takes these at their word, and what follows for too much.
    *(
        then_refused(name, CHUNKED + b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n", b"hello")
        for name, trailer in [
            ("trailer-close", b"Connection: close"),
            ("trailer-close-of-a-proxy", b"Proxy-Connection: close"),
        ]
    ),
    then_refused("bytes-after-the-last-chunk", CHUNKED + b"0\r\n\r\nX", b""),
    held("size-of-what-follows", CHUNKED + b"%x\r\n" % len(SMUGGLED)),
    held("size-larger-than-comes", CHUNKED + b"1000\r\n"),
    held("size-60-bits", CHUNKED + b"fffffffffffffff\r\n"),
    *(
        broken(name, CHUNKED + body)
        for name, body in [
            ("size-64-bits-and-one", b"10000000000000000\r\n"),
            ("size-64-bits-wrapped-to-5", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
            ("size-32-f", b"f" * 32 + b"\r\nhello\r\n0\r\n\r\n"),
            ("size-minus", b"-5\r\nhello\r\n0\r\n\r\n"),
            ("size-plus", b"+5\r\nhello\r\n0\r\n\r\n"),
            ("size-0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
            ("size-h", b"5h\r\nhello\r\n0\r\n\r\n"),
            ("size-not-hex", b"g\r\nhello\r\n0\r\n\r\n"),
            ("size-underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
            ("size-fraction", b"5.0\r\nhello\r\n0\r\n\r\n"),
            ("size-comma", b"5,5\r\nhello\r\n0\r\n\r\n"),
            ("size-quoted", b'"5"\r\nhello\r\n0\r\n\r\n'),
            ("size-full-width-digit", b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n"),
            ("size-nul", b"5\0\r\nhello\r\n0\r\n\r\n"),
            ("size-empty", b"\r\nhello\r\n0\r\n\r\n"),
            ("size-only-extension", b";a=b\r\nhello\r\n0\r\n\r\n"),
            ("size-after-space", b" 5\r\nhello\r\n0\r\n\r\n"),
            ("size-after-tab", b"\t5\r\nhello\r\n0\r\n\r\n"),
            ("size-before-space", b"5 \r\nhello\r\n0\r\n\r\n"),
            ("size-before-tab", b"5\t\r\nhello\r\n0\r\n\r\n"),
            ("size-two-words", b"5 5\r\nhello\r\n0\r\n\r\n"),
            ("size-before-space-last", b"5\r\nhello\r\n0 \r\n\r\n"),
            ("lf-after-size", b"5\nhello\r\n0\r\n\r\n"),
            ("cr-after-size", b"5\rhello\r\n0\r\n\r\n"),
            ("cr-cr-lf-after-size", b"5\r\r\nhello\r\n0\r\n\r\n"),
            ("lf-cr-after-size", b"5\n\rhello\r\n0\r\n\r\n"),
            ("lf-after-data", b"5\r\nhello\n0\r\n\r\n"),
            ("cr-after-data", b"5\r\nhello\r0\r\n\r\n"),
            ("nothing-after-data", b"5\r\nhello0\r\n\r\n"),
            ("two-bytes-after-data", b"5\r\nhelloXX0\r\n\r\n"),
            ("empty-line-after-data", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
            ("data-too-long", b"4\r\nhello\r\n0\r\n\r\n"),
            ("data-too-short", b"6\r\nhello\r\n0\r\n\r\n"),
            ("lf-after-last-size", b"5\r\nhello\r\n0\n\r\n"),
            ("lf-at-the-end", b"5\r\nhello\r\n0\r\n\n"),
            ("lfs-at-the-end", b"5\r\nhello\r\n0\n\n"),
            ("cr-at-the-end", b"5\r\nhello\r\n0\r\n\r"),
            ("extension-lf", b"5;a\nhello\r\n0\r\n\r\n"),
            ("extension-lf-inside", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
            ("extension-lf-hides-a-size", b"5;\n0\r\n\r\n\r\n0\r\n\r\n"),
            ("extension-cr", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
            ("extension-value-cr", b"5;a=\rb\r\nhello\r\n0\r\n\r\n"),
            ("extension-value-lf", b"5;a=b\nhello\r\n0\r\n\r\n"),
            ("extension-nul", b"5;a=\0\r\nhello\r\n0\r\n\r\n"),
            ("extension-control", b"5;a=\x01\r\nhello\r\n0\r\n\r\n"),
            ("extension-quoted-lf", b'5;a="\n"\r\nhello\r\n0\r\n\r\n'),
            ("extension-quoted-cr", b'5;a="\r"\r\nhello\r\n0\r\n\r\n'),
            ("extension-quoted-crlf", b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n'),
            ("extension-quoted-nul", b'5;a="\0"\r\nhello\r\n0\r\n\r\n'),
            ("extension-quote-not-closed", b'5;a="b\r\nhello\r\n0\r\n\r\n'),
            ("extension-without-name", b"5;\r\nhello\r\n0\r\n\r\n"),
            # RFC 9112, 7.1.1, has BWS there, which no sender may write (RFC 9110, 5.6.3).
            ("extension-after-space", b"5 ;a=b\r\nhello\r\n0\r\n\r\n"),
            ("extension-before-space", b"5; a=b\r\nhello\r\n0\r\n\r\n"),
            ("extension-spaced-value", b"5;a = b\r\nhello\r\n0\r\n\r\n"),
            # RFC 9110, 6.5.1: no sender may put what frames into a trailer.
            ("trailer-length", b"0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)),
            ("trailer-coding", b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("trailer-space-before-colon", b"0\r\nX-A : b\r\n\r\n"),
            ("trailer-space-before-name", b"0\r\n X-A: b\r\n\r\n"),
            ("trailer-folded", b"0\r\nX-A: b\r\n c\r\n\r\n"),
            ("trailer-without-colon", b"0\r\nX-A\r\n\r\n"),
            ("trailer-without-name", b"0\r\n: b\r\n\r\n"),
            ("trailer-lf", b"0\r\nX-A: b\n\r\n"),
            ("trailer-cr", b"0\r\nX-A: b\rX-B: c\r\n\r\n"),
            ("trailer-nul", b"0\r\nX-A: \0\r\n\r\n"),
            ("trailer-is-a-request", b"0\r\n" + SMUGGLED),
            ("trailer-too-long", b"0\r\nX-A: " + LONG + b"\r\n\r\n"),
            ("trailers-too-long", b"0\r\n" + (b"X-A: " + b"b" * 1000 + b"\r\n") * 20 + b"\r\n"),
        ]
    ),
]

# RFC 9112, 2.2, 5, 5.1 and 5.2, RFC 9110, 5.1 and 5.5: a name is a token, CR, LF
# and NUL are refused wherever they are, and so is a line that goes on.
FIELDS = [
    *(
        refused(name, get(*fields))
        for name, *fields in [
            ("nul-in-value", b"X-A: b\0c"),
            ("nul-as-value", b"X-A: \0"),
            ("cr-in-value", b"X-A: b\rc"),
            ("cr-ends-value", b"X-A: b\r"),
            ("cr-begins-value", b"X-A: \rb"),
            ("lf-in-value", b"X-A: b\nc"),
            ("lf-before-a-field", b"X-A: b\nX-B: c"),
            ("lf-ends-the-head", b"X-A: b\n\n" + SMUGGLED + b"X-B: c"),
            ("lf-crlf-ends-the-head", b"X-A: b\n\r\n" + SMUGGLED + b"X-B: c"),
            ("cr-ends-the-head", b"X-A: b\r\r" + SMUGGLED + b"X-B: c"),
            ("control-in-value", b"X-A: b\x01c"),
            ("escape-in-value", b"X-A: b\x1bc"),
            ("vertical-tab-in-value", b"X-A: b\x0bc"),
            ("delete-in-value", b"X-A: b\x7fc"),
            ("nul-in-name", b"X\0A: b"),
            ("cr-in-name", b"X\rA: b"),
            ("lf-in-name", b"X\nA: b"),
            ("control-in-name", b"X\x01A: b"),
            ("delete-in-name", b"X\x7fA: b"),
            ("obs-text-in-name", b"X\xe9A: b"),
            ("space-in-name", b"X A: b"),
            ("quote-in-name", b'X"A: b'),
            ("slash-in-name", b"X/A: b"),
            ("bracket-in-name", b"X[A]: b"),
            ("brace-in-name", b"{X}: b"),
            ("at-in-name", b"X@A: b"),
            ("comma-in-name", b"X,A: b"),
            ("equals-in-name", b"X=A: b"),
            ("empty-name", b": b"),
            ("empty-name-after-space", b" : b"),
            ("only-a-colon", b":"),
            ("no-colon", b"X-A"),
            ("no-colon-with-space", b"X-A b"),
            ("space-before-colon", b"X-A : b"),
            ("tab-before-colon", b"X-A\t: b"),
            ("space-before-name", b" X-A: b"),
            ("tab-before-name", b"\tX-A: b"),
            ("folded", b"X-A: b\r\n c"),
            ("folded-by-a-tab", b"X-A: b\r\n\tc"),
            ("folded-before-a-value", b"X-A:\r\n b"),
            ("folded-to-nothing", b"X-A: b\r\n "),
            ("folded-hides-a-length", b"X-A: b\r\n Content-Length: 40"),
            ("folded-hides-a-request", b"X-A: b\r\n \r\n" + SMUGGLED),
        ]
    ),
    refused("space-before-the-first-name", head(b" X-A: b", host=b"")),
    refused("space-before-host", head(host=b" Host: x")),
    refused("tab-before-host", head(host=b"\tHost: x")),
    refused("lf-behind-host", b"GET /echo HTTP/1.1\r\nHost: x\n\r\n"),
    refused("lfs-only", b"GET /echo HTTP/1.1\nHost: x\n\n"),
    refused("crs-only", b"GET /echo HTTP/1.1\rHost: x\r\r"),
    *(
        separate(name, get(*fields))
        for name, *fields in [
            ("empty-value", b"X-A:"),
            ("empty-value-then-another", b"X-A:", b"X-B: Content-Length: 5"),
            ("value-with-colons", b"X-A: Transfer-Encoding: chunked"),
            ("value-with-obs-text", b"X-A: \xe9\xff"),
            ("value-with-tab", b"X-A: b\tc"),
            ("every-mark-of-a-token", b"!#$%&'*+-.^_`|~: b"),
            ("the-same-name-twice", b"X-A: b", b"X-A: c"),
        ]
    ),
    # RFC 9110, 5.4, and RFC 6585, 5.
    refused("line-too-long", get(b"X-A: " + LONG), 431),
    refused("name-too-long", get(LONG + b": b"), 431),
    refused("lines-too-long", get(*[b"X-A: " + b"b" * 1000] * 20), 431),
    refused("lines-too-many", get(*[b"X-A: b"] * (MAX_FIELDS + 1)), 431),
    refused("empty-lines-too-many", get(*[b"X-A:"] * (MAX_FIELDS + 1)), 431),
    separate("lines-just-few-enough", get(*[b"X-A: b"] * (MAX_FIELDS - 1))),
]

# RFC 9112, 3.2: one valid Host on HTTP/1.1, not more than one on any version;
# RFC 9110, 7.2: Host = uri-host [ ":" port ], by RFC 3986, 3.2.2 and 3.2.3.
HOSTS = [
    refused("missing", head(host=b"")),
    refused("missing-among-others", head(b"X-Host: x", host=b"")),
    refused("missing-with-absolute-target", head(line=b"GET http://x/echo HTTP/1.1", host=b"")),
    refused("twice-the-same", get(b"Host: x")),
    refused("twice-different", get(b"Host: y")),
    refused("twice-other-case", get(b"hOST: y")),
    refused("twice-apart", get(b"X-A: b", b"Host: y")),
    refused("twice-second-empty", get(b"Host:")),
    refused("twice-first-empty", head(b"Host: x", host=b"Host:")),
    refused("twice-with-absolute-target", head(b"Host: x", line=b"GET http://x/echo HTTP/1.1")),
    refused("twice-on-http-1.0", old(b"Host: y")),
    refused("invalid-on-http-1.0", head(line=b"GET /echo HTTP/1.0", host=b"Host: x y")),
    *(
        refused(name, head(line=b"GET /echo HTTP/1.1", host=b"Host: " + value))
        for name, value in [
            ("two-words", b"x y"),
            ("list", b"x, y"),
            ("list-without-space", b"x,y"),
            ("url", b"http://x"),
            ("slash", b"x/"),
            ("query", b"x?y"),
            ("fragment", b"x#y"),
            ("user", b"y@x"),
            ("user-and-password", b"y:z@x"),
            ("backslash", b"x\\y"),
            ("quoted", b'"x"'),
            ("angle-brackets", b"<x>"),
            ("obs-text", b"\xe9"),
            ("delete", b"x\x7f"),
            ("nul", b"x\0"),
            ("cr", b"x\ry"),
            ("port-not-a-number", b"x:abc"),
            ("port-signed", b"x:+80"),
            ("port-twice", b"x:80:80"),
            ("port-before", b"80:x"),
            ("bracket-not-closed", b"[::1"),
            ("bracket-not-opened", b"::1]"),
            ("bracket-around-a-name", b"[x]"),
            ("bracket-then-a-name", b"[::1]x"),
            ("address-without-brackets", b"::1"),
            ("percent-alone", b"x%"),
            ("percent-not-hex", b"x%zz"),
            ("too-long", b"x" * 300),
        ]
    ),
    *(
        separate(name, head(line=b"GET /echo HTTP/1.1", host=b"Host:" + value))
        for name, value in [
            ("no-space", b"x"),
            ("spaces-around", b" \t x \t "),
            ("port", b" x:8080"),
            ("port-empty", b" x:"),
            ("address", b" 127.0.0.1:80"),
            ("address-in-brackets", b" [::1]:80"),
            ("address-in-brackets-without-port", b" [2001:db8::1]"),
            ("address-with-a-zone", b" [fe80::1%25eth0]:80"),
            ("upper-case", b" X.EXAMPLE"),
            ("dot-at-the-end", b" x.example."),
            ("dot-alone", b" ."),
            ("dots", b" x..y"),
            ("long-label", b" " + b"x" * 100),
            ("underscore", b" my_host"),
            ("encoded", b" x%41"),
            ("empty", b""),
            ("only-a-space", b" "),
        ]
    ),
    separate(
        "missing-on-http-1.0",
        head(b"Connection: keep-alive", line=b"GET /echo HTTP/1.0", host=b""),
    ),
]

# RFC 9112, 3: method SP request-target SP HTTP-version CRLF; what is not that
# is refused with 400.  A method that is not known is 501 by RFC 9110, 9.1,
# which is advice: here, 400, as it may be another protocol.
LINES = [
    *(
        refused(name, head(line=line))
        for name, line in [
            ("tab-before-target", b"GET\t/echo HTTP/1.1"),
            ("tab-before-version", b"GET /echo\tHTTP/1.1"),
            ("vertical-tab-before-version", b"GET /echo\x0bHTTP/1.1"),
            ("space-at-the-start", b" GET /echo HTTP/1.1"),
            ("tab-at-the-start", b"\tGET /echo HTTP/1.1"),
            ("nul-at-the-start", b"\0GET /echo HTTP/1.1"),
            ("byte-order-mark-at-the-start", b"\xef\xbb\xbfGET /echo HTTP/1.1"),
            ("space-at-the-end", b"GET /echo HTTP/1.1 "),
            ("tab-at-the-end", b"GET /echo HTTP/1.1\t"),
            ("word-at-the-end", b"GET /echo HTTP/1.1 x"),
            ("cr-at-the-end", b"GET /echo HTTP/1.1\r"),
            ("lf-in-the-middle", b"GET /echo\n HTTP/1.1"),
            ("cr-in-the-middle", b"GET /echo\r HTTP/1.1"),
            ("crlf-in-the-middle", b"GET /echo\r\n HTTP/1.1"),
            ("no-target", b"GET HTTP/1.1"),
            ("empty-target", b"GET  HTTP/1.1"),
            ("no-method", b"/echo HTTP/1.1"),
            ("empty-method", b" /echo HTTP/1.1"),
            ("only-a-method", b"GET"),
            ("method-unknown", b"BREW /echo HTTP/1.1"),
            ("method-lower-case", b"get /echo HTTP/1.1"),
            ("method-mixed-case", b"Get /echo HTTP/1.1"),
            ("method-shortened", b"GE /echo HTTP/1.1"),
            ("method-lengthened", b"GETX /echo HTTP/1.1"),
            ("method-nul", b"G\0ET /echo HTTP/1.1"),
            ("method-control", b"GE\x01T /echo HTTP/1.1"),
            ("method-obs-text", b"G\xcbT /echo HTTP/1.1"),
            ("method-quoted", b'"GET" /echo HTTP/1.1'),
            ("method-with-a-colon", b"GET: /echo HTTP/1.1"),
            ("method-very-long", LONG.upper() + b" /echo HTTP/1.1"),
            ("version-lower-case", b"GET /echo http/1.1"),
            ("version-mixed-case", b"GET /echo Http/1.1"),
            ("version-other-name", b"GET /echo HTTPS/1.1"),
            ("version-shortened-name", b"GET /echo HTT/1.1"),
            ("version-without-name", b"GET /echo 1.1"),
            ("version-without-slash", b"GET /echo HTTP 1.1"),
            ("version-without-minor", b"GET /echo HTTP/1"),
            ("version-without-minor-digit", b"GET /echo HTTP/1."),
            ("version-without-dot", b"GET /echo HTTP/11"),
            ("version-with-comma", b"GET /echo HTTP/1,1"),
            ("version-two-digits-major", b"GET /echo HTTP/01.1"),
            ("version-two-digits-minor", b"GET /echo HTTP/1.10"),
            ("version-with-a-letter", b"GET /echo HTTP/1.1x"),
            ("version-with-a-space", b"GET /echo HTTP/1. 1"),
            ("version-signed", b"GET /echo HTTP/+1.1"),
            ("version-nul", b"GET /echo HTTP/1.1\0"),
            # RFC 9110, 2.5, would have it taken as 1.1, which is advice too.
            ("version-1.2", b"GET /echo HTTP/1.2"),
            ("version-1.9", b"GET /echo HTTP/1.9"),
        ]
    ),
    # RFC 9110, 15.6.6.
    refused("version-0.9", head(line=b"GET /echo HTTP/0.9"), 505),
    refused("version-2.0", head(line=b"GET /echo HTTP/2.0"), 505),
    refused("version-2.0-with-body", head(LENGTH, line=b"POST /echo HTTP/2.0"), 505),
    refused("simple-request", b"GET /echo\r\n"),
    refused("simple-request-and-empty-line", b"GET /echo\r\n\r\n", 505),
    refused("simple-request-lf", b"GET /echo\n"),
    refused("http-2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("tls", bytes.fromhex("16030100a5010000a10303") + bytes(32)),
    refused("sslv2", bytes.fromhex("802e0103010015000000100100800300")),
    refused("ssh", b"SSH-2.0-OpenSSH_9.6\r\n"),
    refused("proxy-protocol", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + get()),
    refused("proxy-protocol-2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0" + get()),
    refused("rtsp", b"DESCRIBE rtsp://x/echo RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
    # llhttp knows these protocols, which are HTTP/1.0 but in name.
    last("version-other-protocol", head(line=b"GET /echo RTSP/1.0")),
    last("icecast", b"SOURCE /echo ICE/1.0\r\nHost: x\r\n\r\n"),
    refused("a-response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    refused("nonsense", b"nonsense\r\n\r\n"),
    # RFC 9112, 3: more than one space may be taken for one.
    separate("two-spaces-before-target", head(line=b"GET  /echo HTTP/1.1")),
    separate("two-spaces-before-version", head(line=b"GET /echo  HTTP/1.1")),
    # RFC 9112, 2.2: an empty line before a request is passed over.
    separate("empty-line-before", b"\r\n" + get()),
    separate("empty-line-between", get() + b"\r\n"),
    separate("empty-line-after-a-body", head(b"Content-Length: 4") + b"abcd\r\n", b"abcd"),
]

# RFC 9112, 3.2: origin-form, absolute-form, for OPTIONS the asterisk and for
# CONNECT the authority; RFC 3986, 3.3 and 3.4: no fragment, nothing but ASCII.
TARGETS = [
    *(
        refused(name, head(line=b"GET %b HTTP/1.1" % target))
        for name, target in [
            ("no-slash", b"echo"),
            ("no-slash-query", b"?a=b"),
            ("dot", b"./echo"),
            ("backslash", b"\\echo"),
            ("asterisk", b"*"),
            ("asterisk-slash", b"*/echo"),
            ("asterisk-more", b"*echo"),
            ("authority", b"x:80"),
            ("fragment", b"/echo#fragment"),
            ("fragment-empty", b"/echo#"),
            ("fragment-after-query", b"/echo?a=b#fragment"),
            ("absolute-fragment", b"http://x#/echo"),
            ("absolute-one-slash", b"http:/echo"),
            ("absolute-no-slash", b"http:echo"),
            # RFC 9110, 4.2.1 and 4.2.4: an http URI has a host, and no user.
            ("absolute-no-host", b"http:///echo"),
            ("absolute-user", b"http://user@x/echo"),
            ("absolute-user-and-password", b"http://user:pass@x/echo"),
            ("absolute-two-users", b"http://a@b@x/echo"),
            ("absolute-no-scheme", b"://x/echo"),
            ("obs-text", b"/\xe9"),
            ("utf-8", b"/\xc3\xa9"),
            ("nul", b"/echo\0"),
            ("control", b"/ec\x01ho"),
            ("delete", b"/ec\x7fho"),
            ("tab", b"/ec\tho"),
            ("space", b"/ec ho"),
            ("cr", b"/ec\rho"),
            ("lf", b"/ec\nho"),
            ("version-inside", b"/echo HTTP/1.1 HTTP/1.1"),
            ("query-space", b"/echo?a= b"),
            ("query-obs-text", b"/echo?\xe9"),
        ]
    ),
    refused("connect", head(line=b"CONNECT x:80 HTTP/1.1")),
    refused("connect-with-body", head(LENGTH, line=b"CONNECT x:80 HTTP/1.1")),
    refused("connect-origin-form", head(line=b"CONNECT /echo HTTP/1.1")),
    refused("connect-http-1.0", head(line=b"CONNECT x:80 HTTP/1.0")),
    # RFC 9112, 3: longer than any that could be wanted is 414.
    refused("too-long", head(line=b"GET /" + LONG + b" HTTP/1.1"), 414),
    refused("query-too-long", head(line=b"GET /echo?" + LONG + b" HTTP/1.1"), 414),
    *(
        separate(name, head(line=b"GET %b HTTP/1.1" % target), path=path)
        for name, target, path in [
            ("query", b"/echo?a=b", b"/echo"),
            ("query-with-a-url", b"/echo?http://y/smuggled", b"/echo"),
            ("query-with-question-marks", b"/echo?a?b?/smuggled", b"/echo"),
            ("absolute", b"http://x/echo", b"/echo"),
            ("absolute-port", b"http://x:80/echo?a=b", b"/echo"),
            ("absolute-upper-case", b"HTTP://X/echo", b"/echo"),
            ("absolute-https", b"https://x/echo", b"/echo"),
            # RFC 9112, 3.2.2: the target's host counts, not the header's.
            ("absolute-other-host", b"http://y/echo", b"/echo"),
            ("absolute-address", b"http://[::1]:80/echo", b"/echo"),
            ("absolute-no-path", b"http://x", b"/"),
            # RFC 3986, 3.2: the authority ends at a question mark as well.
            ("absolute-no-path-but-query", b"http://x?a=b", b"/"),
            ("absolute-query-like-a-path", b"http://x?/echo", b"/"),
            ("absolute-query-like-a-url", b"http://x/echo?http://y/smuggled", b"/echo"),
        ]
    ),
    separate("options-asterisk", head(line=b"OPTIONS * HTTP/1.1"), status=204),
    *(
        separate(name, head(line=line), status=404)
        for name, line in [
            ("two-slashes", b"GET //x/echo HTTP/1.1"),
            ("parameter", b"GET /echo;a=b HTTP/1.1"),
            ("encoded-query", b"GET /echo%3fa=b HTTP/1.1"),
            ("encoded-nul", b"GET /echo%00 HTTP/1.1"),
            ("encoded-crlf", b"GET /echo%0d%0aHost:%20y HTTP/1.1"),
            ("encoded-twice", b"GET /%2565cho HTTP/1.1"),
        ]
    ),
]

# RFC 9112, 6.3: the method says nothing about whether a request has a body (see
# RFC 9110, 9.3.1, 9.3.2 and 9.3.5); 9.3 and 9.6: whether a connection persists.
BODIES = [
    *(
        taken(f"{method}-with-length", head(LENGTH, line=b"%b /echo HTTP/1.1" % method.encode()))
        for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE")
    ),
    *(
        separate(
            f"{method}-with-chunks",
            head(b"Transfer-Encoding: chunked", line=b"%b /echo HTTP/1.1" % method.encode())
            + SMUGGLED_IN_CHUNKS,
            SMUGGLED,
        )
        for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH")
    ),
    *(
        separate(f"{method}-without-body", head(line=b"%b /echo HTTP/1.1" % method.encode()))
        for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "POST")
    ),
    taken("form", head(b"Content-Type: application/x-www-form-urlencoded", LENGTH)),
    taken("multipart", head(b"Content-Type: multipart/form-data", LENGTH)),
    taken("method-override", head(b"X-HTTP-Method-Override: GET", LENGTH)),
    taken(
        "a-request-then-another",
        head(b"Content-Length: %d" % (2 * len(SMUGGLED))) + SMUGGLED,
        2 * SMUGGLED,
    ),
    taken(
        "begins-as-a-request",
        head(b"Content-Length: %d" % (6 + len(SMUGGLED))) + b"GET / ",
        b"GET / " + SMUGGLED,
    ),
    separate("is-a-request", head(LENGTH) + SMUGGLED, SMUGGLED),
    separate("is-half-a-request", head(b"Content-Length: 9") + SMUGGLED[:9], SMUGGLED[:9]),
    separate("is-chunks", head(b"Content-Length: 5") + b"0\r\n\r\n", b"0\r\n\r\n"),
    then_refused("has-a-byte-behind-it", head(b"Content-Length: 4") + b"abcdX", b"abcd"),
    then_refused("has-no-length", get() + b"x=1&", b""),
    # RFC 9110, 7.6.1: options name what a proxy takes out; this is the end of the way.
    taken("option-length", head(b"Connection: Content-Length", LENGTH)),
    taken("option-host", head(b"Connection: Host", LENGTH)),
    taken("options-with-length", head(b"Connection: keep-alive, Content-Length", LENGTH)),
    separate(
        "option-coding",
        head(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked") + ABCD_IN_CHUNKS,
        b"abcd",
    ),
    *(
        separate(name, get(*fields))
        for name, *fields in [
            ("option-unknown", b"Connection: x, y,, z"),
            ("option-empty", b"Connection:"),
            ("option-longer-than-close", b"Connection: closed"),
            ("option-shorter-than-close", b"Connection: clos"),
            ("option-close-quoted", b'Connection: "close"'),
            ("option-close-of-keep-alive", b"Keep-Alive: close"),
        ]
    ),
    *(
        last(name, get(*fields))
        for name, *fields in [
            ("close", b"Connection: close"),
            ("close-upper-case", b"CONNECTION: CLOSE"),
            ("close-first", b"Connection: close, x"),
            ("close-last", b"Connection: x, close"),
            ("close-after-keep-alive", b"Connection: keep-alive, close"),
            ("close-before-keep-alive", b"Connection: close, keep-alive"),
            ("close-on-a-second-line", b"Connection: x", b"Connection: close"),
            ("close-on-a-first-line", b"Connection: close", b"Connection: keep-alive"),
            ("close-among-spaces", b"Connection: \t x \t,\t close \t"),
            ("close-among-empty", b"Connection: ,,close,,"),
        ]
    ),
    # No RFC defines this field, RFC 9112, C.2.2, tells why; llhttp takes it for the other.
    then_refused("option-close-of-a-proxy", get(b"Proxy-Connection: close"), b""),
    last("close-with-body", head(b"Connection: close", b"Content-Length: 4") + b"abcd", b"abcd"),
    last(
        "close-with-chunks",
        head(b"Connection: close", b"Transfer-Encoding: chunked") + ABCD_IN_CHUNKS,
        b"abcd",
    ),
    last("http-1.0", old()),
    last("http-1.0-with-body", old(b"Content-Length: 4") + b"abcd", b"abcd"),
    last("http-1.0-keep-alive-of-a-proxy", old(b"Proxy-Connection: keep-alive")),
    last("http-1.0-close-before-keep-alive", old(b"Connection: close, keep-alive")),
    last("http-1.0-close-after-keep-alive", old(b"Connection: keep-alive, close")),
    separate("http-1.0-keep-alive", old(b"Connection: keep-alive")),
    separate("http-1.0-keep-alive-capitals", old(b"Connection: Keep-Alive")),
    taken("http-1.0-keep-alive-with-body", old(b"Connection: keep-alive", LENGTH)),
]

# RFC 9110, 10.1.1: 100-continue is the one expectation there is, others may be
# passed over; 7.8: so may an offer to upgrade, and on HTTP/1.0 it has to be.
OFFERS = [
    taken("expect-continue", head(b"Expect: 100-continue", LENGTH)),
    taken("expect-continue-capital", head(b"Expect: 100-Continue", LENGTH)),
    taken("expect-junk", head(b"Expect: junk", LENGTH)),
    taken("expect-continue-and-junk", head(b"Expect: 100-continue, junk", LENGTH)),
    taken("expect-twice", head(b"Expect: 100-continue", b"Expect: 100-continue", LENGTH)),
    taken("expect-space-inside", head(b"Expect: 100 -continue", LENGTH)),
    taken("expect-empty", head(b"Expect:", LENGTH)),
    separate("expect-without-body", get(b"Expect: 100-continue")),
    separate("expect-with-length-nought", head(b"Expect: 100-continue", b"Content-Length: 0")),
    separate(
        "expect-with-chunks",
        head(b"Expect: 100-continue", b"Transfer-Encoding: chunked") + ABCD_IN_CHUNKS,
        b"abcd",
    ),
    refused("expect-with-two-lengths", head(b"Expect: 100-continue", *TWO_LENGTHS)),
    refused("expect-with-length-and-coding", head(b"Expect: 100-continue", *LENGTH_THEN_CODING)),
    last(
        "expect-http-1.0",
        old(b"Expect: 100-continue", b"Content-Length: 4") + b"abcd",
        b"abcd",
    ),
    separate("upgrade-h2c", get(b"Connection: Upgrade, HTTP2-Settings", H2C, b"HTTP2-Settings: A")),
    separate("upgrade-websocket", get(b"Connection: Upgrade", b"Upgrade: websocket")),
    separate("upgrade-tls", get(b"Connection: Upgrade", b"Upgrade: TLS/1.2")),
    separate("upgrade-junk", get(b"Connection: upgrade", b"Upgrade: \xff")),
    separate("upgrade-length-nought", head(b"Connection: upgrade", H2C, b"Content-Length: 0")),
    taken("upgrade-without-option", head(H2C, LENGTH)),
    taken("upgrade-only-option", head(b"Connection: upgrade", LENGTH)),
    taken("upgrade-option-of-a-proxy", head(b"Proxy-Connection: upgrade", H2C, LENGTH)),
    separate(
        "upgrade-without-option-chunks",
        head(H2C, b"Transfer-Encoding: chunked") + ABCD_IN_CHUNKS,
        b"abcd",
    ),
    last("upgrade-and-close", get(b"Connection: upgrade, close", H2C)),
    # No offer is accepted: what follows is the body, if there is one.
    taken("upgrade-with-body", head(b"Connection: upgrade", H2C, LENGTH)),
    separate(
        "upgrade-with-chunks",
        head(b"Connection: upgrade", H2C, b"Transfer-Encoding: chunked") + ABCD_IN_CHUNKS,
        b"abcd",
    ),
    refused("upgrade-with-two-lengths", head(b"Connection: upgrade", H2C, *TWO_LENGTHS)),
    refused(
        "upgrade-with-length-and-coding", head(b"Connection: upgrade", H2C, *LENGTH_THEN_CODING)
    ),
    separate("upgrade-http-1.0", old(b"Connection: keep-alive, upgrade", H2C)),
    taken("upgrade-http-1.0-with-body", old(b"Connection: keep-alive, upgrade", H2C, LENGTH)),
]


@pytest.fixture(params=["whole", "byte by byte"])
def check(request, talk, recorder):
    """Send a case in one piece or in many, and look at what came of it."""

    def check(case):
        stream = case.opening + SMUGGLED
        if request.param == "whole":
            talk.send(stream)
        else:
            for n in range(len(stream)):
                talk.send(stream[n : n + 1])
        answered = [answer.status for answer in parse_answers(talk.transport.value())]
        statuses = [status for status in answered if status != 100]
        assert (statuses, recorder.reached) == (case.statuses, case.reached)
        assert talk.closed == case.closed
        if case.closed:
            assert talk.send(SMUGGLED) == b""
        elif case.statuses:
            assert [answer.status for answer in talk.answers(SMUGGLED)] == [200]

    return check


@pytest.mark.parametrize("case", LENGTH_AND_CODING)
def test_a_length_and_a_coding(check, case):
    """RFC 9112, 6.1 and 6.3, item 3: a request has one of them or is refused."""
    check(case)


@pytest.mark.parametrize("case", LENGTHS)
def test_a_length(check, case):
    """RFC 9112, 6.2 and 6.3, item 5: a length is one row of digits."""
    check(case)


@pytest.mark.parametrize("case", CODINGS)
def test_a_coding(check, case):
    """RFC 9112, 6.1, 6.3, item 4, and 7: chunked is last, once, and spelled so."""
    check(case)


@pytest.mark.parametrize("case", CHUNKS)
def test_chunks(check, case):
    """RFC 9112, 7.1: a chunk has one end, and so has the last of them."""
    check(case)


@pytest.mark.parametrize("case", FIELDS)
def test_fields(check, case):
    """RFC 9112, 5, and RFC 9110, 5: a field is one line, and its name a token."""
    check(case)


@pytest.mark.parametrize("case", HOSTS)
def test_a_host(check, case):
    """RFC 9112, 3.2, and RFC 9110, 7.2: there is one, and it is a host."""
    check(case)


@pytest.mark.parametrize("case", LINES)
def test_a_request_line(check, case):
    """RFC 9112, 2.2, 2.3 and 3: three words with one space between them."""
    check(case)


@pytest.mark.parametrize("case", TARGETS)
def test_a_target(check, case):
    """RFC 9112, 3.2: a target has one of four forms."""
    check(case)


@pytest.mark.parametrize("case", BODIES)
def test_a_body_and_what_comes_after_it(check, case):
    """RFC 9112, 6.3 and 9: the framing says what the body is, and nothing else does."""
    check(case)


@pytest.mark.parametrize("case", OFFERS)
def test_an_offer(check, case):
    """RFC 9110, 7.8 and 10.1.1: neither an expectation nor an upgrade moves a body's end."""
    check(case)


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        pytest.param(CHUNKED, b"0", id="size"),
        pytest.param(CHUNKED + b"5;", b"a", id="extension"),
        pytest.param(CHUNKED + b"5;a=", b"b", id="extension-value"),
        pytest.param(CHUNKED + b'5;a="', b"b", id="extension-quoted"),
        pytest.param(CHUNKED + b"5", b";a", id="extensions"),
        pytest.param(CHUNKED + b"0\r\n", b"a", id="trailer-name"),
        pytest.param(CHUNKED + b"0\r\nX-A:", b" ", id="trailer-space"),
        pytest.param(CHUNKED + b"0\r\nX-A: ", b"b", id="trailer-value"),
        pytest.param(CHUNKED + b"0\r\n", b"X-A: b\r\n", id="trailers"),
        pytest.param(b"", b"A", id="method"),
        pytest.param(b"GET ", b" ", id="space"),
        pytest.param(b"GET /", b"a", id="target"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"a", id="name"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A:", b" ", id="space-before-value"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: b", b" ", id="space-after-value"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"X-A:\r\n", id="fields"),
    ],
)
@pytest.mark.parametrize("size", [8, 1024])
def test_what_never_ends(talk, recorder, start, endless, size):
    """RFC 9112, 3 and 7.1.1, and RFC 9110, 5.4: nothing but a body is taken without limit."""
    talk.send(start)
    piece = (endless * size)[:size]
    for _ in range(2 * MAX_HEAD_BYTES // size):
        talk.send(piece)
    answers = parse_answers(talk.transport.value())
    assert [400 <= answer.status < 500 for answer in answers] == [True]
    assert talk.closed
    assert all(reached.body is None for reached in recorder.reached)


CHUNKED = head(b"Transfer-Encoding: chunked")


@pytest.mark.parametrize("size", [1, 1000, MAX_HEAD_BYTES, 4 * MAX_HEAD_BYTES])
@pytest.mark.parametrize(
    ("start", "status"),
    [
        pytest.param(b"GET /", 414, id="target"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: ", 431, id="field"),
        # What breaks in a body is answered by the route that reads it.
        pytest.param(CHUNKED + b"3;", 400, id="chunk"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n0\r\nX-A:", 400, id="trailer"),
    ],
)
def test_a_limit_is_the_same_however_the_bytes_are_cut(talk, start, status, size):
    """What passes a limit is refused for that, whatever comes behind it in the same read."""
    stream = start + b"a" * MAX_HEAD_BYTES + b"\x01" + b"a" * MAX_HEAD_BYTES
    for position in range(0, len(stream), size):
        talk.send(stream[position : position + size])
    assert [answer.status for answer in parse_answers(talk.transport.value())] == [status]


@pytest.mark.parametrize("size", [1000, 4 * MAX_HEAD_BYTES])
def test_the_limit_of_a_head_is_the_same_behind_a_body(talk, size):
    stream = (
        head(b"Content-Length: 3") + b"abc" + b"GET / HTTP/1.1\r\nX-A: " + b"a" * 2 * MAX_HEAD_BYTES
    )
    stream += b"\r\nX-B: b\r\n\r\n"
    for position in range(0, len(stream), size):
        talk.send(stream[position : position + size])
    assert [answer.status for answer in parse_answers(talk.transport.value())] == [200, 431]


def test_a_field_that_does_not_end_is_refused_in_the_read_that_passes_the_limit(talk):
    talk.send(b"GET / HTTP/1.1\r\nX-A: " + b"a" * MAX_HEAD_BYTES)
    assert [answer.status for answer in parse_answers(talk.transport.value())] == [431]


HALF = head(b"Content-Length: 10") + b"abcd"


@pytest.mark.parametrize(
    ("stream", "statuses", "reached"),
    [
        pytest.param(b"", [], [], id="before-anything"),
        pytest.param(b"\r\n", [], [], id="after-an-empty-line"),
        pytest.param(b"GE", [], [], id="in-the-method"),
        pytest.param(b"GET /smugg", [], [], id="in-the-target"),
        pytest.param(b"GET /smuggled HTTP/1.", [], [], id="in-the-version"),
        pytest.param(b"GET /smuggled HTTP/1.1\r\nHo", [], [], id="in-a-name"),
        pytest.param(b"GET /smuggled HTTP/1.1\r\nHost: x", [], [], id="in-a-value"),
        pytest.param(SMUGGLED[:-1], [], [], id="before-the-last-lf"),
        pytest.param(SMUGGLED[:-2], [], [], id="before-the-last-line"),
        pytest.param(HALF, [], [HighWaterMark(b"/echo")], id="in-a-body"),
        pytest.param(HALF[:-4], [], [HighWaterMark(b"/echo")], id="before-a-body"),
        pytest.param(CHUNKED, [], [HighWaterMark(b"/echo")], id="before-chunks"),
        pytest.param(CHUNKED + b"5", [], [HighWaterMark(b"/echo")], id="in-a-size"),
        pytest.param(CHUNKED + b"5;a=", [], [HighWaterMark(b"/echo")], id="in-an-extension"),
        pytest.param(CHUNKED + b"5\r\nhel", [], [HighWaterMark(b"/echo")], id="in-a-chunk"),
        pytest.param(CHUNKED + b"5\r\nhello", [], [HighWaterMark(b"/echo")], id="behind-a-chunk"),
        pytest.param(
            CHUNKED + b"5\r\nhello\r\n", [], [HighWaterMark(b"/echo")], id="between-chunks"
        ),
        pytest.param(CHUNKED + b"0\r\n", [], [HighWaterMark(b"/echo")], id="behind-the-last-size"),
        pytest.param(CHUNKED + b"0\r\nX-A: b", [], [HighWaterMark(b"/echo")], id="in-a-trailer"),
        pytest.param(CHUNKED + b"0\r\n\r", [], [HighWaterMark(b"/echo")], id="before-the-end"),
        pytest.param(
            get() + SMUGGLED[:-1], [200], [HighWaterMark(b"/echo", b"")], id="in-the-next"
        ),
        pytest.param(
            get() + HALF,
            [200],
            [HighWaterMark(b"/echo", b""), HighWaterMark(b"/echo")],
            id="in-the-next-body",
        ),
    ],
)
def test_a_client_that_goes_away(talk, recorder, stream, statuses, reached):
    """RFC 9112, 8: what has not come whole is answered by nothing, and taken for nothing."""
    answers = talk.answers(stream)
    talk.transport.drop()
    assert [answer.status for answer in answers] == statuses
    assert parse_answers(talk.transport.value()) == answers
    assert recorder.reached == reached
