"""Shared caches over real servers: memcached and Redis, well and in trouble."""

from __future__ import annotations

import random
import signal

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from sos.model.cache_address import cache_address
from sos.stores.cache import shared
from sos.tap.caches import shared_cache
from tests.support.caches import KINDS, SERVERS, CacheServer


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A server that is well may be slow here: these tests are not about the deadline."""
    monkeypatch.setattr(shared, "DEADLINE_SECONDS", 5.0)
    monkeypatch.setattr(shared, "CONNECT_SECONDS", 5.0)


@pytest.fixture
def logged():
    """What is logged meanwhile, as text."""
    events = []
    globalLogPublisher.addObserver(events.append)
    yield lambda: "\n".join(map(repr, events))
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture(params=SERVERS)
def server(request, tmp_path):
    server = CacheServer(tmp_path, request.param)
    yield server
    server.kill()


@async_yield_fixture
async def caches(reactor):
    """Makes caches, and stops them."""
    made = []

    def make(url):
        made.append(shared_cache(cache_address(url), reactor))
        return made[-1]

    yield make
    for each in made:
        each.stop()
    await deferLater(reactor, 0)


async def eventually(reactor, ask, expected):
    """Ask until the answer is *expected*: a cache may rest for a while."""
    while await ask() != expected:
        await deferLater(reactor, 0.02)


@ensureDeferred
async def test_what_is_set_is_there_for_others(server, caches, reactor):
    """What is not is None; any bytes are kept as they are."""
    one, other = caches(server.url), caches(server.url)
    assert await one.get(b"nothing") is None
    for value in (b"http://a:1", b"", b"\r\nEND\r\n$-1\r\n\xff\x00", b"12", b"x" * 2000):
        one.set(b"key", value)
        await eventually(reactor, lambda: other.get(b"key"), value)


@ensureDeferred
async def test_many_questions_at_once_have_their_own_answers(server, caches, reactor):
    """However many, and in whatever order they come."""
    cache = caches(server.url)
    await cache.get(b"connects")
    keys = [b"%d" % number for number in range(30)]
    for key in keys:
        cache.set(key, b"value of " + key)
    for _ in range(20):
        asked = [(key, cache.get(key)) for key in keys]
        for key, answer in asked:
            assert await answer == b"value of " + key


@ensureDeferred
async def test_killed_and_started_again(server, caches, reactor, monkeypatch):
    """It has forgotten, and is asked and told again."""
    cache = caches(server.url)
    assert await cache.get(b"key") is None
    cache.set(b"key", b"value")
    await eventually(reactor, lambda: cache.get(b"key"), b"value")
    server.kill()
    for _ in range(100):
        assert await cache.get(b"key") is None
    server.start()

    async def told_again():
        cache.set(b"key", b"another")
        return await cache.get(b"key")

    await eventually(reactor, told_again, b"another")


@ensureDeferred
async def test_frozen_and_thawed(server, caches, reactor, monkeypatch):
    """Each question ends, with no answer."""
    monkeypatch.setattr(shared, "DEADLINE_SECONDS", 0.3)
    cache = caches(server.url)
    await cache.get(b"key")
    server.signal(signal.SIGSTOP)
    for _ in range(100):
        assert await cache.get(b"key") is None
    server.signal(signal.SIGCONT)

    async def told_again():
        cache.set(b"key", b"value")
        return await cache.get(b"key")

    await eventually(reactor, told_again, b"value")


class TestRedis:
    """What Redis has and memcached has not."""

    @ensureDeferred
    async def test_a_password(self, tmp_path, caches, reactor, logged):
        """The right one opens, a wrong one and none do not, and the log has neither."""
        server = CacheServer(tmp_path, "redis", password="open-sesame")
        try:
            right = caches(server.url)
            wrong = caches(server.url.replace("open-sesame", "close-sesame"))
            without = caches(server.url.replace(":open-sesame@", ""))
            for cache in (right, wrong, without):
                cache.set(b"key", b"value")
            await eventually(reactor, lambda: right.get(b"key"), b"value")
            assert await wrong.get(b"key") is None
            assert await without.get(b"key") is None
            assert "it rejects the password" in logged()
            assert "or needs a password" in logged()
            assert "sesame" not in logged()
        finally:
            server.kill()

    @ensureDeferred
    async def test_databases_and_the_socket(self, tmp_path, caches, reactor):
        """What is in one database is not in another, and the socket leads to the first."""
        server = CacheServer(tmp_path, "redis")
        try:
            first, second = caches(server.url), caches(f"{server.url}/1")
            none = caches(f"{server.url}/999")
            by_socket = caches(f"redis://{server.socket}")
            await first.get(b"connects")
            first.set(b"key", b"value")
            await eventually(reactor, lambda: by_socket.get(b"key"), b"value")
            assert await second.get(b"key") is None
            assert await none.get(b"key") is None
        finally:
            server.kill()


class Junk(Protocol):
    """Answers every request with what the test gives it."""

    def connectionMade(self):
        self.factory.connections.append(self)

    def dataReceived(self, data):
        self.transport.write(self.factory.answer(data))

    def connectionLost(self, reason):
        if not self.factory.lost.called:
            self.factory.lost.callback(None)


@async_yield_fixture
async def junk(reactor):
    """A server whose answers the test determines."""
    factory = Factory.forProtocol(Junk)
    factory.noisy = False
    factory.connections = []
    factory.lost = Deferred()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    factory.address = f"127.0.0.1:{port.getHost().port}"
    yield factory
    await port.stopListening()
    for each in factory.connections:
        each.transport.abortConnection()
    await deferLater(reactor, 0)


JUNK = [
    b"",
    b"\r\n",
    b"junk\r\n",
    b"\xff\xfe\r\n\x00",
    b"END\r\nEND\r\n",
    b"VALUE x\r\n",
    b"VALUE other 0 3\r\nabc\r\nEND\r\n",
    b"VALUE key 0 -1\r\n",
    b"VALUE key 0 99999999999\r\n" + b"x" * 100_000,
    b"ERROR\r\n",
    b"SERVER_ERROR out of memory\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"+OK\r\n+OK\r\n+OK\r\n",
    b"+OK\r\n" * 100_000,
    b":1\r\n",
    b"$x\r\n",
    b"$99999999999\r\n" + b"x" * 100_000,
    b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
    b"*" * 100_000,
    b"*99999999\r\n" * 1000,
    b"-ERR no\r\n",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", JUNK, ids=lambda answer: repr(answer[:12]))
@ensureDeferred
async def test_junk_is_no_value(kind, answer, junk, caches, monkeypatch, logged):
    """Nor does it take long, or fail."""
    monkeypatch.setattr(shared, "DEADLINE_SECONDS", 0.1)
    monkeypatch.setattr(shared, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(shared, "backoff_seconds", lambda failures: 0.0)
    junk.answer = lambda data: b"+OK\r\n" if b"SELECT" in data else answer
    cache = caches(f"{kind}://{junk.address}")
    for _ in range(3):
        assert await cache.get(b"key") is None
        cache.set(b"key", b"value")
        assert await cache.get(b"key") is None
    assert "log_failure" not in logged()


@pytest.mark.parametrize(
    ("kind", "start"),
    [("memcached", b"VALUE key 0 99999999999\r\n"), ("redis", b"$99999999999\r\n")],
)
@ensureDeferred
async def test_an_answer_without_end_is_not_kept(kind, start, junk, caches, monkeypatch):
    """The connection is ended as soon as it is too long: nobody waits for the deadline."""
    monkeypatch.setattr(shared, "DEADLINE_SECONDS", 3600.0)
    monkeypatch.setattr(shared, "CONNECT_SECONDS", 3600.0)
    junk.answer = lambda data: b"+OK\r\n" if b"SELECT" in data else start + b"x" * 100_000
    assert await caches(f"{kind}://{junk.address}").get(b"key") is None


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("memcached", b"VALUE key 0 1\r\nx\r\nEND\r\n"), ("redis", b"$1\r\nx\r\n")],
)
@ensureDeferred
async def test_an_answer_to_no_question_ends_the_connection(kind, answer, junk, caches):
    """It would be taken for the answer to the next."""
    junk.answer = lambda data: b"+OK\r\n" if b"SELECT" in data else answer + answer
    await caches(f"{kind}://{junk.address}").get(b"key")
    await junk.lost


@pytest.mark.parametrize("kind", KINDS)
@ensureDeferred
async def test_junk_of_any_kind(kind, junk, caches, monkeypatch):
    """What is right in part, and wrong in others, never fails either."""
    monkeypatch.setattr(shared, "DEADLINE_SECONDS", 0.05)
    monkeypatch.setattr(shared, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(shared, "backoff_seconds", lambda failures: 0.0)
    words = [
        *JUNK[1:8],
        b"VALUE key 0 1\r\nx\r\nEND\r\n",
        b"STORED\r\n",
        b"$1\r\nx\r\n",
        b"+OK\r\n",
    ]
    chance = random.Random(1)
    junk.answer = lambda data: b"".join(chance.choices(words, k=chance.randrange(1, 4)))
    cache = caches(f"{kind}://{junk.address}")
    for number in range(60):
        assert await cache.get(b"key") in (None, b"x")
        if number % 3 == 0:
            cache.set(b"key", b"value")


@pytest.mark.parametrize("refused", [b"AUTH", b"SELECT", b"GET"])
@ensureDeferred
async def test_an_echo_of_the_password_is_not_logged(refused, junk, caches, logged):
    """Some servers quote what they do not understand."""
    junk.answer = lambda data: b"-ERR you said hush\r\n" if refused in data else b"+OK\r\n"
    assert await caches(f"redis://:hush@{junk.address}").get(b"key") is None
    assert "circuit breaker opened" in logged()
    assert "hush" not in logged()
