"""Larger bodies: in pieces on their way in and out, and gone when nobody wants them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.defer import ensureDeferred as deferred

from sos.errors import Conflict, Mismatch, Unavailable
from sos.stores.engines.postgres import bodies
from sos.stores.engines.postgres.schema import PIECE_SIZE
from tests.stores.engines.postgres.stores import eventually, looked_after, opened, settled
from tests.support.blobs import body_of, content, content_id, put
from tests.support.processes import ROOT

_MIB = 1024 * 1024


async def gone(tables, reactor, pieces=0):
    """Return when nothing is loose, and there are so many pieces."""

    async def count():
        return tables.count("loose"), tables.count("pieces")

    await eventually(reactor, count, lambda counts: counts == (0, pieces))


async def age(tables, store):
    """Let all that is loose be old, and look after it."""
    await settled(store)  # or what is used would be cleared away by a look that began before
    tables.run("update $_loose set seen = now() - interval '1 day'")
    await looked_after(store)


@pytest.mark.parametrize("size", [PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE])
@ensureDeferred
async def test_a_body_is_cut_into_pieces_of_one_size(tables, store, size):
    """However it comes; parts across the cuts are what they should be."""
    body = body_of(size)
    writer = store.writer()
    for start in range(0, size, 100_003):
        await writer.write(body[start : start + 100_003])
    id = (await writer.commit()).id
    assert await content(await store.read(id)) == body
    sizes = tables.run("select octet_length(bytes) from $_pieces order by number")
    assert [each for (each,) in sizes[:-1]] == [PIECE_SIZE] * (len(sizes) - 1)
    for cut in range(0, size, PIECE_SIZE):
        span = max(0, cut - 5), min(size, cut + 5)
        assert await content(await store.read(id, span)) == body[slice(*span)]


@ensureDeferred
async def test_nothing_is_left_of_what_is_not_stored(tables, store, reactor):
    """Aborted, refused, there already, or in the place of which something else stands."""
    body = body_of(700_000)
    await put(store, body, "name")
    await gone(tables, reactor, 3)
    writer = store.writer()
    await writer.write(body)
    writer.abort()
    await gone(tables, reactor, 3)
    await put(store, body, "name")
    await gone(tables, reactor, 3)
    with pytest.raises(Conflict):
        await put(store, body + b"!", "name")
    with pytest.raises(Mismatch):
        await put(store, body + b"!", content_id(body))
    await gone(tables, reactor, 3)


@ensureDeferred
async def test_cancelling_an_upload_harms_nothing(tables, store, reactor):
    """In a piece it is aborted; in the commit it is stored all the same."""
    body = body_of(700_000)
    upload = deferred(put(store, body))
    upload.cancel()
    with pytest.raises(CancelledError):
        await upload
    await gone(tables, reactor)
    writer = store.writer()
    await writer.write(body)
    commit = deferred(writer.commit())
    commit.cancel()
    with pytest.raises(CancelledError):
        await commit
    writer.abort()
    await eventually(reactor, store.listing, lambda listed: listed == [content_id(body)])
    assert await content(await store.read(content_id(body))) == body
    await gone(tables, reactor, 3)


@ensureDeferred
async def test_cancelling_a_read_harms_nothing(store):
    """Its connection serves the next one."""
    id = (await put(store, body_of(700_000))).id
    for _ in range(20):
        for ask in (store.read(id), store.stat(id), store.listing()):
            asked = deferred(ask)
            asked.cancel()
            with pytest.raises(CancelledError):
                await asked
    assert await content(await store.read(id)) == body_of(700_000)


@ensureDeferred
async def test_what_a_crash_leaves_is_cleared_away(tables, url, store, reactor):
    """Once it is old, by any process: when it opens the store, and from time to time."""
    writer = store.writer()
    await writer.write(body_of(600_000))
    store._garbage_collector.used.remove(writer._body)  # as if that process were gone
    async with opened(url, reactor) as other:
        await looked_after(other)
        assert tables.count("pieces") == 2
        await age(tables, other)
        assert tables.count("pieces") == 0
    with pytest.raises(Unavailable):
        await writer.write(body_of(600_000))
    store._garbage_collector.used.add(writer._body)
    writer.abort()


@ensureDeferred
async def test_an_upload_under_way_is_left_alone(tables, store):
    """However long it takes: its process tells that it is still used."""
    body = body_of(600_000)
    writer = store.writer()
    await writer.write(body)
    await age(tables, store)
    assert (await writer.commit()).id == content_id(body)
    assert await content(await store.read(content_id(body))) == body


@ensureDeferred
async def test_who_reads_a_dropped_body_reads_it_to_its_end(tables, store, reactor):
    """However slowly; then it is cleared away."""
    body = body_of(2_000_000)
    id = (await put(store, body)).id
    blob = await store.read(id)
    pieces = aiter(blob.body)
    read = [await anext(pieces)]
    token = await store.lease(60)
    await store.drop(id, token)
    await age(tables, store)
    read += [piece async for piece in pieces]
    assert b"".join(read) == body
    await blob.body.aclose()
    await age(tables, store)
    await gone(tables, reactor)


@ensureDeferred
async def test_what_is_being_cleared_away_becomes_no_blob(tables, store):
    """Not even when all of it is still there."""
    writer = store.writer()
    await writer.write(body_of(2 * PIECE_SIZE))
    tables.run("update $_loose set doomed = true")
    with pytest.raises(Unavailable):
        await writer.commit()
    assert await store.listing() == []


@ensureDeferred
async def test_several_can_clear_the_same_away(tables, url, store, reactor, monkeypatch):
    """None of them takes what another has removed for the end of it."""
    monkeypatch.setattr(bodies, "_CLEARED_TOGETHER", 1)
    async with opened(url, reactor) as other:
        for _ in range(5):
            writer = store.writer()
            await writer.write(body_of(8 * PIECE_SIZE))
            await store._connections.run(store._bodies.doom, writer._body)
            clear = (
                store._garbage_collector._clear,
                other._garbage_collector._clear,
                store._garbage_collector._clear,
            )
            await gatherResults([deferred(each(writer._body)) for each in clear])
            assert (tables.count("loose"), tables.count("pieces")) == (0, 0)
            writer.abort()


@ensureDeferred
async def test_what_is_a_blob_is_not_cleared_away(tables, store):
    """Though it be asked for."""
    id = (await put(store, body_of(600_000))).id
    ((body,),) = tables.run("select pieces from $")
    await store._garbage_collector._discard(body)
    assert await content(await store.read(id)) == body_of(600_000)


_LARGE = """
import hashlib, resource, sys
from contextlib import aclosing
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from sos.stores.factories import factory

async def run():
    store = factory("postgresql").make(sys.argv[1], "sha1", reactor)
    await store.open()
    for small in (b"a", bytes(300_000)):  # what is needed once for all
        writer = store.writer()
        await writer.write(small)
        await writer.commit()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    writer, sent = store.writer(), hashlib.sha1()
    for n in range(1024):
        piece = n.to_bytes(4, "big") * 16384
        sent.update(piece)
        await writer.write(piece)
    id = (await writer.commit()).id
    assert id == sent.hexdigest()
    blob, size = await store.read(id), 0
    async with aclosing(blob.body):
        async for piece in blob.body:
            size += len(piece)
    assert size == 64 * 1024 * 1024
    await store.close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

ensureDeferred(run()).addErrback(lambda failure: print(failure)).addBoth(lambda _: reactor.stop())
reactor.run()
"""


def test_a_large_body_is_never_in_memory_as_a_whole(url):
    """64 MiB in and out of a process take less than 12 of its memory."""
    command = [sys.executable, "-c", _LARGE, url]
    ran = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=100, check=True)
    assert int(ran.stdout) * 1024 < 12 * _MIB, ran.stdout
