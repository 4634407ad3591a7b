"""Bytes, clocks and clients that nobody would think of: the channel outlives them all."""

from __future__ import annotations

import gc
import re
import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher

from sos.web.routes import handler
from tests.support.conversation import Conversation

#: Seconds that one campaign takes in its long form; there are four.
LONG_SECONDS = 150
#: Examples of a round; the short form is one round.
EXAMPLES = 200
#: Seconds after which a connection on which nothing happens has to be closed.
PATIENCE = 200

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]+")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~]([\t -~]*[!-~])?)")
_VALUE = re.compile(rb"(: )(.*)(\r\n)")
_TARGET = re.compile(rb"( )(\S+)( HTTP/1)")


class Sample:
    """Routes that read all, some or nothing of a body, take their time, or send much."""

    app = Klein()

    def __init__(self):
        self.gates = []
        self.whole = []

    def open_gates(self):
        gates, self.gates = self.gates, []
        for gate in gates:
            gate.callback(None)

    async def wait(self):
        gate = Deferred(lambda gate: self.gates.remove(gate))
        self.gates.append(gate)
        await gate

    @app.route("/echo")
    async def echo(self, request):
        body = b"".join([piece async for piece in request.body])
        self.whole.append((request.method, request.uri, body))
        request.setHeader(b"Content-Length", b"4")
        return b"read"

    @app.route("/first")
    async def first(self, request):
        async for _ in request.body:
            break
        request.setHeader(b"Content-Length", b"5")
        return b"begun"

    @app.route("/refuse")
    def refuse(self, request):
        request.setResponseCode(409)
        request.setHeader(b"Content-Length", b"2")
        return b"no"

    @app.route("/slow")
    async def slow(self, request):
        await self.wait()
        return b"at last"

    @app.route("/late")
    async def late(self, request):
        await self.wait()
        return await self.echo(request)

    @app.route("/large")
    async def large(self, request):
        request.setHeader(b"Content-Length", b"40000")
        for _ in range(40):
            request.write(bytes(1000))
            await request.drained()


class Logged:
    """Collects what is logged as an error."""

    def __init__(self):
        self.errors = []

    def __call__(self, event):
        if "log_failure" in event or event["log_level"] >= LogLevel.error:
            self.errors.append(event.get("log_failure") or event)

    def check(self):
        """Nothing has been logged as an error since the last time."""
        errors, self.errors = self.errors, []
        assert errors == []


@pytest.fixture
def logged():
    """What has been logged as an error; at the end nothing may have been."""
    logged = Logged()
    globalLogPublisher.addObserver(logged)
    yield logged
    gc.collect()  # a failure that nobody has handled is logged when it is forgotten
    globalLogPublisher.removeObserver(logged)
    logged.check()


def conversation(sample):
    """Begin a conversation with a server of *sample*."""
    return Conversation(handler(sample.app))


def statuses_of(data, ended):
    """Return the statuses of the answers in *data*, every byte of which has to be in its place.

    :param ended: whether the connection may have ended in the middle of an answer.
    """
    statuses = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end and ended:
            break
        assert end, f"not the head of an answer: {head!r}"
        first, *lines = head.split(b"\r\n")
        status_line = _STATUS_LINE.fullmatch(first)
        assert status_line, f"not a status line: {first!r}"
        status = int(status_line[1])
        fields = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            assert field, f"not a field: {line!r}"
            assert field[1].lower() not in fields, f"twice: {line!r}"
            fields[field[1].lower()] = field[2]
        statuses.append(status)
        if status == 100:
            assert not fields
            data = rest
            continue
        assert status < 500 or status == 505, f"{first!r} {rest[:200]!r}"
        data = after_body(rest, fields, ended)
    return statuses


def after_body(data, fields, ended):
    """Return what follows an answer's body, which one to a HEAD request has not."""
    assert not {b"content-length", b"transfer-encoding"} <= fields.keys()
    if not data or data.startswith(b"HTTP/1.1 "):
        return data
    if b"content-length" in fields:
        length = fields[b"content-length"]
        assert length.isdigit()
        assert ended or len(data) >= int(length)
        return data[int(length) :]
    if b"transfer-encoding" not in fields:
        assert fields[b"connection"] == b"close"
        return b""
    assert fields[b"transfer-encoding"] == b"chunked"
    while True:
        size, end, data = data.partition(b"\r\n")
        if ended and not end:
            return b""
        assert re.fullmatch(rb"[0-9a-f]+", size), f"not a chunk's size: {size[:100]!r}"
        piece, data = data[: int(size, 16)], data[int(size, 16) :]
        if ended and not data:
            return b""
        assert data.startswith(b"\r\n")
        data = data[2:]
        if not piece:
            return data


def post(path, body=b"", *fields):
    lines = [b"POST %b HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(path, *fields, method=b"GET"):
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, path), b"Host: x", *fields]) + b"\r\n\r\n"


CHUNKED = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = [
    get(b"/echo"),
    get(b"/echo?a=b", b"X-Name: value", b"Accept: */*"),
    get(b"http://x:80/echo"),
    get(b"/echo", method=b"HEAD"),
    get(b"/slow"),
    get(b"/slow", method=b"HEAD"),
    get(b"/large"),
    get(b"/absent"),
    get(b"/%c3%a9/%ff"),
    get(b"*", method=b"OPTIONS"),
    get(b"/echo", b"Connection: Upgrade", b"Upgrade: h2c"),
    get(b"/echo", b"Connection: close"),
    get(b"/echo", b"Expect: 100-continue", b"Content-Length: 5", method=b"DELETE") + b"hello",
    post(b"/echo", b"hello"),
    post(b"/echo", bytes(300), b"Expect: 100-continue"),
    post(b"/first", b"hello"),
    post(b"/refuse", b"hello"),
    post(b"/late", b"hello", b"Expect: 100-continue"),
    post(b"/late", bytes(70_000)),
    CHUNKED % b"/echo" + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED % b"/echo" + b'3;a=b\r\nabc\r\nA;c;d="e"\r\n0123456789\r\n0\r\nX-A: b\r\n\r\n',
    CHUNKED % b"/late" + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED % b"/refuse" + b"5\r\nhello\r\n0\r\n\r\n",
    b"GET /echo HTTP/1.0\r\n\r\n",
    b"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
]
WAYS = ["insert", "replace", "delete", "double", "splice", "value", "target"]
PIECES = [
    *(bytes([byte]) for byte in b"\r\n\0 \t:;,.#?/*%0159afx\x01\x7f\x80\xff[]@="),
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: .\r\n",
    b"Host:\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Name: \xc3\xa9\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/2.0\r\n",
    b"GET ",
    b"HEAD ",
    b"CONNECT ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"a" * 20_000,
    b"A: b\r\n" * 210,
    *REQUESTS[:8],
]

VALUES = [
    *(b"", b".", b"x.", b"x..y", b"-", b"x" * 100, b"xn--", b"[::1]", b"[", b"]", b"x:", b":80"),
    *(b"x:y", b"x:99999999999", b"%", b"%00", b"0", b"-1", b"1" * 30, b"close", b"keep-alive"),
    *(b"upgrade", b"chunked", b"identity", b"100-continue", b"\xff", b"\xc3\xa9", b"a" * 5000),
]
TARGETS = [
    *(b"/", b"//", b"//echo", b"/..", b"/../echo", b"/%", b"/%ff", b"/%00", b"/%0d%0a", b"/%zz"),
    *(b"*", b"*x", b"/echo?", b"/echo?%ff=%ff", b"/echo?a&b=&=c", b"/echo#x", b"/echo;x", b"/\\"),
    *(b"http://", b"http://x", b"http://x?/echo", b"http:///echo", b"http://[/echo", b"x://y/echo"),
    *(b"/" * 1000, b"/a" * 5000, b"/echo?" + b"a=b&" * 3000, b"/{}", b'/<>"', b"/|^`", b"/~"),
]

places = st.integers(0, 1_000_000)
pieces = st.sampled_from(PIECES) | st.binary(min_size=1, max_size=8)


values = st.sampled_from(VALUES) | pieces
targets = st.sampled_from(TARGETS) | pieces.map(lambda piece: b"/" + piece)


def odd(value):
    """Return what puts *value* in the place of what a pattern's second group has matched."""
    return lambda match: match[1] + value + match[3]


@st.composite
def positions(draw, stream):
    """A place in *stream*: any, or where a line or a word begins or ends."""
    if draw(st.booleans()):
        return draw(places) % (len(stream) + 1)
    borders = [border.end() for border in re.finditer(rb"\n|\b", stream)]
    return borders[draw(places) % len(borders)] if borders else 0


@st.composite
def mutations(draw, requests=REQUESTS):
    """Requests, one behind the other, to which something was done."""
    stream = b"".join(draw(st.lists(st.sampled_from(requests), min_size=1, max_size=4)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(positions(stream))
        what = draw(st.sampled_from(WAYS))
        end = start + draw(st.sampled_from([1, 1, 2, 5, 20, 100]))
        if draw(st.booleans()):
            end = stream.find(b"\n", start) + 1 or len(stream)
        if what == "insert":
            stream = stream[:start] + draw(pieces) + stream[start:]
        elif what == "replace":
            stream = stream[:start] + draw(pieces) + stream[end:]
        elif what == "delete":
            stream = stream[:start] + stream[end:]
        elif what == "double":
            stream = stream[:end] + stream[start:]
        elif what == "value":
            stream = stream[:start] + _VALUE.sub(odd(draw(values)), stream[start:], count=1)
        elif what == "target":
            stream = stream[:start] + _TARGET.sub(odd(draw(targets)), stream[start:], count=1)
        else:
            other = draw(st.sampled_from(requests))
            stream = stream[:start] + other[draw(positions(other)) :]
    if draw(st.integers(0, 7)) == 0:
        stream = stream[: draw(positions(stream))]
    return stream


noise = st.lists(pieces, max_size=30).map(b"".join) | st.binary(max_size=600)


@st.composite
def cuts(draw, streams):
    """A stream, in the reads it comes in."""
    stream = draw(streams)
    inside = {draw(places) % (len(stream) + 1) for _ in range(draw(st.integers(0, 8)))}
    if draw(st.integers(0, 15)) == 0:
        inside.update(range(min(len(stream), 400)))
    return [stream[start:end] for start, end in pairwise(sorted({0, *inside, len(stream)}))]


happenings = st.one_of(
    st.sampled_from([1, 5, 21, 31, 61, 121]).map(lambda seconds: ("time", seconds)),
    st.just(("take", None)),
    st.just(("gates", None)),
    st.sampled_from([None, 0, 100, 1000, 30_000]).map(lambda room: ("room", room)),
)


@st.composite
def stories(draw):
    """What a client does, and what happens meanwhile."""
    story = []
    for piece in draw(cuts(mutations() | noise)):
        story += draw(st.lists(happenings, max_size=2))
        story.append(("data", piece))
    story += draw(st.lists(happenings, max_size=4))
    if draw(st.integers(0, 3)) == 0:
        story.insert(draw(places) % (len(story) + 1), ("drop", None))
    return story


def live_through(story, logged):
    """Let *story* happen, and all the time that follows; nothing may go wrong."""
    sample = Sample()
    talk = conversation(sample)
    transport = talk.transport
    dropped = False
    for what, detail in [*story, *[("gates", None), ("time", 1)] * PATIENCE]:
        if what == "data":
            talk.send(detail)
        elif what == "time":
            talk.wait(detail)
        elif what == "gates":
            sample.open_gates()
        elif what == "room":
            transport.room = detail
        elif what == "take" and transport.connected:
            transport.take()
        elif what == "drop" and transport.connected:
            dropped = True
            transport.drop()
    if transport.connected:
        assert talk.channel.output.full, "the connection hangs"
        transport.room = None  # a client that takes nothing is waited for, until it does
        transport.take()
        for _ in range(PATIENCE):
            talk.wait(1)
    assert not transport.connected, "the connection hangs"
    logged.check()
    statuses_of(transport.value(), ended=dropped or transport.aborted)


def campaign(long, strategy, check):
    """Try *check* on what *strategy* makes: some examples, or for as long as is set."""
    begun = time.monotonic()
    rounds = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one_round(example):
        check(example)

    while rounds == 0 or (long and time.monotonic() - begun < LONG_SECONDS):
        one_round()
        rounds += 1


def test_requests_that_something_was_done_to(long, logged):
    """Whatever becomes of a valid request on its way, it is answered or it is refused."""

    def check(reads):
        live_through([("data", read) for read in reads], logged)

    campaign(long, cuts(mutations()), check)


def test_noise(long, logged):
    """Bytes that are no requests at all end the connection, and nothing else."""

    def check(reads):
        live_through([("data", read) for read in reads], logged)

    campaign(long, cuts(noise), check)


def test_stories(long, logged):
    """Clients that dawdle, do not read or go away, in any order, leave nothing behind."""

    def check(story):
        live_through(story, logged)

    campaign(long, stories(), check)


def test_how_the_bytes_are_cut_makes_no_difference(long, logged):
    """The same bytes are the same requests, in one read or in many, broken or not.

    Only up to the first that is not answered 200: where a body is not read to
    its end, it depends on what has come of it whether the connection goes on.
    """

    def outcome(reads):
        sample = Sample()
        talk = conversation(sample)
        for read in reads:
            talk.send(read)
        logged.check()
        statuses = statuses_of(talk.transport.value(), ended=False)
        final = [status for status in statuses if status != 100]
        good = [status == 200 for status in final] + [False]
        same = good.index(False)
        return final[: same + 1], sample.whole[:same]

    def check(reads):
        assert outcome(reads) == outcome([b"".join(reads)])

    reading = [request for request in REQUESTS if b"/echo" in request and len(request) < 1000]
    campaign(long, cuts(mutations(reading)), check)
