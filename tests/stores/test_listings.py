"""What other servers list: as much as there is, a bit at a time, and never without end."""

from __future__ import annotations

import json
from hashlib import sha1

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred

from sos.aio.threads import threads_of
from sos.errors import Unavailable
from sos.http.client.agent import Agent
from sos.model import ids
from sos.model.digest import BlobDigest
from sos.stores.remote import store as remote_store
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from tests.support.servers import serving

# Bytes of JSON that may be parsed at once: what is read at once, and buffered meanwhile.
_MOST_AT_ONCE = 1024 * 1024


class Sending:
    """Answers with *pieces*, each when the one before it has been taken.

    :ivar sent: bytes that have been sent.
    """

    def __init__(self, pieces):
        self.pieces = pieces
        self.sent = 0

    def __call__(self, request):
        request.work = Deferred.fromCoroutine(self.answer(request))
        request.work.addErrback(lambda failure: None)

    async def answer(self, request):
        for piece in self.pieces:
            request.write(piece)
            self.sent += len(piece)
            await request.drained()
        request.finish()


class Watched(Exchange):
    """Notes how much it parses at once."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.parsed_bytes = []

    def _parsed(self, text):
        self.parsed_bytes.append(len(text))
        return super()._parsed(text)


async def answered(reactor, ask, *pieces):
    """Ask a server that answers with *pieces*; return the outcome, and what was parsed."""
    async with serving(Sending(pieces), reactor) as store:
        watched = Watched(store.name, Agent(reactor), reactor)
        found = await ask(RemoteStore(watched, threads_of(reactor)))
        return found, watched.parsed_bytes


def in_pieces(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


def names(count):
    """Return ids of both kinds, in the order of listings."""
    found = [sha1(b"%d" % n).hexdigest() if n % 3 else f"name{n}" for n in range(count)]
    return sorted(found, key=ids.sort_key)


def digests_of(count):
    """Return what a server tells of so many blobs of one partition, and what it means."""
    rows = {
        f"abc{n:037x}": [n, "0" + f"{n:064x}", f"{n:040x}"[: 40 * (n % 2)]] for n in range(count)
    }
    return rows, {id: BlobDigest(*each) for id, each in rows.items()}


@pytest.mark.parametrize("size", [7, 4096, 100_000, 10_000_000])
@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
@ensureDeferred
async def test_a_listing_is_whole_however_it_comes(reactor, size, spaces):
    """As programs write JSON, and cut anywhere."""
    count = 100 if size == 7 else 50_000
    listed = names(count)
    text = json.dumps(listed[::-1], separators=spaces).encode()
    found, parsed = await answered(reactor, lambda store: store.listing(), *in_pieces(text, size))
    assert found == listed
    assert max(parsed) < _MOST_AT_ONCE
    rows, meant = digests_of(count)
    text = json.dumps(rows, separators=spaces).encode()
    ask = lambda store: store.blob_digests("abc")  # noqa: E731
    found, parsed = await answered(reactor, ask, *in_pieces(text, size))
    assert found == meant
    assert max(parsed) < _MOST_AT_ONCE


@ensureDeferred
async def test_a_page_of_a_server_that_lists_everything(reactor):
    """The first of what is asked for, wherever it stands."""
    listed = names(20_000)
    text = json.dumps(listed[::-1]).encode()
    for after in (None, listed[100], listed[-2], listed[-1]):
        start = 0 if after is None else listed.index(after) + 1
        ask = lambda store, after=after: store.listing(after, 50)  # noqa: E731
        found, _ = await answered(reactor, ask, *in_pieces(text, 5000))
        assert found == listed[start : start + 50]


@pytest.mark.parametrize(
    "text",
    [
        b'["a",]',
        b'["a",',
        b'["a"',
        b'["a",["b"]]',
        b'["a",1,"b"]',
        b'["a"]["b"]',
        b'["a","b"],["c"]',
        b'["a","b"}',
        b'{"a":"b","c":"d"}',
        b'"a,b"',
        b'["a,b"]',
        b"[,]",
        b",",
        b"1,2",
        b"[NaN,1]",
    ],
)
@pytest.mark.parametrize("size", [1, 100])
@ensureDeferred
async def test_a_listing_that_is_none_in_some_part(reactor, text, size):
    """What was cut short never is a whole."""
    with pytest.raises(Unavailable):
        await answered(reactor, lambda store: store.listing(), *in_pieces(text, size))


@pytest.mark.parametrize(
    "text",
    [
        b'{"abc":[1,"0"],}',
        b'{"abc0":[1,"0%(v)s"],',
        b'{"abc0":[1,"0%(v)s"]',
        b'{"abc0":[1,"0%(v)s"],"abc1":1}',
        b'{"abc0":[1,"0%(v)s"],"abc1":[1,"0%(v)s"]]',
        b'[[1,"0%(v)s"],[1,"0%(v)s"]]',
        b'{"abc0":{"a":[1]},"abc1":[1,"0%(v)s"]}',
        b"{},{}",
    ],
)
@ensureDeferred
async def test_digests_of_blobs_that_are_none_in_some_part(reactor, text):
    """What was cut short never is a whole."""
    text %= {b"v": b"0" * 64}
    with pytest.raises(Unavailable):
        await answered(reactor, lambda store: store.blob_digests("abc"), text)


def endless(*pieces):
    """Begin an answer, and go on for far longer than is taken."""
    beginning, more = pieces
    yield beginning
    for _ in range(64):
        yield more * (1024 * 1024 // len(more))


@pytest.mark.parametrize(
    "pieces",
    [
        (b"[", b'"' + b"a" * 40 + b'",'),
        (b"[", b'"' + b"a" * 40 + b'" '),
        (b'["', b"a"),
        (b"[", b" "),
        (b"", b","),
    ],
)
@ensureDeferred
async def test_a_listing_without_an_end_is_given_up(reactor, monkeypatch, pieces):
    """Before it has filled the memory; the server is told to stop."""
    monkeypatch.setattr(remote_store, "_MOST_OF_A_LISTING", 4 * 1024 * 1024)
    sending = Sending(endless(*pieces))
    async with serving(sending, reactor) as store:
        for page in ({}, {"limit": 10}):
            with pytest.raises(Unavailable):
                await store.listing(**page)
        with pytest.raises(Unavailable):
            await store.blob_digests("abc")
    assert sending.sent < 32 * 1024 * 1024


@ensureDeferred
async def test_the_largest_listing_is_named_where_it_is_too_much(reactor, monkeypatch):
    """The operator reads whose it was, and that it was not a failure to connect."""
    monkeypatch.setattr(remote_store, "_MOST_OF_A_LISTING", 100_000)
    text = json.dumps(names(10_000)).encode()
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1.* sent too large a listing"):
        await answered(reactor, lambda store: store.listing(), *in_pieces(text, 5000))
