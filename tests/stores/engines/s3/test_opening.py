"""A bucket is opened: what is there is recognised, and nothing is taken before that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from sos.errors import StoreUnusable, Unavailable
from sos.model.metadata import version
from sos.stores.engines.s3.records import document
from tests.stores.engines.s3.imitation import Imitation
from tests.stores.engines.s3.stores import store_in
from tests.support.blobs import content, put

BEFORE_IDS = b'{"format":"sos s3 store","version":1}\n'
LONG_AGO = "2020-01-01T00:00:00.000Z"


@async_yield_fixture
async def imitation(reactor):
    imitation = Imitation(reactor)
    yield imitation
    await imitation.stop()


def upload(number=1, **fields):
    fields = {"Key": "x/blobs/02a/02ad", "UploadId": f"u{number}", "Initiated": LONG_AGO} | fields
    elements = "".join(
        f"<{name}>{text}</{name}>" for name, text in fields.items() if text is not None
    )
    return f"<Upload>{elements}</Upload>"


def listed(*uploads):
    text = "".join(uploads)
    return f"<ListMultipartUploadsResult>{text}</ListMultipartUploadsResult>".encode()


@pytest.mark.parametrize(
    "broken",
    [
        {"Initiated": None},
        {"Initiated": ""},
        {"Initiated": "yesterday"},
        {"Initiated": "9999-12-31T23:59:59-23:59"},
        {"Initiated": (datetime.now(UTC) + timedelta(days=3)).isoformat()},
        {"UploadId": None},
        {"UploadId": ""},
        {"Key": None},
        {"Key": ""},
        {"Key": "x/"},
        {"Key": "x/blobs/a b"},
        {"Key": "x/blobs/\u00e4?uploads"},
        {"Key": "x/store.json"},
        {"Key": "y/blobs/02a/02ad"},
        {"Key": "blobs/02a/02ad"},
    ],
)
@ensureDeferred
async def test_an_upload_that_makes_no_sense_is_left_and_the_others_are_given_back(
    imitation, broken
):
    """What one of them lacks keeps neither the store from being opened nor another from going."""
    imitation.uploads = listed(upload(1, **broken), upload(2))
    store = imitation.store()
    await store.open()
    assert imitation.aborted == ["u2"]
    await put(store, b"body")


@pytest.mark.parametrize(
    "answer",
    [b"", b"junk", b"<Other/>", b"<?xml version='1.0' encoding='utf-1'?><a/>", listed("<")],
)
@ensureDeferred
async def test_uploads_that_are_not_listed_keep_nobody_out(imitation, answer):
    """A server may know of none."""
    imitation.uploads = answer
    store = imitation.store()
    await store.open()
    await put(store, b"body")


@ensureDeferred
async def test_a_time_without_a_zone_is_of_utc(imitation):
    """Wherever we are."""
    imitation.uploads = listed(upload(Initiated="2020-01-01T00:00:00"))
    await imitation.store().open()
    assert imitation.aborted == ["u1"]


@ensureDeferred
async def test_a_server_that_tells_no_time_gets_no_uploads_back(imitation):
    """Its store is opened all the same; only a lease needs the time."""
    imitation.without = ("Date",)
    imitation.uploads = listed(upload())
    store = imitation.store()
    await store.open()
    await put(store, b"body")
    assert imitation.aborted == []
    with pytest.raises(Unavailable, match="sent no Date"):
        await store.lease(60)


@ensureDeferred
async def test_a_body_can_be_read_without_what_tells_little_of_it(imitation):
    """But nothing is changed that is not known by its ETag, nor by an answer that says nothing."""
    store = imitation.store()
    await store.open()
    lower, higher = sorted(({"X-A": "1"}, {"X-A": "2"}), key=version)
    await put(store, b"body", "name", higher)
    for missing, message in (((), "invalid XML"), (("ETag", "Last-Modified"), "sent no ETag")):
        imitation.without = missing
        blob = await store.read("name")
        assert await content(blob) == b"body"
        assert (blob.info.stored_at is None) == bool(missing)
        with pytest.raises(Unavailable, match=message):
            await store.reconcile("name", lower)


@ensureDeferred
async def test_nothing_is_taken_while_a_store_is_being_opened(imitation):
    """Whatever is asked for, until it is known that this is the store."""
    imitation.held = "x/store.json"
    store = imitation.store()
    opening = deferred(store.open())
    while not imitation.holding:
        await deferLater(store._clock, 0.01)
    for ask in (
        lambda: put(store, b"body"),
        lambda: put(store, b"body", "name"),
        lambda: store.read("name"),
        lambda: store.stat("name"),
        store.listing,
        lambda: store.blob_digests("02a"),
        lambda: store.reconcile("name", {}),
        lambda: store.lease(60),
        lambda: store.release("token"),
        lambda: store.drop("name", "token"),
    ):
        with pytest.raises(Unavailable, match="not open"):
            await ask()
    status = await store.status()
    assert (status.writable, "not open" in status.reason) == (False, True)
    assert imitation.objects == {}
    imitation.let_go()
    await opening
    await put(store, b"body")
    assert (await store.status()).writable


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("x/store.json", b"{}"),
        ("x/store.json", b"[]"),
        ("x/store.json", b"\xff"),
        ("x/store.json", b""),
        ("x/store.json", b'{"format":"sos s3 store","version":2}'),
        ("x/store.json", b'{"format":"sos s3 store","version":1,"id":"one"}'),
        ("x/store.json", b'{"format":"sos s3 store","version":1,"id":7}'),
        ("x/photo.jpg", b"another's"),
        ("x/index/02a/02ad/1-2-3", b""),
    ],
)
@ensureDeferred
async def test_what_is_no_store_becomes_none(imitation, key, kept):
    """What is there stays as it is, and nothing is put beside it."""
    imitation.objects[key] = kept
    store = imitation.store()
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"store\.json"):
            await store.open()
    with pytest.raises(Unavailable, match="not open"):
        await put(store, b"body")
    assert imitation.objects == {key: kept}


@ensureDeferred
async def test_a_new_store_is_made_where_there_is_nothing(imitation, logged):
    """That is logged, with its id, by which it is known from then on."""
    imitation.exists = False
    imitation.objects["xy/other"] = b"of another prefix"
    store, again = imitation.store(), imitation.store()
    await store.open()
    assert store.identity == str(UUID(store.identity))
    (line,) = logged("created a new store")
    assert line == f"created a new store in {store.name}, id={store.identity}"
    await again.open()
    assert again.identity == store.identity
    assert len(logged("created a new store")) == 1


@ensureDeferred
async def test_what_a_console_calls_a_directory_is_empty(imitation):
    """It makes an object of the prefix itself."""
    imitation.objects["x/"] = b""
    store = imitation.store()
    await store.open()
    assert store.identity


@pytest.mark.parametrize("exists", [True, False])
@ensureDeferred
async def test_a_store_that_has_to_be_there_is_not_made(imitation, exists):
    """Nor is its bucket; one that is there is opened."""
    imitation.exists = exists
    with pytest.raises(StoreUnusable, match="contains no store"):
        await imitation.store().open(require=True)
    assert (imitation.exists, imitation.objects) == (exists, {})
    await imitation.store().open()
    await imitation.store().open(require=True)


@ensureDeferred
async def test_a_store_from_before_stores_had_ids_gets_one(imitation, logged):
    """Once; what it holds stays."""
    imitation.objects["x/store.json"] = BEFORE_IDS
    store, again = imitation.store(), imitation.store()
    await store.open(require=True)
    await put(store, b"body", "name")
    await again.open()
    assert store.identity == again.identity is not None
    assert imitation.objects["x/store.json"] == document(store.identity)
    assert await content(await again.read("name")) == b"body"
    assert len(logged("gave an id to the store")) == 1
    assert logged("created a new store") == []


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("before", [None, BEFORE_IDS])
@ensureDeferred
async def test_several_that_open_a_store_at_once_come_to_one_id(imitation, conditional, before):
    """At the latest when they are asked how they are."""
    imitation.conditional = conditional
    if before is not None:
        imitation.objects["x/store.json"] = before
    stores = [imitation.store() for _ in range(5)]
    await gatherResults([deferred(store.open()) for store in stores])
    await gatherResults([deferred(store.status()) for store in stores])
    assert len({store.identity for store in stores}) == 1


@ensureDeferred
async def test_a_bucket_that_is_emptied_is_not_writable(imitation):
    """And one in which another store was made has that one's id, which is logged."""
    store = imitation.store()
    await store.open()
    kept = dict(imitation.objects)
    imitation.objects.clear()
    assert "no longer contains the store" in (await store.status()).reason
    imitation.objects["x/store.json"] = b"another's"
    assert "not a store" in (await store.status()).reason
    imitation.objects.update(kept)
    assert (await store.status()).writable


@ensureDeferred
async def test_a_clock_that_is_off_is_told_as_that_until_it_is_right(
    server, prefix, reactor, monkeypatch
):
    """The keys are right; nothing has to be started again."""
    from botocore import auth

    now = auth.get_current_datetime
    store = store_in(server, prefix, reactor)
    for off, message in ((3600, "ahead of"), (-7200, "behind")):

        def wrong(*args, off=off, **options):
            return now(*args, **options) + timedelta(seconds=off)

        monkeypatch.setattr(auth, "get_current_datetime", wrong)
        with pytest.raises(
            Unavailable, match=f"clock of this machine is [0-9]+ s {message}"
        ) as error:
            await store.open()
        assert abs(int(str(error.value).partition(" s ")[0].rpartition(" ")[2]) - abs(off)) < 60
    monkeypatch.undo()
    await store.open()
    await put(store, b"body", "name")
    monkeypatch.setattr(auth, "get_current_datetime", wrong)
    for ask in (store.stat("name"), store.read("name"), put(store, b"another")):
        with pytest.raises(Unavailable, match="clock"):
            await ask
    assert "clock" in (await store.status()).reason
    monkeypatch.undo()
    assert await content(await store.read("name")) == b"body"
    assert (await store.status()).writable
    await store.close()
