"""Objects of which chunks are gone: not there for an upload, a failure for a reader."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, succeed
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.threads import deferToThread

from sos.aio.threads import threads_of
from sos.cli.servers import fetches
from sos.cli.uploads import Uploader
from sos.errors import NotFound, Unavailable
from sos.http.client.agent import Agent
from sos.interfaces import BlobInfo
from sos.model.manifest import Chunk
from sos.stores.chunked.presence import AT_ONCE, look_for
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.stores.chunked.chunks import ids_of, over, replicated
from tests.support.blobs import body_of, content, content_id, manifest_of, put
from tests.support.doubles import FailingStore
from tests.support.http import ask
from tests.support.servers import serving

SIZE = 20_000
COUNT = 6
BODY = body_of(COUNT * SIZE)
ID = content_id(BODY)
CHUNKS = ids_of(BODY, SIZE)
EVERY = pytest.mark.parametrize("number", range(COUNT))


@pytest.fixture
def members():
    return MemoryStore("a"), MemoryStore("b")


@pytest.fixture
def store(members, reactor):
    """A store of which BODY is an object, in chunks."""
    return over(replicated(reactor, *members), reactor, SIZE)


def lose(members, id):
    for each in members:
        each.blobs.pop(id, None)


@EVERY
@ensureDeferred
async def test_it_is_not_described_as_being_there(store, members, number):
    """Nor said to be missing: its manifest is there."""
    await put(store, BODY)
    assert (await store.stat(ID)).size == len(BODY)
    lose(members, CHUNKS[number])
    with pytest.raises(Unavailable, match=f"the chunk {CHUNKS[number]} is missing: upload"):
        await store.stat(ID)


@EVERY
@ensureDeferred
async def test_it_is_not_opened(store, members, number):
    """Nothing of it is read that cannot be read to its end; parts that are there can be."""
    await put(store, BODY)
    lose(members, CHUNKS[number])
    start, stop = number * SIZE, (number + 1) * SIZE
    spans = [None, (0, len(BODY)), (max(start - 3 * SIZE, 0), start + 1), (stop - 1, stop)]
    spans.append((stop - 1, min(stop + 4 * SIZE, len(BODY))))
    for span in spans:
        with pytest.raises(Unavailable, match=CHUNKS[number]):
            await store.read(ID, span)
    for span in ((0, start), (stop, len(BODY))):
        if span[0] < span[1]:
            assert await content(await store.read(ID, span)) == BODY[slice(*span)]


@pytest.mark.parametrize("size", [SIZE, 7_000, 50_000])
@EVERY
@ensureDeferred
async def test_it_is_whole_when_it_has_been_uploaded_again(store, members, reactor, number, size):
    """Also by a server that makes chunks of another size."""
    await put(store, BODY)
    lose(members, CHUNKS[number])
    await put(over(replicated(reactor, *members), reactor, size), BODY)
    assert (await store.stat(ID)).size == len(BODY)
    assert await content(await store.read(ID)) == BODY


@ensureDeferred
async def test_a_chunk_that_is_an_object_itself(store, members, reactor):
    """It is in chunks as well, and one of these is gone."""
    await put(store, BODY)
    part = BODY[:SIZE]
    lose(members, CHUNKS[0])
    await put(over(replicated(reactor, *members), reactor, 3000), part)
    assert await content(await store.read(ID)) == BODY
    assert (await store.stat(ID)).size == len(BODY)
    gone = ids_of(part, 3000)[2]
    lose(members, gone)
    for work in (store.stat(ID), store.read(ID)):
        with pytest.raises(Unavailable, match=gone):
            await work


@ensureDeferred
async def test_a_chunk_of_another_size(store, members):
    """Another server's store is not what it should be."""
    await put(store, BODY)
    for each in members:
        if (held := each.blobs.get(CHUNKS[2])) is not None:
            info = evolve(held.info, size=7)
            each.blobs[CHUNKS[2]] = evolve(held, info=info, body=b"another")
    for work in (store.stat(ID), store.read(ID)):
        with pytest.raises(Unavailable, match="has 7 bytes instead of 20000"):
            await work


@ensureDeferred
async def test_a_chunk_that_may_be_on_a_server_that_does_not_answer(store, members, reactor):
    """What cannot be told is not told."""
    await put(store, BODY)
    lose(members, CHUNKS[3])
    store = over(replicated(reactor, *members, FailingStore()), reactor, SIZE)
    for work in (store.stat(ID), store.read(ID)):
        with pytest.raises(Unavailable, match="did not answer"):
            await work


@ensureDeferred
async def test_one_copy_is_a_manifest_and_another_the_object_itself(members, placing, reactor):
    """That is there, whatever has become of the chunks."""
    id, manifest, metadata = manifest_of(BODY, SIZE)
    await put(members[0], manifest, id, metadata)
    await put(members[1], BODY)
    placing.stat, placing.read = members[0].stat, members[1].read
    assert (await over(placing, reactor).stat(ID)).size == len(BODY)


# What clients see of it.


@asynccontextmanager
async def api_of(store, reactor):
    agent = Agent(reactor)
    async with (
        serving(handler(UploadServer(store, keeper=store._store).app), reactor, agent) as up,
        serving(handler(DownloadServer(store).app), reactor, agent) as down,
    ):
        yield Exchange(up.name, agent, reactor), Exchange(down.name, agent, reactor)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("HEAD", {}),
        ("GET", {}),
        ("GET", {"If-None-Match": f'"{ID}"'}),
        ("GET", {"If-None-Match": "*"}),
        ("GET", {"If-None-Match": f'"{ID}"', "Range": "bytes=0-9"}),
        ("HEAD", {"If-None-Match": f'"{ID}"'}),
        ("GET", {"If-Modified-Since": "Wed, 01 Jan 2200 00:00:00 GMT"}),
        ("GET", {"Range": f"bytes=0-{SIZE * COUNT - 1}"}),
        ("GET", {"Range": f"bytes={2 * SIZE}-{5 * SIZE}"}),
        ("GET", {"Range": f"bytes={4 * SIZE}-{4 * SIZE}"}),
    ],
)
@ensureDeferred
async def test_the_answer_is_a_failure_from_its_first_byte(store, members, reactor, method, fields):
    """A 503 that says why; the body is not begun, and nobody is told that it has not changed."""
    await put(store, BODY)
    async with api_of(store, reactor) as (_, down):
        url = f"{down.url}/fetch/{ID}"
        answer = await deferToThread(ask, url, None, fields, method)
        assert answer.status < 400
        lose(members, CHUNKS[4])
        answer = await deferToThread(ask, url, None, fields, method)
    assert answer.status == 503
    if method == "GET":
        assert f"the chunk {CHUNKS[4]} is missing" in answer.json["error"]


@ensureDeferred
async def test_a_part_that_is_there_costs_no_question_for_the_others(store, members, reactor):
    """Who fetches an object in parts would ask for all of its chunks for each."""
    await put(store, BODY)
    lose(members, CHUNKS[4])
    async with api_of(store, reactor) as (_, down):
        fields = {"Range": f"bytes=0-{4 * SIZE - 1}"}
        answer = await deferToThread(ask, f"{down.url}/fetch/{ID}", None, fields)
    assert (answer.status, answer.body) == (206, BODY[: 4 * SIZE])


@EVERY
@ensureDeferred
async def test_a_file_is_sent_again(store, members, reactor, tmp_path, number):
    """``sos put`` sends what is not there whole; then all can be had again, and nothing is sent."""
    (tmp_path / "file").write_bytes(BODY)
    sent = []
    writer = store.writer
    store.writer = lambda *arguments: sent.append(arguments) or writer(*arguments)
    async with api_of(store, reactor) as (up, down):
        uploader = Uploader(up, threads_of(reactor), {}, fetches(down, reactor))
        for lost, expected in ((None, 1), (None, 1), (CHUNKS[number], 2), (None, 2)):
            lose(members, lost)
            assert await uploader.put(str(tmp_path / "file"), lambda size: None) == ID
            assert len(sent) == expected
            assert await content(await store.read(ID)) == BODY


# How they are looked for.


@ensureDeferred
async def test_few_are_looked_for_at_once():
    """However many there are; and each once."""
    asked, waiting = [], []

    async def stat(id):
        asked.append(id)
        waiting.append(Deferred())
        await waiting[-1]
        return BlobInfo(id, 1, {})

    chunks = [Chunk(f"{n % 1000:040x}", 1) for n in range(3000)]
    looking = deferred(look_for(chunks, stat))
    most = 0
    while waiting:
        most = max(most, len(waiting))
        waiting.pop(0).callback(None)
    await looking
    assert most == AT_ONCE
    assert asked == [f"{n:040x}" for n in range(1000)]


@ensureDeferred
async def test_the_first_that_is_gone_ends_it():
    """The others are not asked for any more."""
    asked = []

    async def stat(id):
        asked.append(id)
        if id == "3":
            raise NotFound("no")
        await (succeed(None) if id < "3" else Deferred())
        return BlobInfo(id, 1, {})

    with pytest.raises(Unavailable, match="the chunk 3 is missing"):
        await look_for([Chunk(f"{n}", 1) for n in range(10)] * 100, stat)
    assert len(asked) <= AT_ONCE


@ensureDeferred
async def test_many_chunks_at_once_that_answer_at_once():
    """As stores in this process do: nothing goes deep."""

    async def stat(id):
        return BlobInfo(id, 1, {})

    await look_for([Chunk(f"{n}", 1) for n in range(90_000)], stat)
