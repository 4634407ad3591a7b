"""The store in a bucket, while Swift or what is between is not well."""

from __future__ import annotations

import itertools
import signal
from hashlib import sha256

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from sos.errors import Conflict, Mismatch, NotFound, SOSError, StoreUnusable, Unavailable
from sos.model.ids import partition
from sos.stores.engines.s3.client import Timeouts
from sos.stores.engines.s3.records import body_key, marker
from tests.stores.engines.s3.imitation import Imitation
from tests.stores.engines.s3.stores import BUCKET, let_in, store_at, store_in
from tests.support.blobs import body_of, colliding, content, content_id, put

MEGABYTE = 1024 * 1024


@ensureDeferred
async def test_a_proxy_that_is_killed_in_the_middle_of_uploads_loses_none_that_was_acknowledged(
    store, swift, reactor
):
    """Those that were not are refused as Unavailable, and succeed when it is there again."""
    seeds = itertools.count()
    stored, refused = [], []

    async def upload():
        while not refused:
            body = body_of(2 * MEGABYTE, next(seeds))
            try:
                stored.append((await put(store, body)).id)
            except Unavailable:
                refused.append(body)

    uploads = [deferred(upload()) for _ in range(4)]
    while not stored:
        await deferred(_turn(reactor))
    swift.kill("proxy")
    try:
        for each in uploads:
            await each
        assert not (await store.status()).writable
        with pytest.raises(Unavailable):
            await store.stat(stored[0])
    finally:
        await deferToThread(swift.start, "proxy")
    assert (await store.status()).writable
    for id in stored:
        assert content_id(await content(await store.read(id))) == id
    listed = set(await store.listing())
    assert listed >= set(stored)
    for body in refused:
        stored.append((await put(store, body)).id)
    assert sorted(await store.listing()) == sorted(stored)


@ensureDeferred
async def test_a_frozen_proxy_is_waited_for_and_no_longer(swift, prefix, reactor):
    """Then it is Unavailable, and goes on by itself."""
    store = store_in(swift, prefix, reactor, timeouts=Timeouts(prompt=1.5, upload=1.5))
    await store.open()
    id = (await put(store, b"before")).id
    swift.signal("proxy", signal.SIGSTOP)
    try:
        started = reactor.seconds()
        for ask in (store.read(id), put(store, b"while"), store.listing()):
            with pytest.raises(Unavailable, match="in time"):
                await ask
        assert reactor.seconds() - started < 10
    finally:
        swift.signal("proxy", signal.SIGCONT)
    assert await content(await store.read(id)) == b"before"
    await put(store, b"while")
    assert len(await store.listing()) == 2
    await store.close()


@pytest.mark.parametrize("name", ["object1", "object2", "object3"])
@ensureDeferred
async def test_one_of_three_object_servers_can_be_missing(store, swift, name):
    """Swift goes on with two, and so do uploads and reads, before and after."""
    before = (await put(store, body_of(300_000))).id
    swift.kill(name)
    try:
        during = (await put(store, body_of(300_001))).id
        for id in (before, during):
            assert content_id(await content(await store.read(id))) == id
        assert sorted(await store.listing()) == sorted([before, during])
    finally:
        await deferToThread(swift.start, name)
    assert content_id(await content(await store.read(during))) == during


@ensureDeferred
async def test_wrong_keys_are_told_when_the_store_is_opened(server, prefix, reactor):
    """The store can never be used so; what is told holds no key."""
    store = store_in(server, prefix, reactor, secret="not the secret")
    with pytest.raises(StoreUnusable, match="SignatureDoesNotMatch") as caught:
        await store.open()
    assert "not the secret" not in f"{caught.value} {caught.value.__cause__!r}"
    await store.close()


@ensureDeferred
async def test_a_bucket_that_is_missing_is_made(server, reactor):
    """And is there for the next."""
    for _ in range(2):
        store = store_at(server.url("made-at-open", "here"), reactor)
        await store.open()
        await put(store, b"kept", "name")
        await store.close()
    again = store_at(server.url("made-at-open", "here"), reactor)
    await again.open()
    assert await again.listing() == ["name"]
    await again.close()


@ensureDeferred
async def test_a_prefix_with_another_format_is_refused(server, store, prefix, reactor):
    """What is there is not touched."""
    await store._bucket.put("store.json", b"something else")
    other = store_in(server, prefix, reactor)
    with pytest.raises(StoreUnusable, match="unknown format"):
        await other.open()
    await other.close()
    assert (await store._bucket.small("store.json"))[0] == b"something else"


@pytest.mark.parametrize("id", [None, "name"])
@ensureDeferred
async def test_a_small_body_that_is_damaged_is_set_aside(store, id):
    """It is missing from then on, kept for who wants to look, and can be stored again."""
    body = body_of(1000)
    id = (await put(store, body, id, {"X-Name": "n"})).id
    entry = await store._bucket.entry(body_key(id))
    await store._bucket.put(body_key(id), b"!" + body[1:], entry.fields)
    with pytest.raises(NotFound, match="damaged"):
        await store.read(id)
    with pytest.raises(NotFound):
        await store.stat(id)
    assert await store.listing() == []
    assert await store.digests() == {}
    (kept,) = await store._bucket.keys("quarantine/")
    assert kept.startswith(f"quarantine/{partition(id)}/{id}-")
    await put(store, body, id)
    assert await content(await store.read(id)) == body


@pytest.mark.parametrize("size", [300_000, 6 * MEGABYTE])
@ensureDeferred
async def test_a_large_body_that_is_damaged_never_comes_to_its_end(server, prefix, reactor, size):
    """It ends with Mismatch before its last piece, and is missing from then on."""
    store = store_in(server, prefix, reactor, part_size=5 * MEGABYTE)
    await store.open()
    body = body_of(size)
    id = (await put(store, body)).id
    await store._bucket.put(body_key(id), body[:-1] + b"!")
    got = []
    with pytest.raises(Mismatch):
        await _read_into(got, await store.read(id))
    assert len(b"".join(got)) < size
    with pytest.raises(NotFound):
        await store.stat(id)
    assert await store.listing() == []
    await put(store, body)
    assert await content(await store.read(id)) == body
    await store.close()


@pytest.mark.parametrize("size", [300_000, 6 * MEGABYTE])
@ensureDeferred
async def test_what_is_damaged_is_mended_by_storing_it_again(server, prefix, reactor, size):
    """Also when nobody has read it meanwhile; its metadata stays."""
    store = store_in(server, prefix, reactor, part_size=5 * MEGABYTE)
    await store.open()
    body = body_of(size)
    id = (await put(store, body, metadata={"X-Name": "n"})).id
    entry = await store._bucket.entry(body_key(id))
    await store._bucket.put(body_key(id), b"!" + body[1:], entry.fields)
    await put(store, body, metadata={"X-Name": "other"})
    blob = await store.read(id)
    assert blob.info.metadata == {"X-Name": "n"}
    assert await content(blob) == body
    await store.close()


@ensureDeferred
async def test_another_body_of_the_same_hash_in_parts_is_a_conflict(server, prefix, reactor):
    """Its ETag is no MD5: it is read back."""
    store = store_in(server, prefix, reactor, part_size=5 * MEGABYTE)
    await store.open()
    first, second = colliding(6 * MEGABYTE)
    id = (await put(store, first)).id
    with pytest.raises(Conflict, match=f"another body with the id {id}"):
        await put(store, second)
    await put(store, first)
    assert await content(await store.read(id)) == first
    await store.close()


@ensureDeferred
async def test_what_is_stored_is_read_back_where_its_etag_is_no_md5(reactor):
    """As where a key of KMS encrypts it: it is not sent again, nor replaced by another body."""
    imitation = Imitation(reactor)
    store = imitation.store()
    await store.open()
    first, second = colliding(100_000)
    id = (await put(store, first)).id
    (key,) = [key for key in imitation.objects if key.endswith(body_key(id))]
    imitation._fields[key]["ETag"] = f'"{"0" * 32}"'
    stored = imitation.objects[key]
    await put(store, first)
    assert imitation.objects[key] is stored
    with pytest.raises(Conflict, match=f"another body with the id {id}"):
        await put(store, second)
    assert imitation.objects[key] is stored
    await imitation.stop()


@ensureDeferred
async def test_a_body_without_its_marker_is_completed_by_the_next_who_stores_it(store):
    """That is what a crash between the two leaves: it was never acknowledged."""
    body = body_of(1000)
    await store._bucket.put(body_key(content_id(body)), body)
    assert await store.listing() == []
    assert await content(await store.read(content_id(body))) == body
    await put(store, body)
    assert await store.listing() == [content_id(body)]
    assert len(await store.digests()) == 1


@ensureDeferred
async def test_a_marker_whose_body_has_been_gone_for_long_goes_when_that_is_noticed(store):
    """What cannot be read is not listed; but what has just been stored may be on its way."""
    id = (await put(store, b"gone")).id
    await store._bucket.delete(body_key(id))
    with pytest.raises(NotFound):
        await store.read(id)
    assert await store.listing() == [id]
    assert await store._blobs.forget(id, seconds=-1)
    assert await store.listing() == []
    assert await store.digests() == {}
    id = (await put(store, b"not gone")).id
    assert not await store._blobs.forget(id, seconds=-1)
    assert await store.listing() == [id]


@ensureDeferred
async def test_of_two_markers_the_lower_version_counts_until_one_is_removed(store):
    """A crash while metadata are settled can leave both; to settle again leaves one."""
    info = await put(store, b"settled", "name", {"X-A": "1"})
    hash = sha256(b"settled").hexdigest()
    both = [marker("name", info.size, each, hash) for each in ({"X-A": "1"}, {"X-A": "2"})]
    for each in both:
        await store._bucket.put(each.key, b"")
    first = min(each.version for each in both)
    listed = await store.blob_digests(partition("name"))
    assert listed["name"].version == first
    assert await store.listing() == ["name"]
    await store.reconcile("name", {"X-A": "1"})
    assert await store._bucket.keys("index/") == [both[0].key]


@ensureDeferred
async def test_listings_are_put_together_from_pages(server, prefix, reactor):
    """However few keys the server gives at once."""
    store = store_in(server, prefix, reactor, page=3)
    await store.open()
    ids = sorted([(await put(store, b"%d" % n)).id for n in range(10)])
    assert await store.listing() == ids
    assert await store.listing(after=ids[3]) == ids[4:]
    assert await store.listing(after=ids[3], limit=4) == ids[4:8]
    await store._digests.count()
    assert sum(each.count for each in (await store.digests()).values()) == 10
    await store.close()


@ensureDeferred
async def test_what_another_process_stores_is_counted(server, store, prefix, reactor):
    """At once where somebody looks, everywhere with the next count."""
    other = store_in(server, prefix, reactor)
    await other.open()
    assert await store.digests() == {}
    id = (await put(other, b"of the other")).id
    assert list(await store.blob_digests(partition(id))) == [id]
    assert await store.digests() == await other.digests() != {}
    await put(other, b"more of it")
    await store._digests.count()
    assert await store.digests() == await other.digests()
    assert await store.digests() is await store.digests()
    token = await store.lease(60)
    with pytest.raises(SOSError):
        await other.lease(60)
    await other.drop(id, token)
    await store._digests.count()
    assert await store.digests() == await other.digests()
    await other.close()


@ensureDeferred
async def test_of_several_that_ask_for_the_lease_at_once_one_has_it(server, prefix, reactor):
    """Whatever they were told, one token is valid."""
    stores = [store_in(server, prefix, reactor) for _ in range(4)]
    for each in stores:
        await each.open()
    asked = [deferred(each.lease(60)) for each in stores]
    valid = []
    for each in asked:
        try:
            token = await each
            await stores[0].drop("missing", token)
        except Conflict:
            continue
        valid.append(token)
    assert len(valid) == 1
    for each in stores:
        await each.close()


@ensureDeferred
async def test_the_first_of_an_opaque_name_wins_whoever_else_is_at_it(server, prefix, reactor):
    """Several processes, other bytes each: one succeeds, and its bytes are there."""
    stores = [store_in(server, prefix, reactor) for _ in range(4)]
    for each in stores:
        await each.open()
    await put(stores[0], b"first", "name")
    results = []
    for n, each in enumerate(stores):
        try:
            await put(each, b"%d" % n, "name")
        except SOSError as error:
            results.append(type(error).__name__)
    assert results == ["Conflict"] * 4
    for each in stores:
        assert await content(await each.read("name")) == b"first"
        await each.close()


@pytest.mark.parametrize("size", [900, 4096])
@ensureDeferred
async def test_metadata_of_any_length_and_bytes_come_back(store, size):
    """Also where they do not fit into the fields of an object, and when they are settled."""
    value = ("\udcff\u00e9" * size)[: (size - 3) // 3]
    info = await put(store, b"", "name", {"X-A": value})
    assert info.size == 0
    assert (await store.stat("name")).metadata == {"X-A": value}
    assert (await store.read("name")).info.metadata == {"X-A": value}
    await store.reconcile("name", {})
    await store.reconcile("name", {"X-A": value})
    await store.drop("name", await store.lease(60))
    assert await store._bucket.keys("metadata/") == []


@ensureDeferred
async def test_a_body_larger_than_a_part_goes_in_parts(server, prefix, reactor):
    """It is there when all of it is; what is broken off leaves nothing."""
    store = store_in(server, prefix, reactor, part_size=5 * MEGABYTE)
    await store.open()
    body = body_of(12 * MEGABYTE)
    for id, metadata in ((None, {"X-Name": "n"}), ("name", {})):
        info = await put(store, body, id, metadata)
        assert info.size == len(body)
        blob = await store.read(info.id)
        assert blob.info.metadata == metadata
        assert await content(blob) == body
    await put(store, body)
    assert len(await store.listing()) == 2
    part = await store.read("name", (5 * MEGABYTE - 10, 5 * MEGABYTE + 10))
    assert await content(part) == body[5 * MEGABYTE - 10 : 5 * MEGABYTE + 10]
    await store.reconcile("name", {"X-A": "1"})
    assert (await store.stat("name")).metadata == {"X-A": "1"}
    assert await content(await store.read("name")) == body
    await store.close()


@ensureDeferred
async def test_the_same_large_body_can_be_stored_by_two_processes_at_once(server, prefix, reactor):
    """Both succeed, there is one blob, and no part of a second."""
    stores = [store_in(server, prefix, reactor, part_size=5 * MEGABYTE) for _ in range(2)]
    for each in stores:
        await each.open()
    body = body_of(11 * MEGABYTE)
    for each in [deferred(put(store, body)) for store in stores]:
        assert (await each).id == content_id(body)
    for each in stores:
        assert await content(await each.read(content_id(body))) == body
        assert await each.listing() == [content_id(body)]
    while await _uploads(stores[0]):
        await deferred(_turn(reactor))
    for each in stores:
        await each.close()


@ensureDeferred
async def test_an_upload_in_parts_that_is_given_up_is_aborted(server, prefix, reactor, monkeypatch):
    """Cancelled between its parts: its parts are given back, and there is no blob."""
    store = store_in(server, prefix, reactor, part_size=5 * MEGABYTE)
    await store.open()
    _hold_parts(store, 3, monkeypatch)
    body = body_of(20 * MEGABYTE)
    upload = deferred(put(store, body))
    while not await _uploads(store):
        await deferred(_turn(reactor))
    upload.addErrback(lambda _: None)
    upload.cancel()
    while await _uploads(store):
        await deferred(_turn(reactor))
    with pytest.raises(NotFound):
        await store.stat(content_id(body))
    assert await store.listing() == []
    await store.close()


@ensureDeferred
async def test_an_upload_in_parts_that_is_given_up_while_it_is_begun_is_aborted(reactor):
    """The server has begun it, and its id comes when nobody waits for it any more."""
    imitation = Imitation(reactor)
    store = imitation.store()
    await store.open()
    body = body_of(9 * MEGABYTE)
    imitation.held = f"x/{body_key(content_id(body))}?uploads="
    upload = deferred(put(store, body))
    while not imitation.holding:
        await deferred(_turn(reactor))
    upload.cancel()
    with pytest.raises(CancelledError):
        await upload
    assert imitation.aborted == []
    imitation.let_go()
    while not imitation.aborted:
        await deferred(_turn(reactor))
    assert imitation.aborted == ["begun"]
    await imitation.stop()


def _hold_parts(store, number, monkeypatch):
    """Let parts from *number* on wait for ever."""
    ask = store._bucket.client.ask

    async def held(*what, **options):
        if int(options.get("query", {}).get("partNumber", 0)) >= number:
            await Deferred()
        return await ask(*what, **options)

    monkeypatch.setattr(store._bucket.client, "ask", held)


async def _uploads(store):
    """Return the uploads in parts that are under way."""
    bucket = store._bucket
    query = {"uploads": "", "prefix": bucket.prefix}
    found = await bucket.client.document("GET", "", "ListMultipartUploadsResult", query=query)
    return found.findall("Upload")


async def _read_into(got, blob):
    async for piece in blob.body:
        got.append(piece)


async def _turn(reactor):
    await deferLater(reactor, 0.01)


class _Cut(Protocol):
    """Takes a request, answers with the beginning of a body, and hangs up."""

    def dataReceived(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 200_000)
        self.transport.loseConnection()


@ensureDeferred
async def test_a_connection_that_is_cut_is_unavailable(reactor):
    """Never a body that ends early, and nothing is set aside."""
    port = reactor.listenTCP(0, Factory.forProtocol(_Cut), interface="127.0.0.1")
    url = f"s3://{BUCKET}/cut?endpoint=http://127.0.0.1:{port.getHost().port}"
    store = store_at(url, reactor)
    await let_in(store._bucket.client)
    blob = await store.read(content_id(b"cut"))
    with pytest.raises(Unavailable, match="was interrupted"):
        await content(blob)
    await store.close()
    await port.stopListening()
