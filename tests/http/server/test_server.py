"""The channel: framing, order, limits and patience."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from sos.errors import Incomplete, TooSlow
from sos.http.server.connection import HEAD_SECONDS, IDLE_SECONDS, STALL_SECONDS
from sos.http.server.parser import MAX_FIELDS, MAX_HEAD_BYTES
from sos.http.server.request_body import HIGH_WATER
from sos.web.routes import handler
from tests.support.conversation import Conversation, Transport, parse_answers, request

#: Pieces of a film.
FILM = 10


class Echo:
    """Routes that read bodies, refuse them, or take their time."""

    app = Klein()

    def __init__(self):
        self.gate = Deferred()
        self.seen = []
        self.errors = []

    @app.route("/echo", methods=["POST", "GET"])
    async def echo(self, request):
        try:
            body = b"".join([piece async for piece in request.body])
        except Exception as error:
            self.errors.append(error)
            raise
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return body

    @app.route("/refuse", methods=["POST"])
    def refuse(self, request):
        request.setResponseCode(409)
        request.setHeader(b"Content-Length", b"2")
        return b"no"

    @app.route("/slow", methods=["GET"])
    async def slow(self, request):
        await self.gate
        return b"at last"

    @app.route("/parts", methods=["GET"])
    async def parts(self, request):
        request.write(b"one, ")
        await request.drained()
        return b"two"

    @app.route("/film", methods=["GET"])
    async def film(self, request):
        request.setHeader(b"Content-Length", b"%d" % (1000 * FILM))
        for number in range(FILM):
            self.seen.append(number)
            request.write(bytes(1000))
            await request.drained()

    @app.route("/late", methods=["POST"])
    async def late(self, request):
        await self.gate
        async for piece in request.body:
            self.seen.append(len(piece))
        return b"read"


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def talk(echo):
    return Conversation(handler(echo.app))


def post(path=b"/echo", body=b"", *headers):
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_body_is_answered_and_the_connection_kept(talk):
    """Two requests, one after the other, are answered on one connection."""
    for body in (b"one", b"two"):
        (answer,) = talk.answers(post(body=body))
        assert (answer.status, answer.body) == (200, body)
    assert not talk.closed


def test_a_chunked_body_is_put_together(talk):
    """Extensions and trailers are allowed, and dropped."""
    (answer,) = talk.answers(CHUNKED + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: z\r\n\r\n")
    assert answer.body == b"abcde"
    (answer,) = talk.answers(post(body=b"next"))
    assert answer.body == b"next"


def test_pipelined_requests_are_answered_in_order(talk, echo):
    """A quick answer waits for a slow one that was asked for before it."""
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    assert talk.send(slow + post(body=b"second") + post(body=b"third")) == b""
    assert talk.transport.producerState == "paused"
    before = len(talk.transport.value())
    echo.gate.callback(None)
    talk.clock.advance(0)
    answers = parse_answers(talk.transport.value()[before:])
    assert [answer.body for answer in answers] == [b"at last", b"second", b"third"]
    assert talk.transport.producerState == "producing"


def test_what_follows_a_request_that_is_answered_is_not_looked_at_before(talk, echo):
    """However much it is, it is bytes of one read; what is no request there is told in its turn."""
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    assert talk.send(slow + post() + b"no request\r\n\r\n" + post()) == b""
    echo.gate.callback(None)
    talk.clock.advance(0)
    answers = parse_answers(talk.transport.value())
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert talk.closed


@given(st.data())
def test_how_the_bytes_are_cut_makes_no_difference(data):
    """Any split of the same bytes into reads gives the same answers."""
    stream = (
        post(b"/echo", b"one", b"X-Name: value")
        + CHUNKED
        + b"3\r\nabc\r\n0\r\n\r\n"
        + post(b"/echo", b"two")
    )
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    talk = Conversation(handler(Echo().app))
    sent = b"".join(
        talk.send(stream[start:end]) for start, end in zip([0, *cuts], [*cuts, None], strict=True)
    )
    answers = parse_answers(sent)
    assert [(a.status, a.body) for a in answers] == [(200, b"one"), (200, b"abc"), (200, b"two")]


class TestWhatIsRefused:
    """Framing that could be read in two ways is answered 400, and the connection closed."""

    @pytest.mark.parametrize(
        "head",
        [
            b"Content-Length: 4\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 4",
            b"Content-Length: 4\r\nContent-Length: 4",
            b"Content-Length: 4\r\nContent-Length: 5",
            b"Content-Length: 4, 4",
            b"Content-Length: +4",
            b"Content-Length: -4",
            b"Content-Length: 0x4",
            b"Content-Length: 4 4",
            b"Content-Length:",
            b"Content-Length: 99999999999999999999999",
            b"Transfer-Encoding: gzip",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, gzip",
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Host: y",
            b"Host: a b",
            b"X-Name: a\0b",
            b"X-Name: a\rb",
            b"X-Name: a\r\n b",
            b" X-Name: a",
            b"X-Name : a",
            b"X Name: a",
            b": a",
        ],
    )
    def test_in_the_headers(self, talk, head):
        """The answer is 400, in JSON, and what follows is not taken for a request."""
        stream = b"POST /echo HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\nGET "
        (answer,) = talk.answers(stream)
        assert answer.status == 400
        assert answer.json["status"] == 400
        assert answer.headers[b"connection"] == b"close"
        assert talk.closed
        assert talk.send(post(body=b"smuggled")) == b""

    @pytest.mark.parametrize(
        ("stream", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: x\n\n", 400),
            (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
            (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
            (b"GET /\r\n\r\n", 505),
            (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400),
            (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01", 400),
        ],
    )
    def test_in_the_request_line(self, talk, stream, status):
        """Other protocols and other versions are told so."""
        (answer,) = talk.answers(stream)
        assert answer.status == status
        assert talk.closed

    @pytest.mark.parametrize(
        "body",
        [
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"g\r\n",
            b"3 \r\nabc\r\n",
            b"fffffffffffffffff\r\n",
            b";x=y\r\n",
        ],
    )
    def test_in_a_chunked_body(self, talk, echo, body):
        """The route learns that the body is not whole, and the connection ends."""
        talk.send(CHUNKED + body)
        assert talk.closed
        assert all(isinstance(error, Incomplete) for error in echo.errors)

    def test_too_many_bytes_of_headers(self, talk):
        """Over 16 KiB is 431, whether they come as one field or as many."""
        (answer,) = talk.answers(post(b"/echo", b"", b"X-Long: " + b"a" * MAX_HEAD_BYTES))
        assert answer.status == 431
        assert talk.closed

    def test_a_field_that_never_ends(self, talk):
        """431 comes while it is still coming, and what came is not kept."""
        talk.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: ")
        answers = []
        for _ in range(20):
            answers += talk.answers(b"a" * 1024)
        assert [answer.status for answer in answers] == [431]

    def test_a_trailer_that_never_ends(self, talk, echo):
        """Neither it nor the extensions of a chunk can grow without end."""
        for start in (b"0\r\nX-Trailer: ", b"5;extension="):
            talk = Conversation(handler(echo.app))
            talk.send(CHUNKED + start)
            for _ in range(20):
                talk.send(b"a" * 1024)
            assert talk.closed

    def test_a_head_that_comes_with_the_end_of_another_read(self, talk):
        """What else comes in the same read does not count against the limit."""
        whole = post(b"/echo", bytes(40_000)) + post(b"/echo", b"x") * 200
        talk.send(whole[:30])
        answers = talk.answers(whole[30:])
        assert [answer.status for answer in answers] == [200] * 201

    def test_too_many_fields(self, talk):
        """Over 200 is 431."""
        fields = [b"X-%d: y" % n for n in range(MAX_FIELDS)]
        (answer,) = talk.answers(post(b"/echo", b"", *fields))
        assert answer.status == 431

    def test_what_came_before_is_answered_first(self, talk, echo):
        """A broken request behind a slow one does not overtake it."""
        assert talk.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n") == b""
        echo.gate.callback(None)
        statuses = [answer.status for answer in parse_answers(talk.transport.value())]
        assert statuses == [200, 400]


class TestBodies:
    def test_100_continue_waits_until_the_body_is_wanted(self, talk, echo):
        """The client is asked for the body when the route reads it, not before."""
        head = post(b"/late", b"", b"Expect: 100-continue").replace(b"Length: 0", b"Length: 4")
        assert talk.send(head) == b""
        echo.gate.callback(None)
        assert talk.transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert b"200 OK" in talk.send(b"body")

    def test_a_refused_body_is_never_asked_for(self, talk):
        """The final status comes at once, and the connection ends after it."""
        head = post(b"/refuse", b"", b"Expect: 100-continue")
        (answer,) = talk.answers(head.replace(b"Length: 0", b"Length: 4000"))
        assert answer.status == 409
        assert answer.headers[b"connection"] == b"close"
        assert talk.transport.half_closed

    def test_a_refused_body_that_has_come_costs_nothing(self, talk):
        """When the body is there already the connection can be kept."""
        (answer,) = talk.answers(post(b"/refuse", b"abc"))
        assert answer.status == 409
        assert not talk.closed

    def test_after_an_early_answer_the_rest_is_read_and_dropped_for_a_while(self, talk):
        """A client that is still sending can read the answer; it is not for ever."""
        talk.send(post(b"/refuse", b"").replace(b"Length: 0", b"Length: 4000"))
        assert talk.send(b"a" * 1000) == b""
        assert talk.transport.connected
        talk.wait(7)
        assert not talk.transport.connected

    def test_a_sender_that_is_ahead_is_held_up(self, talk, echo):
        """Not more than one read past the high-water mark waits in memory."""
        head = post(b"/late", b"").replace(b"Length: 0", b"Length: 200000")
        talk.send(head + bytes(HIGH_WATER - 1))
        assert talk.transport.producerState == "producing"
        talk.send(b"1")
        assert talk.transport.producerState == "paused"
        echo.gate.callback(None)
        assert talk.transport.producerState == "producing"
        assert echo.seen == [HIGH_WATER]

    def test_a_connection_that_is_lost_ends_the_body(self, talk, echo):
        """The route does not go on waiting for what will not come."""
        talk.send(post(b"/echo", b"").replace(b"Length: 0", b"Length: 10") + b"abc")
        talk.transport.drop()
        assert len(echo.errors) == 1


class TestAClientThatDoesNotRead:
    """What it asks for is not piled up for it."""

    def test_no_answer_is_begun_while_one_waits_to_be_sent(self, talk):
        """Neither from what has come nor from what would come."""
        talk.transport.room = 1000
        talk.send(post(b"/echo", bytes(900)) * 100)
        assert len(talk.transport.value()) < 3000
        assert talk.transport.producerState == "paused"
        talk.transport.take()
        assert len(talk.transport.value()) < 6000
        while talk.transport.waiting:
            talk.transport.take()
        assert talk.transport.value().count(b"200 OK") == 100
        assert talk.transport.producerState == "producing"

    def test_a_connection_closes_when_all_has_been_sent(self, talk):
        """A transport with a producer never would."""
        talk.transport.room = 1000
        talk.send(post(b"/echo", bytes(2000), b"Connection: close"))
        assert talk.transport.connected
        talk.transport.take()
        assert talk.transport.producer is None
        assert not talk.transport.connected

    def test_what_was_answered_before_a_broken_request_is_sent_first(self, talk):
        """However long that takes, within reason."""
        talk.transport.room = 1000
        talk.send(post(b"/echo", bytes(2000)) + b"nonsense\r\n\r\n")
        talk.wait(60)
        assert talk.transport.connected
        while talk.transport.waiting:
            talk.transport.take()
        assert talk.transport.value().endswith(b'"status":400}')
        assert talk.transport.half_closed

    def test_what_goes_on_when_there_is_room_may_close(self, talk):
        """The answer that waited, and behind it that to a broken request."""
        talk.transport.room = 0
        talk.send(b"GET /parts HTTP/1.1\r\nHost: x\r\n\r\nbroken\r\n\r\n")
        talk.transport.room = None
        talk.transport.take()
        parts, refused = parse_answers(talk.transport.value())
        assert (parts.body, refused.status) == (b"one, two", 400)
        assert talk.transport.half_closed

    @pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"], ids=["kept", "last"])
    def test_a_client_that_pauses_is_waited_for(self, talk, echo, close):
        """A video player for one: it goes on hours later, and little of the rest waits for it.

        More requests change nothing, and are not read.
        """
        talk.transport.room = 1000
        talk.send(b"GET /film HTTP/1.1\r\nHost: x\r\n%s\r\n" % close)
        for _ in range(3):
            talk.wait(3600)
            talk.send(b"GET /film HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        assert talk.transport.connected
        assert talk.transport.producerState == "paused"
        assert len(echo.seen) <= 2
        while talk.transport.waiting and len(echo.seen) < FILM:
            talk.transport.take()
            talk.wait(1000)
        talk.transport.take()
        film = parse_answers(talk.transport.value())[0]
        assert film.body == bytes(1000) * FILM

    def test_where_few_can_be_served_it_is_given_up(self, talk):
        """More requests do not put that off."""
        talk.site.is_patient = False
        talk.transport.room = 1000
        talk.send(post(b"/echo", bytes(2000)))
        for _ in range(int(STALL_SECONDS)):
            talk.wait(1)
            assert talk.transport.connected
            talk.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        talk.wait(2)
        assert talk.transport.aborted


class TestPatience:
    def test_an_idle_connection_is_closed(self, talk):
        """Between requests a client may be silent, for longer than proxies keep connections."""
        assert IDLE_SECONDS > 60
        talk.send(post(body=b"x"))
        talk.wait(IDLE_SECONDS - 2)
        assert talk.transport.connected
        talk.wait(4)
        assert not talk.transport.connected

    def test_how_long_it_may_be_idle_can_be_set(self, talk):
        """For proxies that keep theirs for longer."""
        talk.site.idle_seconds = 2 * IDLE_SECONDS
        talk.send(post(body=b"x"))
        talk.wait(2 * IDLE_SECONDS - 2)
        assert talk.transport.connected
        talk.wait(4)
        assert not talk.transport.connected

    def test_headers_have_to_come_in_time(self, talk):
        """A byte now and then does not put the end off."""
        answered = talk.send(b"GET / HTTP/1.1\r\n")
        for _ in range(int(HEAD_SECONDS) + 2):
            talk.wait(1)
            answered += talk.send(b"X")
        (answer,) = parse_answers(talk.transport.value())
        assert answer.status == 408
        assert talk.closed

    def test_a_body_that_stalls_is_given_up(self, talk, echo):
        """The route learns that it came too slowly."""
        talk.send(post(b"/echo", b"").replace(b"Length: 0", b"Length: 10") + b"abc")
        talk.wait(32)
        assert [type(error) for error in echo.errors] == [TooSlow]
        assert talk.closed

    def test_a_route_may_take_its_time(self, talk, echo):
        """Only the client is in a hurry."""
        talk.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        talk.wait(1000)
        echo.gate.callback(None)
        assert b"at last" in talk.transport.value()


class TestPersistence:
    def test_connection_close_is_obeyed(self, talk):
        """The answer says so too."""
        (answer,) = talk.answers(post(b"/echo", b"x", b"Connection: close"))
        assert answer.headers[b"connection"] == b"close"
        assert talk.closed

    def test_http_1_0_is_closed_unless_asked_otherwise(self, echo):
        """keep-alive has to be asked for, and is confirmed."""
        talk = Conversation(handler(echo.app))
        talk.send(b"POST /echo HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        assert talk.closed
        talk = Conversation(handler(echo.app))
        (answer,) = talk.answers(
            b"POST /echo HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx"
        )
        assert answer.headers[b"connection"] == b"keep-alive"
        assert not talk.closed

    def test_an_offer_to_upgrade_is_passed_over(self, talk):
        """The request is answered as it stands, and so is the next."""
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        get = b"GET /echo HTTP/1.1\r\nHost: x\r\n"
        answers = talk.answers(get + upgrade + b"\r\n" + get + upgrade + b"\r\n")
        assert [answer.status for answer in answers] == [200, 200]

    @pytest.mark.parametrize(
        ("framing", "body"),
        [
            (b"Content-Length: 4", b"body"),
            (b"Transfer-Encoding: chunked", b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"),
        ],
    )
    def test_an_offer_to_upgrade_may_come_with_a_body(self, echo, framing, body):
        """It is the body of an ordinary request, however it is cut; Java's client sends such."""
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        stream = b"POST /echo HTTP/1.1\r\nHost: x\r\n" + offer + framing + b"\r\n\r\n" + body
        for cut in range(1, len(stream)):
            talk = Conversation(handler(echo.app))
            sent = talk.send(stream[:cut]) + talk.send(stream[cut:] + stream + post(body=b"x"))
            bodies = [answer.body for answer in parse_answers(sent)]
            assert bodies == [b"body", b"body", b"x"]

    @pytest.mark.parametrize("target", [b"http://x/echo", b"http://x:80/echo?a=b", b"/echo?c=d"])
    def test_an_absolute_target_is_its_path(self, talk, target):
        """RFC 9112, 3.2.2: a server accepts the absolute form."""
        (answer,) = talk.answers(post(target, b"x"))
        assert (answer.status, answer.body) == (200, b"x")

    def test_empty_lines_before_a_request_are_passed_over(self, talk):
        """RFC 9112, 2.2: some clients send one too many."""
        (answer,) = talk.answers(b"\r\n\r\n" + post(body=b"x"))
        assert answer.body == b"x"


def test_the_same_mistake_on_many_connections_is_logged_once():
    """Each of them is broken; the log does not grow with them."""

    def broken(request):
        raise ValueError("a mistake")

    talk = Conversation(broken)
    with capturedLogs() as logged:
        for _ in range(20):
            channel, transport = talk.site.buildProtocol(None), Transport()
            transport.protocol = channel
            channel.makeConnection(transport)
            channel.dataReceived(request("GET", "/"))
            assert transport.aborted
    assert len(logged) == 1
