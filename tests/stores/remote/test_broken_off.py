"""Answers that break off: no reader takes one for a whole, however its body was framed."""

from __future__ import annotations

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.task import Clock

from sos.aio.threads import threads_of
from sos.cli.downloads import WAITS, Downloader
from sos.errors import Mismatch, SOSError, Unavailable
from sos.http.client.agent import Agent
from sos.http.tls import client_tls, server_tls
from sos.interfaces import Member
from sos.replication.executor import RETRY_SECONDS
from sos.stores.cache.reads import CachedReads
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from sos.transfer import copy, transfer
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer
from sos.web.routes import handler
from tests.replication.groups import RecordedReport, run
from tests.stores.chunked.chunks import over
from tests.support.blobs import body_of, content, content_id, put
from tests.support.certificates import Authority
from tests.support.cutting import Cut, Server, cutting
from tests.support.replicas import health_records_of, replicated
from tests.support.servers import Hurried

CHUNK = 100_000
SMALL, LARGE = body_of(5000), body_of(300_000)
SMALL_ID, LARGE_ID = content_id(SMALL), content_id(LARGE)

CUTS = [
    Cut(framing, sent, ending)
    for framing, sent in [
        ("length", "none"),
        ("length", "half"),
        ("length", "most"),
        ("chunk", "none"),
        ("chunk", "half"),
        ("chunk", "most"),
        ("chunk", "all"),
        ("chunk", "marker"),
        # Where the end of the connection is that of the body, nobody can know.
        ("close", "none"),
        ("close", "half"),
        ("close", "most"),
    ]
    for ending in ("closed", "reset")
]
# Under TLS there is a third way for a connection to end; of the others a few will do.
TLS_CUTS = [
    *CUTS[::5],
    Cut("length", "half", "torn"),
    Cut("chunk", "all", "torn"),
    Cut("close", "half", "torn"),
]


@async_yield_fixture
async def kept():
    """What the server has."""
    kept = MemoryStore()
    await put(kept, SMALL, metadata={"X-A": "1"})
    await put(kept, SMALL, "small")
    await put(kept, LARGE)
    await put(kept, LARGE, "large")
    yield kept


class HighWaterMark:
    """A server whose answers break off, and how it is spoken to."""

    def __init__(self, server, exchange, reactor):
        self.server, self.exchange, self.reactor = server, exchange, reactor
        self.whole = self.store()

    def store(self):
        return RemoteStore(self.exchange, threads_of(self.reactor))

    def cuts(self):
        """Let answers break off in one way after the other, each of which is told."""
        for cut in TLS_CUTS if self.exchange.url.startswith("https:") else CUTS:
            print(cut)  # of a test that fails
            self.server.cut = cut
            yield cut


@async_yield_fixture(params=["tcp", "tls"])
async def reached(request, reactor, kept, tmp_path):
    server = Server(handler(BlobServer(kept).app))
    certificate, agent, scheme = None, Agent(reactor), "http"
    if request.param == "tls":
        authority = Authority(tmp_path, "ca")
        authority.issue("server")
        certificate = server_tls(str(tmp_path / "server.pem"), str(tmp_path / "server.key"), None)
        agent = Agent(reactor, tls=client_tls(str(authority.path), None, None))
        scheme = "https"
    async with cutting(server, reactor, certificate) as port:
        yield HighWaterMark(
            server, Exchange(f"{scheme}://127.0.0.1:{port}", agent, reactor), reactor
        )
        await agent.close()


async def read(store, id, span=None):
    return await content(await store.read(id, span))


async def lease(store):
    return await store.lease(60)


async def upload(store, id, body, pieces):
    writer = store.writer(id, {}, len(body))
    for start in range(0, len(body), pieces):
        await writer.write(body[start : start + pieces])
    return await writer.commit()


READERS = {
    "small": lambda store: read(store, SMALL_ID),
    "small-name": lambda store: read(store, "small"),
    "large": lambda store: read(store, LARGE_ID),
    "large-name": lambda store: read(store, "large"),
    "part": lambda store: read(store, LARGE_ID, (1000, 200_000)),
    "part-of-a-name": lambda store: read(store, "small", (100, 200)),
    "copy": lambda store: copied(store, LARGE_ID),
    "listing": lambda store: store.listing(),
    "page": lambda store: store.listing(limit=2),
    "digests": lambda store: store.digests(),
    "partition": lambda store: store.blob_digests(SMALL_ID[:3]),
    "status": lambda store: store.status(),
    "upload": lambda store: upload(store, "new", b"new", 3),
    "streamed": lambda store: upload(store, "new", LARGE, 70_000),
    "settled": lambda store: store.reconcile(SMALL_ID, {"X-A": "2"}),
    "lease": lambda store: lease(store),
    "released": lambda store: store.release("a" * 32),
    "nothing-there": lambda store: store.read("0" * 40),
}


async def copied(store, id):
    target = MemoryStore()
    try:
        await copy(await store.read(id), target)
    finally:
        assert target.blobs == {} or target.blobs[id].body == LARGE


@pytest.mark.parametrize("reader", READERS)
@ensureDeferred
async def test_a_reader_of_the_server(reached, reader):
    """It is a failure, which says nothing of whether the blob is there."""
    ask = READERS[reader]
    if reader != "nothing-there":
        await ask(reached.whole)
    for _ in reached.cuts():
        with pytest.raises(Unavailable):
            await ask(reached.store())


@pytest.mark.parametrize("id", [SMALL_ID, "small", LARGE_ID, "large"])
@ensureDeferred
async def test_a_download(reached, kept, id):
    """``sos get`` has nothing that it could write under the name of the file."""

    reached.server.handler = handler(DownloadServer(kept).app)
    exchange = reached.exchange
    exchange.clock = Hurried(reached.reactor, (*WAITS, *RETRY_SECONDS))
    for cut in reached.cuts():
        pieces, error = [], None
        try:
            _, body = await Downloader(exchange, reached.reactor, 2).open(id, lambda size: None)
            pieces = [body] if isinstance(body, bytes) else [piece async for piece in body]
        except SOSError as failure:
            error = failure
        if error is None:  # then all has come, and its id tells that it has
            assert cut.sent in ("all", "marker"), cut
            assert content_id(b"".join(pieces)) == id
        else:
            assert isinstance(error, (Unavailable, Mismatch)), cut


@pytest.mark.parametrize("id", [SMALL_ID, "small", LARGE_ID, "large"])
@pytest.mark.parametrize("span", [None, (1, 4000)])
@ensureDeferred
async def test_it_is_counted_against_its_server(reached, id, span):
    """Which is left alone then, whether or not it has said how long the body would be."""
    for cut in reached.cuts():
        # By this clock no server is ever slow, which would count as well.
        group = replicated(reached.reactor, [reached.store()], clock=Clock())
        with pytest.raises(Unavailable):
            await read(group, id, span)
        (record,) = health_records_of(group).values()
        assert (record.errors, record.failure is None) == (1, False), cut
        group.stop()


@ensureDeferred
async def test_another_server_gives_the_rest(reached, kept):
    """Or all of it, if nothing can be known of what came."""
    for cut in reached.cuts():
        remote = reached.store()
        # By this clock it is never slow: the other server is asked because it fails.
        members = [Member(remote, preferred=True), kept]
        group = replicated(reached.reactor, members, clock=Clock())
        assert await read(group, SMALL_ID) == SMALL
        if cut.framing == "length":
            assert await read(group, LARGE_ID) == LARGE
        record = health_records_of(group)[remote.name]
        assert record.errors >= 1
        group.stop()


@ensureDeferred
async def test_an_object_in_chunks(reached, kept):
    """Neither its manifest nor a chunk that breaks off is taken for a whole one."""
    await put(over(replicated(reached.reactor, [kept]), reached.reactor, CHUNK), LARGE)
    kept.blobs.pop(LARGE_ID)
    await put(over(replicated(reached.reactor, [kept]), reached.reactor, CHUNK), LARGE)
    chunk = content_id(LARGE[CHUNK : 2 * CHUNK])
    for wanted in (LARGE_ID, chunk):
        reached.server.wanted = wanted.encode()
        for cut in reached.cuts():
            remote = reached.store()
            group = replicated(reached.reactor, [remote])
            store = over(group, reached.reactor, CHUNK)
            for span in (None, (0, 2 * CHUNK)):
                with pytest.raises(Unavailable):
                    await read(store, LARGE_ID, span)
            (record,) = health_records_of(group).values()
            assert record.errors >= 2, cut
            group.stop()


@ensureDeferred
async def test_nothing_is_cached(reached):
    """A small body that is not whole is none."""

    class Cache:
        async def get(self, key):
            return None

        def add(self, key, value):
            raise AssertionError("it was cached")

    for _ in reached.cuts():
        group = replicated(reached.reactor, [reached.store()])
        with pytest.raises(Unavailable):
            await CachedReads(group.read, Cache(), lambda: None).read(SMALL_ID)
        group.stop()


@ensureDeferred
async def test_nothing_is_replicated(reached, kept):
    """What a pass was not told whole, and what it was not given whole, is a failure."""
    del kept.blobs["large"], kept.blobs["small"]
    for _ in reached.cuts():
        for wanted in (b"/digests HTTP", b"/digests/", b"/blob/", b"/batch"):
            reached.server.wanted = wanted
            remote = reached.store()
            target = MemoryStore("target")
            summary = await run(
                (remote, target),
                2,
                RecordedReport(),
                Hurried(reached.reactor, (*WAITS, *RETRY_SECONDS)),
            )
            assert not summary.ok
            assert (SMALL_ID if wanted == b"/batch" else LARGE_ID) not in target.blobs
            assert all(each.body in (SMALL, LARGE) for each in target.blobs.values())


@ensureDeferred
async def test_an_upload_is_not_acknowledged(reached, kept):
    """By as many copies as it waits for."""
    for _ in reached.cuts():
        group = replicated(reached.reactor, [reached.store()], clock=Clock())
        with pytest.raises(SOSError):
            await transfer(b"new", group.writer(None, {}, 3))
        (record,) = health_records_of(group).values()
        assert record.errors == 1
        group.stop()
