"""What ``sos get`` does with a server, which is in the test's own process."""

from __future__ import annotations

import re
from contextlib import aclosing, asynccontextmanager
from hashlib import sha256

import pytest
from attrs import evolve
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import deferLater

from sos.aio.timeouts import Deadlines
from sos.cli.downloads import PART_SIZE, WAITS, Downloader
from sos.errors import Mismatch, NotFound, Unavailable
from sos.http.client.agent import Agent
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.web.public_api import DownloadServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, put
from tests.support.servers import serving

PARTS = 5
LARGE = body_of((PARTS - 1) * PART_SIZE + 100_000)
ID = content_id(LARGE)
SOME = 1024 * 1024  # bytes of a part that come before anything happens to it


class Hurried:
    """The reactor as a clock, which does not wait before something is tried again."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.waits = []

    def seconds(self):
        return self.reactor.seconds()

    def callLater(self, seconds, function, *arguments):
        if seconds in WAITS and not isinstance(function.__self__, Deadlines):
            self.waits.append(seconds)
            seconds = 0
        return self.reactor.callLater(seconds, function, *arguments)


class Troubled(MemoryStore):
    """A store whose parts break off, are held up, or are other bytes than they were.

    :ivar breaks: how often parts are to break off, by their numbers.
    :ivar wrong: where a part begins whose last byte is another.
    :ivar under_way: how many parts are being read.
    :ivar held: while it is a list, parts wait for the Deferreds that it puts there.
    """

    def __init__(self):
        super().__init__()
        self.breaks = {}
        self.wrong = None
        self.held = None
        self.under_way = 0

    async def read(self, id, span=None):
        blob = await super().read(id, span)
        if span is None or isinstance(blob.body, bytes):
            return blob
        return evolve(blob, body=self._troubled(blob.body, span))

    async def _troubled(self, pieces, span):
        self.under_way += 1
        try:
            async for piece in self._part(pieces, span):
                yield piece
        finally:
            self.under_way -= 1

    async def _part(self, pieces, span):
        part = b"".join([piece async for piece in pieces])
        if self.wrong == span[0]:
            part = part[:-1] + b"!"
        yield part[:SOME]
        number = span[0] // PART_SIZE
        if self.breaks.get(number, 0):
            self.breaks[number] -= 1
            raise Unavailable("broke off")
        if self.held is not None:
            waiting = Deferred()
            self.held.append(waiting)
            await waiting
        if part[SOME:]:
            yield part[SOME:]


class Api:
    """An API server, and what parts it was asked for."""

    def __init__(self, reactor, store, exchange):
        self.reactor, self.store, self.exchange = reactor, store, exchange
        self.asked = []
        self.came = 0

    def downloader(self, parallel=4):
        return Downloader(self.exchange, self.reactor, parallel)

    async def get(self, id, parallel=4):
        """Return the size that is told, the pieces that come, and what ends them."""
        pieces = []
        size, body = await self.downloader(parallel).open(id, self.count)
        if isinstance(body, bytes):
            return size, [body], None
        try:
            async with aclosing(body):
                async for piece in body:
                    pieces.append(piece)
        except Exception as error:
            return size, pieces, error
        return size, pieces, None

    def count(self, size):
        self.came += size


@asynccontextmanager
async def api_of(reactor, store, answer):
    agent = Agent(reactor)
    api = Api(reactor, store, None)

    def handle(request):
        asked = request.getHeader(b"range")
        found = re.fullmatch(rb"bytes=(\d+)-(\d+)", asked or b"")
        api.asked.append(tuple(map(int, found.groups())) if found else asked)
        answer(request)

    async with serving(handle, reactor, agent) as face:
        api.exchange = Exchange(face.name, agent, Hurried(reactor))
        yield api


@async_yield_fixture
async def api(reactor):
    """A server of ours, which has LARGE."""
    store = Troubled()
    await put(store, LARGE)
    async with api_of(reactor, store, handler(DownloadServer(store).app)) as api:
        yield api


@pytest.mark.parametrize("size", [0, 1, PART_SIZE - 1, PART_SIZE, PART_SIZE + 1, 3 * PART_SIZE])
@ensureDeferred
async def test_an_object_of_any_size(api, size):
    """One request for each part, all in order; an empty one has none, and takes one more."""
    body = body_of(size)
    for id in (content_id(body), sha256(body).hexdigest()):
        await put(api.store, body, id)
        api.asked.clear()
        api.came = 0
        length, pieces, error = await api.get(id)
        assert (length, b"".join(pieces), error) == (size, body, None)
        assert api.came == size
        assert len(api.asked) == (-(-size // PART_SIZE) or 2)
        assert api.asked[0] == (0, PART_SIZE - 1)


@pytest.mark.parametrize("parallel", [1, 2, 4, 100])
@ensureDeferred
async def test_several_parts_are_on_their_way_at_once(api, reactor, parallel):
    """So many as was said, and whichever comes first: the reader gets them in order."""
    api.store.held = held = []
    getting = deferred(api.get(ID, parallel))
    released = 0
    while released < PARTS:
        expected = min(parallel, PARTS - released)
        await until(reactor, lambda expected=expected: len(held) == expected)
        released += len(held)
        while held:
            held.pop().callback(None)
        for _ in range(20):
            await deferLater(reactor, 0)
            assert len(held) <= parallel
    _, pieces, error = await getting
    assert error is None
    assert pieces == [LARGE[at : at + PART_SIZE] for at in range(0, len(LARGE), PART_SIZE)]
    assert sorted(first for first, _ in api.asked) == list(range(0, len(LARGE), PART_SIZE))


@ensureDeferred
async def test_a_reader_that_takes_nothing_holds_the_rest_up(api, reactor):
    """Nothing is fetched that there is no room for."""
    _, body = await api.downloader(2).open(ID, api.count)
    async with aclosing(body):
        await anext(aiter(body))
        await until(reactor, lambda: api.came == 3 * PART_SIZE)
        for _ in range(20):
            await deferLater(reactor, 0)
        assert len(api.asked) == 3
    assert api.came == 3 * PART_SIZE


@pytest.mark.parametrize("number", [0, 1, PARTS - 2])
@ensureDeferred
async def test_a_part_that_breaks_off_goes_on_where_it_did(api, number):
    """After a while, and nothing else is fetched again."""
    start, stop = number * PART_SIZE, (number + 1) * PART_SIZE
    api.store.breaks = {number: 3}
    _, pieces, error = await api.get(ID)
    assert error is None
    assert b"".join(pieces) == LARGE
    assert api.came == len(LARGE)
    of_the_part = [first for first, last in api.asked if last == stop - 1]
    assert of_the_part == sorted(set(of_the_part))
    assert (len(of_the_part), of_the_part[0], len(api.asked)) == (4, start, PARTS + 3)
    assert api.exchange.clock.waits == list(WAITS[:3])


@pytest.mark.parametrize("number", [0, 2])
@ensureDeferred
async def test_a_part_that_cannot_be_had_is_given_up(api, number):
    """After so many attempts; what came before it is passed on, and nothing behind it."""
    api.store.breaks = {number: len(WAITS) + 1}
    _, pieces, error = await api.get(ID)
    assert isinstance(error, Unavailable)
    assert b"".join(pieces) == LARGE[: number * PART_SIZE]
    assert api.exchange.clock.waits == list(WAITS)


@pytest.mark.parametrize("number", [0, 3])
@ensureDeferred
async def test_wrong_bytes_are_found_before_the_end(api, number):
    """The last part does not come when all do not hash to the id."""
    api.store.wrong = number * PART_SIZE
    _, pieces, error = await api.get(ID)
    assert isinstance(error, Mismatch)
    assert len(b"".join(pieces)) == (PARTS - 1) * PART_SIZE
    api.store.wrong = None
    small = body_of(100_000)
    id = (await put(api.store, small)).id
    api.store.wrong = 0
    _, pieces, error = await api.get(id)
    assert isinstance(error, Mismatch)
    assert pieces == []


@pytest.mark.parametrize("size", [0, 10, 3 * PART_SIZE])
@ensureDeferred
async def test_an_opaque_name_is_fetched_in_one_piece(api, size):
    """Parts of it could be of different bytes, and nobody would know."""
    await put(api.store, body_of(size), "name")
    length, pieces, error = await api.get("name")
    assert (length, b"".join(pieces), error) == (size, body_of(size), None)
    assert api.asked == [None]


@ensureDeferred
async def test_what_is_not_there(api):
    """It takes one question."""
    for id in ("0" * 40, "name"):
        with pytest.raises(NotFound):
            await api.get(id)
    assert len(api.asked) == 2


@ensureDeferred
async def test_what_is_given_up_leaves_nothing_under_way(api, reactor):
    """By who closes it before it is read."""
    _, body = await api.downloader(3).open(ID, api.count)
    api.store.held = held = []
    await until(reactor, lambda: len(held) >= 2)
    await body.aclose()
    await until(reactor, lambda: api.store.under_way == 0)
    assert len(api.asked) == 3


@ensureDeferred
async def test_who_is_cancelled_leaves_nothing_under_way(api, reactor):
    """Neither the part that is waited for nor the others."""
    api.store.held = held = []
    getting = deferred(api.get(ID))
    await until(reactor, lambda: len(held) == 4)
    getting.cancel()
    _, pieces, error = await getting
    assert isinstance(error, CancelledError)
    assert pieces == []
    await until(reactor, lambda: api.store.under_way == 0)


class OfTheOriginal:
    """Sends the whole, whatever part is asked for.

    :param size_sent: whether it says how long that is.
    :param parts: answers that it gives like a server of ours, before it is itself.
    """

    def __init__(self, body, size_sent=True, parts=()):
        self.body, self.size_sent, self.parts = body, size_sent, list(parts)

    def __call__(self, request):
        part = self.parts.pop(0) if self.parts else None
        body = self.body
        if part is not None:
            content_range, body = part
            request.setResponseCode(206)
            request.setHeader(b"Content-Range", content_range)
        if self.size_sent:
            request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()


async def got(reactor, id, answer, parallel=4):
    async with api_of(reactor, None, answer) as api:
        return (*await api.get(id, parallel), len(api.asked))


@pytest.mark.parametrize("size_sent", [True, False])
@pytest.mark.parametrize("size", [0, 10, PART_SIZE, 2 * PART_SIZE + 1])
@ensureDeferred
async def test_a_server_that_knows_no_parts(reactor, size, size_sent):
    """The whole that it sends is taken, and checked."""
    body = body_of(size)
    answer = OfTheOriginal(body, size_sent)
    size_told, pieces, error, asked = await got(reactor, content_id(body), answer)
    assert (b"".join(pieces), error, asked) == (body, None, 1)
    assert size_told == (size if size_sent else None)
    _, pieces, error, _ = await got(reactor, content_id(body + b"!"), answer)
    assert isinstance(error, Mismatch)
    assert b"".join(pieces) != body or not body


@ensureDeferred
async def test_a_server_that_knows_parts_only_now_and_then(reactor):
    """Of a whole that comes in the place of a part, that is taken."""
    body = body_of(2 * PART_SIZE + 10)
    first = b"bytes 0-%d/%d" % (PART_SIZE - 1, len(body)), body[:PART_SIZE]
    answer = OfTheOriginal(body, parts=[first])
    _, pieces, error, asked = await got(reactor, content_id(body), answer)
    assert (b"".join(pieces), error, asked) == (body, None, 3)


@pytest.mark.parametrize(
    "content_range",
    [
        b"",
        b"bytes 0-9/*",
        b"bytes 1-10/11",
        b"bytes 0-8/10",
        b"bytes 0-10/10",
        b"bytes 0-9/" + b"9" * 19,
        b"lines 0-9/10",
    ],
)
@ensureDeferred
async def test_another_part_than_was_asked_for(reactor, content_range):
    """It is that server's failure."""
    answer = OfTheOriginal(b"", parts=[(content_range, b"0123456789")])
    with pytest.raises(Unavailable, match="another range"):
        await got(reactor, ID, answer)


@pytest.mark.parametrize("sent", [b"012345678", b"0123456789!"])
@ensureDeferred
async def test_a_part_that_is_not_as_long_as_it_says(reactor, sent):
    """What is more is not taken; what is less is not passed on."""
    parts = [(b"bytes 0-9/10", sent)] * (len(WAITS) + 1)
    _, pieces, error, _ = await got(
        reactor, content_id(b"0123456789"), OfTheOriginal(b"", parts=parts)
    )
    if len(sent) > 10:
        assert (pieces, error) == ([b"0123456789"], None)
    else:
        assert (pieces, type(error)) == ([], Unavailable)


@ensureDeferred
async def test_an_object_that_is_of_another_size_later(reactor):
    """There are two of that name, and neither is taken."""
    body = body_of(PART_SIZE + 10)
    parts = [(b"bytes 0-%d/%d" % (PART_SIZE - 1, len(body)), body[:PART_SIZE])]
    tail = b"bytes %d-%d/%d" % (PART_SIZE, PART_SIZE + 9, len(body) + 1)
    parts += [(tail, body[PART_SIZE:])] * (len(WAITS) + 1)
    answer = OfTheOriginal(b"", parts=parts)
    _, pieces, error, _ = await got(reactor, content_id(body), answer, parallel=2)
    assert isinstance(error, Unavailable)
    assert pieces == [body[:PART_SIZE]]


async def until(reactor, condition):
    while not condition():
        await deferLater(reactor, 0)
