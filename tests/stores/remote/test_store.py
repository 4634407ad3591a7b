"""A blob server as a store: ours over real sockets, and servers that misbehave."""

from __future__ import annotations

import gc
import json
import math

import attrs
import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs

from sos.aio.threads import threads_of
from sos.errors import Mismatch, NoSpace, NotFound, Unavailable
from sos.http.client.agent import Agent
from sos.interfaces import Member
from sos.model.batch import UNKNOWN, Answer
from sos.stores.memory import MemoryStore
from sos.stores.remote import store
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from sos.transfer import transfer
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.contract import ManifestContract, OneStepContract, ReplicaContract, StoreContract
from tests.support.blobs import body_of, content, content_id, manifest_of, put
from tests.support.servers import remote_store, serving


class TestRemoteStore(StoreContract, ReplicaContract, ManifestContract, OneStepContract):
    @async_yield_fixture
    async def store(self, reactor):
        async with serving(handler(BlobServer(MemoryStore()).app), reactor) as store:
            yield store


class Scripted:
    """Answers every request in the same way, whatever it is; it knows no batches."""

    asked = 0

    def __init__(self, status=200, body=b"", headers=(), chunked=False, length=None):
        self.length = length
        self.status, self.body, self.headers, self.chunked = status, body, headers, chunked

    def __call__(self, request):
        self.asked += 1
        if request.path == b"/batch":
            request.setResponseCode(404)
            request.finish()
            return
        request.setResponseCode(self.status)
        for name, value in self.headers:
            request.setHeader(name, value)
        if self.length is not None:
            request.setHeader(b"Content-Length", self.length)
        elif not self.chunked:
            request.setHeader(b"Content-Length", b"%d" % len(self.body))
        request.write(self.body)
        request.finish()


async def answers(reactor, ask, **script):
    async with serving(Scripted(**script), reactor) as store:
        return await ask(store)


@ensureDeferred
async def test_a_server_at_an_address_of_ipv6(reactor):
    """Everything can be asked there, what goes through treq, too."""
    async with serving(handler(BlobServer(MemoryStore()).app), reactor, host="::1") as store:
        id = (await put(store, b"x")).id
        assert await store.listing() == [id]
        assert (await store.status()).blobs == 1
        assert set(await store.digests()) == {id[:3]}


@ensureDeferred
async def test_nothing_listens(reactor):
    """A server that cannot be reached is unavailable, which is not missing."""
    store = remote_store("http://127.0.0.1:1", reactor)
    for ask in (store.stat("abc"), store.read("abc"), store.listing(), put(store, b"x", "abc")):
        with pytest.raises(Unavailable, match="cannot be reached"):
            await ask


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(301, Unavailable), (404, NotFound), (500, Unavailable), (503, Unavailable), (507, NoSpace)],
)
@ensureDeferred
async def test_statuses_mean_what_the_table_says(reactor, status, meaning):
    """A redirect is not followed, and only 404 means that there is no blob."""
    script = {"status": status, "headers": [(b"Location", b"http://127.0.0.1:1/")]}
    for ask in (
        lambda store: store.stat("abc"),
        lambda store: store.read("abc"),
        lambda store: put(store, b"x", "abc"),
    ):
        with pytest.raises(meaning):
            await answers(reactor, ask, **script)


@ensureDeferred
async def test_a_redirect_is_not_followed(reactor):
    """A server is asked under the address that it was configured with."""
    elsewhere = Scripted(body=b"abc")
    async with serving(elsewhere, reactor) as other:
        script = {"status": 302, "headers": [(b"Location", other.name.encode())]}
        with pytest.raises(Unavailable, match="302"):
            await answers(reactor, lambda store: store.read("abc"), **script)
    assert elsewhere.asked == 0


@pytest.mark.parametrize("size", [100, 100_000])
@ensureDeferred
async def test_a_wrong_body_is_the_servers_failure(reactor, size):
    """Bytes that do not match the id are never passed on as whole."""
    id = content_id(body_of(size))

    async def read(store):
        return await content(await store.read(id))

    assert await answers(reactor, read, body=body_of(size)) == body_of(size)
    with pytest.raises((Unavailable, Mismatch)):
        await answers(reactor, read, body=body_of(size - 1) + b"!")


@ensureDeferred
async def test_a_large_manifest_is_verified_on_another_thread(reactor):
    """To parse one takes longer than other requests can wait; its chunks are not looked at."""
    used = []

    def run_in_thread(function, *arguments):
        used.append(function.__name__)
        return threads_of(reactor)(function, *arguments)

    id, text, metadata = manifest_of(body_of(2_000), 1)
    headers = [(name.encode(), value.encode()) for name, value in metadata.items()]
    for sent, sound in ((text, True), (text[:-2] + b"]\n", False)):
        async with serving(Scripted(body=sent, headers=headers), reactor) as server:
            exchange = Exchange(server.name, Agent(reactor), reactor)
            blob = await RemoteStore(exchange, run_in_thread).read(id)
            if sound:
                assert await content(blob) == text
            else:
                with pytest.raises((Unavailable, Mismatch)):
                    await content(blob)
    assert used == ["_end"] * 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"{}",
        b'{"status":"OK"}',
        b'{"id":"abc","size":1,"status":"no"}',
        b'{"id":"abd","size":1,"status":"OK"}',
        b'{"id":"abc","size":2,"status":"OK"}',
        b'{"id":"abc","size":true,"status":"OK"}',
        b'{"id":"abc","size":1.0,"status":"OK"}',
        b'{"id":"abc","size":1,"status":"OK","expires_at":"soon"}',
        b'{"id":"abc","size":1,"status":"OK","expires_at":NaN}',
        b'{"id":"abc","size":1,"status":"OK","expires_at":1%b}' % (b"0" * 400),
    ],
)
@ensureDeferred
async def test_only_a_true_answer_counts_as_stored(reactor, body):
    """An upload that is answered with anything else was not acknowledged."""
    with pytest.raises(Unavailable):
        await answers(reactor, lambda store: put(store, b"x", "abc"), body=body)


@pytest.mark.parametrize(
    ("sunset", "end"),
    [
        (b"Thu, 31 Dec 2099 23:59:59 GMT", 4102444799),
        (b"soon", None),
        (b"", None),
        (b"Thu, 31 Dec %b 23:59:59 GMT" % (b"9" * 30), None),
    ],
)
@ensureDeferred
async def test_an_end_that_is_no_date_is_none(reactor, sunset, end):
    """As an API server says when an object expires."""
    script = {"body": b"x", "headers": [(b"Sunset", sunset)]}
    info = await answers(reactor, lambda store: store.stat("abc"), **script)
    assert info.expires_at == end


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'["abc', b'["ABC"]', b"[1]", b'["a","/"]'])
@ensureDeferred
async def test_a_listing_that_is_none_is_not_an_empty_one(reactor, body):
    """Junk in place of a listing is a failure of the server."""
    with pytest.raises(Unavailable):
        await answers(reactor, lambda store: store.listing(), body=body)


@ensureDeferred
async def test_a_server_of_the_original_system(reactor):
    """It tells no size of a larger blob, and lists all, in any order."""
    body = body_of(100_000)

    async def read(store):
        blob = await store.read(content_id(body))
        return blob.info.size, await content(blob)

    assert await answers(reactor, read, body=body, chunked=True) == (None, body)

    async def part(store):
        return await content(await store.read(content_id(body), (50_000, 50_010)))

    assert await answers(reactor, part, body=body, chunked=True) == body[50_000:50_010]
    listing = json.dumps(["b" * 40, "a" * 40, "c" * 40]).encode()

    async def page(store):
        return await store.listing(after="a" * 40, limit=1)

    assert await answers(reactor, page, body=listing) == ["b" * 40]


@pytest.mark.parametrize("body", [b"[" * 50_000, b'{"error":' * 5_000])
@ensureDeferred
async def test_json_that_is_a_trap(reactor, body):
    """However deep it is, it is the server's failure and nothing else."""
    for ask in (lambda s: s.listing(), lambda s: s.digests(), lambda s: put(s, b"x", "abc")):
        for status in (200, 500):
            with pytest.raises(Unavailable):
                await answers(reactor, ask, body=body, status=status)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"abc": 1}',
        b'{"abc": [1, 2]}',
        b'{"ABC": [1, 2, "0"]}',
        b'{"abc": [1, 2, "x"]}',
        b'{"abc": [Infinity, 2, "0"]}',
        b'{"abc": [1, NaN, "0"]}',
        b'{"abc": [true, 2, "0"]}',
        b'{"abc": ["1", 2, "0"]}',
        b'{"abc": [1.5, 2, "0"]}',
        b'{"abc": [1, -2, "0"]}',
        b'{"abc": [9223372036854775808, 2, "0"]}',
        b'{"abc": [1, 2, "-1"]}',
        b'{"abc": [1, 2, "%s"]}' % (b"f" * 33),
    ],
)
@ensureDeferred
async def test_digests_that_are_none(reactor, body):
    """Junk in place of digests is a failure of the server."""
    with pytest.raises(Unavailable):
        await answers(reactor, lambda store: store.digests(), body=body)


@pytest.mark.parametrize(
    "change",
    [
        {"blobs": "3"},
        {"free": -1},
        {"size": True},
        {"capacity": [1]},
        {"capacity": 1 << 63},
        {"capacity": 10**400},
        {"reason": 5},
        {"writable": "no"},
        {"lost": 1, "lost_ids": {"a": 1}},
        {"lost": 1, "lost_ids": ["../x"]},
        None,
    ],
)
@ensureDeferred
async def test_a_status_that_is_none(reactor, change):
    """Junk in place of numbers is a failure of the server."""
    status = {"writable": True, **dict.fromkeys(("reason", "blobs", "size", "capacity", "free"))}
    assert (await answers(reactor, lambda store: store.status(), body=_json(status))).writable
    junk = {**status, **change} if change else {"writable": True}
    with pytest.raises(Unavailable, match=r"sent a(n invalid status: | status without )"):
        await answers(reactor, lambda store: store.status(), body=_json(junk))


SCRUB = {
    "position": "abc",
    "started_at": 1.5,
    "finished_at": None,
    "checked": 3,
    "bytes": 30,
    "damaged": 1,
    "unreadable": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"position": "\x1b[2J"},
        {"started_at": math.nan},
        {"finished_at": math.inf},
        {"finished_at": 1e300},
        {"started_at": -1},
        {"checked": True},
        {"bytes": -1},
        {"damaged": 1 << 63},
        {"unreadable": None},
    ],
    ids=repr,
)
@ensureDeferred
async def test_a_scrub_that_is_none(reactor, change):
    """Neither dates that nobody can write nor numbers that can be none."""
    scrub = {"position": None, "started_at": None, "finished_at": None}
    scrub |= dict.fromkeys(("checked", "bytes", "damaged", "unreadable"), 0)
    status = {"writable": True, **dict.fromkeys(("reason", "blobs", "size", "capacity", "free"))}
    body = _json(status | {"scrub": scrub})
    assert (await answers(reactor, lambda store: store.status(), body=body)).scrub is not None
    body = _json(status | {"scrub": scrub | change})
    with pytest.raises(Unavailable, match=r"sent a(n invalid status: | status without )"):
        await answers(reactor, lambda store: store.status(), body=body)


@ensureDeferred
async def test_why_it_takes_no_blobs_is_told_so_that_it_can_be_shown(reactor):
    """To a terminal, or in a log: whatever the server says, and how much."""
    status = dict.fromkeys(("blobs", "size", "capacity", "free"))
    status |= {"writable": False, "reason": "full\x1b[2J\n" + 100_000 * "x"}
    found = await answers(reactor, lambda store: store.status(), body=_json(status))
    assert found.reason.startswith("full?[2J?x")
    assert found.reason.isprintable()
    assert len(found.reason) == 500


@ensureDeferred
async def test_of_what_is_lost_some_is_told(reactor):
    """Each is looked for on all servers: a million could never be."""
    status = dict.fromkeys(("reason", "blobs", "size", "capacity", "free"))
    status |= {"writable": True, "lost": 10_000, "lost_ids": [f"a{n}" for n in range(10_000)]}
    found = await answers(reactor, lambda store: store.status(), body=_json(status))
    assert (found.lost, len(found.lost_ids)) == (10_000, 1000)


@pytest.mark.parametrize("etag", [b"\xff\xfe", b'"\xc3\xa9"'])
@ensureDeferred
async def test_an_etag_of_any_bytes(reactor, etag):
    """What could not be sent back is not kept."""
    headers = [(b"ETag", etag)]
    async with serving(Scripted(body=b"{}", headers=headers), reactor) as store:
        assert await store.digests() == {}
        assert await store.digests() == {}


@ensureDeferred
async def test_a_listing_of_more_than_can_be_held(reactor, monkeypatch):
    """Short ids take more memory than they are long."""
    monkeypatch.setattr(store, "_MOST_IDS", 100)
    listed = [f"a{n}" for n in range(101)]
    assert await answers(reactor, lambda store: store.listing(), body=_json(listed[:100]))
    with pytest.raises(Unavailable, match="a listing of over 100 blobs"):
        await answers(reactor, lambda store: store.listing(), body=_json(listed))


@ensureDeferred
async def test_a_status_with_a_scrub(reactor):
    """It is passed on as it was told, if it is that of one."""
    status = {"writable": True, **dict.fromkeys(("reason", "blobs", "size", "capacity", "free"))}

    def status_with(scrub):
        body = _json({**status, "scrub": scrub})
        return answers(reactor, lambda store: store.status(), body=body)

    assert attrs.asdict((await status_with(SCRUB)).scrub) == SCRUB
    assert (await status_with(None)).scrub is None
    for junk in ({}, [], 3, {**SCRUB, "damaged": "<b>"}, {**SCRUB, "position": 3}):
        with pytest.raises(Unavailable, match=r"sent a(n invalid status: | status without )"):
            await status_with(junk)


def _json(document):
    return json.dumps(document).encode()


@pytest.mark.parametrize("length", [b"9" * 5000, b"x", b"-1"])
@ensureDeferred
async def test_a_length_that_is_none(reactor, length):
    """The size is not known then."""
    try:
        info = await answers(reactor, lambda s: s.stat("abc"), length=length)
    except Unavailable:
        return
    assert info.size is None


@pytest.mark.parametrize("content_range", [b"bytes 1-2/3", b"bytes 0-8/3", b"", b"x"])
@ensureDeferred
async def test_another_part_than_was_asked_for(reactor, content_range):
    """It is the server's failure."""
    script = {"status": 206, "body": b"ab", "headers": [(b"Content-Range", content_range)]}
    with pytest.raises(Unavailable):
        await answers(reactor, lambda store: store.read("abc", (0, 2)), **script)


@ensureDeferred
async def test_a_part_that_ends_early(reactor):
    """It is never taken for whole."""

    async def part(store):
        return await content(await store.read("abc", (0, 4)))

    script = {"status": 206, "body": b"ab", "headers": [(b"Content-Range", b"bytes 0-3/9")]}
    with pytest.raises(Unavailable):
        await answers(reactor, part, **script)


class Mute:
    """Never answers.

    :ivar asked: fires when it has been asked.
    """

    def __init__(self):
        self.asked = Deferred()

    def __call__(self, request):
        if not self.asked.called:
            self.asked.callback(None)


@pytest.mark.parametrize(("asked", "seconds"), [("read", 10), ("listing", 10), ("put", 60)])
@ensureDeferred
async def test_a_server_that_does_not_answer(reactor, asked, seconds):
    """It is given up after a while, and the reason told."""
    mute = Mute()
    async with serving(mute, reactor) as silent:
        clock = Clock()
        store = RemoteStore(Exchange(silent.name, Agent(reactor), clock), threads_of(reactor))
        waiting = deferred(put(store, b"x", "abc") if asked == "put" else _asked(store, asked))
        clock.advance(0)
        await mute.asked
        clock.advance(seconds - 1)
        assert not waiting.called
        clock.advance(2)
        with pytest.raises(Unavailable, match="did not answer in time"):
            await waiting


def _asked(store, asked):
    return store.listing() if asked == "listing" else store.read("abc")


@pytest.mark.parametrize("asked", ["read", "stat", "put"])
@ensureDeferred
async def test_who_is_cancelled_ends(reactor, asked):
    """And does not go on to the next server."""
    mute = Mute()
    async with serving(mute, reactor) as silent:
        second = MemoryStore("second")
        members = (Member(silent, preferred=True), Member(second))
        copy_counts = CopyCounts(acknowledged=2)
        store = ReplicatedStore(
            {"g": members}, threads_of(reactor), reactor, copy_counts=copy_counts
        )
        ask = {
            "read": lambda: store.read("abc"),
            "stat": lambda: store.stat("abc"),
            "put": lambda: put(store, b"x"),
        }[asked]
        waiting = deferred(ask())
        await mute.asked
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
        if asked != "put":  # which asks both at once
            assert second.blobs == {}


@ensureDeferred
async def test_too_much_metadata_is_the_servers_failure(reactor):
    """A server cannot make us keep more than a client could."""
    headers = [(b"X-%d" % n, b"v") for n in range(91)]
    with pytest.raises(Unavailable, match="metadata"):
        await answers(reactor, lambda store: store.stat("abc"), headers=headers)


@pytest.mark.parametrize("span", [None, (0, 19_000_000)])
@ensureDeferred
async def test_a_body_that_nobody_reads_is_let_go_of(reactor, span):
    """The server is not left waiting for someone to read it."""
    kept = MemoryStore()
    id = (await put(kept, body_of(20_000_000))).id
    requests = []
    answer = handler(BlobServer(kept).app)

    def handle(request):
        requests.append(request)
        answer(request)

    async with serving(handle, reactor) as store:
        blob = await store.read(id, span)
        await blob.body.aclose()
        while not requests[0].disconnected:
            await deferLater(reactor, 0)


@pytest.mark.parametrize("early", [True, False])
@ensureDeferred
async def test_an_upload_that_is_given_up_lets_go_of_its_connection(reactor, early):
    """Also one that was answered before it was sent, by an answer that is not all there yet."""
    requests = []

    def refuse(request):
        requests.append(request)
        if early:
            request.setResponseCode(507)
            request.setHeader(b"Content-Length", b"10")
            request.write(b"0")

    async with serving(refuse, reactor) as store:
        writer = store.writer("abc", {}, 1_000_000)
        await writer.write(b"x" * 1000)
        await writer.write(b"x" * 1000)
        while not requests:
            await deferLater(reactor, 0)
        await deferLater(reactor, 0.05)
        writer.abort()
        while not requests[0].disconnected:
            await deferLater(reactor, 0)


@pytest.mark.parametrize("count", [2, 1000])
@ensureDeferred
async def test_an_upload_in_pieces_that_is_refused(reactor, count):
    """When it was sent, or before; which is no mistake of ours, as the log would say."""

    async def pieces():
        for _ in range(count):
            yield b"x" * 1000

    async def upload(store):
        with pytest.raises(NoSpace, match="it is full"):
            await transfer(pieces(), store.writer("abc", {}, count * 1000))

    def refuse(request):
        if count == 2:
            ended = deferred(drain(request.body))
            ended.addCallback(lambda _: Scripted(507, body)(request))
        else:
            Scripted(507, body)(request)

    async def drain(received):
        async for _ in received:
            pass

    body = b'{"error": "it is full"}'
    with capturedLogs() as logged:
        async with serving(refuse, reactor) as store:
            await upload(store)
        gc.collect()
    assert [event for event in logged if "log_failure" in event] == []


@ensureDeferred
async def test_digests_that_have_not_changed_are_the_same_object(reactor):
    """They are asked for under the name that they had, and come again when they have changed."""
    kept = MemoryStore()
    async with serving(handler(BlobServer(kept).app), reactor) as store:
        assert await store.digests() == {}
        await put(kept, b"x")
        first = await store.digests()
        assert first == await kept.digests()
        assert await store.digests() is first
        await put(kept, b"y")
        assert await store.digests() == await kept.digests() != first


@ensureDeferred
async def test_nothing_has_changed_is_no_answer_to_who_knows_nothing(reactor):
    """Or a server in disorder would be taken for one that holds nothing."""
    with pytest.raises(Unavailable, match="304"):
        await answers(reactor, lambda store: store.digests(), status=304)


def batch_answering(*answers):
    """Answer batches with these records."""

    def answer(request):
        request.finish(b"".join(each.encode() for each in answers))

    return answer


STORE_ID = b"11111111-1111-4111-8111-111111111111"


@pytest.mark.parametrize("body", [b" abd", b"abc", b"", STORE_ID, b"x abc", b"abc abc"])
@ensureDeferred
async def test_only_an_answer_that_names_the_blob_counts_as_stored(reactor, body):
    """In a batch as well: answers could be mixed up."""
    wrong = Answer(200, 1, body=body)
    async with serving(batch_answering(wrong), reactor) as store:
        with pytest.raises(Unavailable, match="reports 1 bytes stored as"):
            await store.put("abc", {}, b"x")
    for right in (b" abc", STORE_ID + b" abc"):
        async with serving(batch_answering(Answer(200, 1, body=right)), reactor) as store:
            assert (await store.put("abc", {}, b"x")).id == "abc"


@pytest.mark.parametrize("size", [UNKNOWN, UNKNOWN - 1, 1 << 63])
@ensureDeferred
async def test_a_size_that_is_none_is_not_known(reactor, size):
    """In a batch as in a header."""
    async with serving(batch_answering(Answer(200, size, b"{}")), reactor) as store:
        assert (await store.stat("abc")).size is None
    async with serving(batch_answering(Answer(200, size, b"{}", b"x")), reactor) as store:
        assert (await store.read("abc")).info.size == 1
