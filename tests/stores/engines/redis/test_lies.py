"""What a Redis answers is checked: one that lies is unavailable, and is not believed."""

from __future__ import annotations

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.protocol import Factory, Protocol

from sos.errors import SOSError, StoreUnusable, Unavailable
from sos.stores.engines.redis import make
from tests.support.blobs import put

IDENTITY = b"12345678-1234-1234-1234-123456789abc"


def bulk(text):
    return b"$%d\r\n%s\r\n" % (len(text), text)


def array(*texts):
    return b"*%d\r\n%s" % (len(texts), b"".join(map(bulk, texts)))


class Liar(Protocol):
    """Answers like the Redis of an empty store, but where the factory has another answer."""

    def connectionMade(self):
        self._received = b""

    def dataReceived(self, data):
        self._received += data
        while (command := self._command()) is not None:
            self.transport.write(self._answer(command))

    def _command(self):
        lines = self._received.split(b"\r\n")
        if not lines[0].startswith(b"*") or len(lines) < 2 * int(lines[0][1:]) + 2:
            return None
        count = 2 * int(lines[0][1:]) + 1
        self._received = b"\r\n".join(lines[count:])
        return lines[2:count:2]

    def _answer(self, command):
        name = command[0].decode().upper()
        if name in self.factory.lies:
            return self.factory.lies[name]
        match name:
            case "SELECT":
                return b"+OK\r\n"
            case "INFO":
                return bulk(b"maxmemory_policy:noeviction\r")
            case "GET":
                return bulk(b"sos redis 1" if command[1].endswith(b":format") else IDENTITY)
            case "HMGET":
                return b"*4\r\n" + 4 * b"$-1\r\n"
            case _:
                return b"$-1\r\n"


@async_yield_fixture
async def liar(reactor):
    """Makes the store in a Redis that tells the truth until it is opened, and then *lies*."""
    factory = Factory.forProtocol(Liar)
    factory.noisy = False
    factory.lies = {}
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    url = f"redis://127.0.0.1:{port.getHost().port}?durability=relaxed"
    store = make(url, "sha1", reactor)

    async def lying(**lies):
        await store.open()
        factory.lies = lies
        return store

    yield lying
    await store.close()
    await port.stopListening()


WRONG = [
    b":5\r\n",
    b"$-1\r\n",
    b"+x\r\n",
    b"*-1\r\n",
    b"*1\r\n:1\r\n",
    b"*3\r\n:1\r\n:2\r\n:3\r\n",
    b"*2\r\n*1\r\n*1\r\n:1\r\n",
    b"*3\r\n-ERR a\r\n-ERR b\r\n:1\r\n",
    b":x\r\n",
    b"$x\r\n",
    b"*x\r\n",
    b"$1099511627776\r\nabc",
    bulk(b"\xff\x1b[31m"),
    array(b"\xff\x1b[31m", b"\n"),
    array(b"abc../../x", b"x"),
    array(b"abcx", b"x"),
]
ASKED = {
    "HMGET": lambda store: store.stat("a"),
    "HGETALL": lambda store: store.digests(),
    "ZRANGEBYLEX": lambda store: store.listing(),
    "EVALSHA": lambda store: store.blob_digests("abc"),
    "INFO": lambda store: store.status(),
}


# A hash can have other fields than those that are known.
LIES = [(a, w) for a in ASKED for w in (WRONG[:13] if a == "HGETALL" else WRONG)]


@pytest.mark.parametrize(("asked", "wrong"), LIES, ids=repr)
@ensureDeferred
async def test_an_answer_of_another_form_is_none(liar, asked, wrong):
    """It is that Redis which is unavailable, at once, and nothing of what it says is told."""
    store = await liar(**{asked: wrong})
    with pytest.raises(Unavailable) as caught:
        await ASKED[asked](store)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("ask", ["put", "settle", "drop", "lease"])
@pytest.mark.parametrize("wrong", [*WRONG, bulk(b"held")], ids=repr)
@ensureDeferred
async def test_a_change_without_an_answer_to_it_is_not_tried_for_ever(liar, ask, wrong):
    """Neither what is no answer, nor always the same: that something else is there than was."""
    store = await liar(EVALSHA=wrong)
    asked = {
        "put": lambda: put(store, b"x"),
        "settle": lambda: store.reconcile("a", {}),
        "drop": lambda: store.drop("a", "0" * 32),
        "lease": lambda: store.lease(10),
    }
    if ask == "settle":
        store = await liar(HMGET=wrong)
    with pytest.raises(SOSError) as caught:
        await asked[ask]()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "digests",
    [
        (b"abc:count", b"-5", b"abc:bytes", b"1", b"abc:sum", b"x"),
        (b"abc:count", b"9" * 5000, b"abc:bytes", b"1", b"abc:sum", b"x"),
        (b"abc:count", b"1", b"abc:bytes", b"1", b"abc:sum", b"x" * 17),
        (b"abc:count", b"1"),
        (b"zzz:count", b"1", b"zzz:bytes", b"1", b"zzz:sum", b"x"),
    ],
)
@ensureDeferred
async def test_digests_that_are_none(liar, digests):
    """Numbers that can be none, and partitions that there are not."""
    store = await liar(HGETALL=array(*digests))
    with pytest.raises(Unavailable, match="sent invalid digests"):
        await store.digests()


@ensureDeferred
async def test_a_listing_without_end(liar):
    """Whoever lists the same for ever is found out by its second page."""
    page = b"*10000\r\n" + 10_000 * bulk(b"86fa")
    store = await liar(ZRANGEBYLEX=page)
    with pytest.raises(Unavailable, match="out of order"):
        await store.listing()


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("GET", b":5\r\n"),
        ("GET", b"*1\r\n$1\r\nx\r\n"),
        ("INFO", b":5\r\n"),
        ("INFO", bulk(b"maxmemory_policy:\x1b[2J")),
    ],
)
@ensureDeferred
async def test_who_lies_from_the_beginning_is_not_opened(liar, asked, answer):
    """With an error that a terminal can show."""
    opened = await liar(**{asked: answer})
    again = make(opened.name, "sha1", opened._reactor)
    with pytest.raises((Unavailable, StoreUnusable)) as caught:
        await again.open()
    assert str(caught.value).isprintable()
    await again.close()
