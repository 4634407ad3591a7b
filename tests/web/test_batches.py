"""Batches, as a blob server answers them."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from zope.interface import implementer

from sos.errors import NoSpace, ReadOnly, Unavailable
from sos.http.server.access_log_lines import as_json
from sos.interfaces import SMALL_BODY, Blob, BlobInfo, IPromptStore
from sos.model import batch
from sos.model.batch import ALONE, FULL, READ, STAT, STORE, UNKNOWN, Record
from sos.model.ids import algorithm
from sos.model.metadata import SET_AT, to_header
from sos.stores.memory import MemoryStore
from sos.transfer import transfer
from sos.web.blob_api import BlobServer
from sos.web.routes import handler
from tests.support.blobs import body_of, content_id, manifest_of
from tests.support.conversation import Conversation
from tests.support.doubles import FailingStore

IDENTITY = "11111111-1111-4111-8111-111111111111"


@implementer(IPromptStore)
class Prompt(MemoryStore):
    """Has small blobs at hand."""

    def peek(self, id):
        blob = self.blobs.get(id)
        return blob if blob is not None and len(blob.body) <= SMALL_BODY else None

    async def put(self, id, metadata, body):
        return await transfer(body, self.writer(id, metadata, len(body)))


def read(id, request_id=b""):
    return Record(READ, request_id, id.encode())


def stat(id):
    return Record(STAT, b"", id.encode())


def store(id, body, metadata=b"{}"):
    return Record(STORE, b"", id.encode(), metadata, body)


class Client:
    """Sends batches to a blob server of *store*."""

    def __init__(self, store, **options):
        self.lines = []
        self.talk = Conversation(
            handler(BlobServer(store, **options).app),
            note=lambda *ended: self.lines.append(json.loads(as_json(*ended, 0))),
        )

    def raw(self, records, *headers):
        body = b"".join(each.encode() for each in records)
        return self.talk.ask("POST", "/batch", body, *headers)

    def ask(self, *records):
        answer = self.raw(records)
        assert answer.status == 200
        assert answer.headers[b"content-type"] == batch.MEDIA_TYPE
        assert answer.headers[b"cache-control"] == b"no-store"
        return list(batch.parse_answers(answer.body, len(records)))


@pytest.fixture(params=[MemoryStore, Prompt])
def kept(request):
    return request.param()


def test_each_operation_has_its_own_outcome(kept):
    """As if it had come by itself."""
    kept.identity = IDENTITY
    client = Client(kept)
    id = content_id(b"x")
    stored = client.ask(
        store("a", b"one", b'{"X-A":"1","X-Sos-Set-At":"5"}'),
        store(id, b"other"),
        store("b", b""),
        store("A", b"x"),
        store("c", b"x", b"[]"),
    )
    assert [each.status for each in stored] == [200, 422, 200, 400, 400]
    assert [each.size for each in stored] == [3, UNKNOWN, 0, UNKNOWN, UNKNOWN]
    assert stored[0].body == f"{IDENTITY} a".encode()
    assert stored[2].body == f"{IDENTITY} b".encode()
    assert b"id" in stored[3].body
    assert kept.blobs["a"].info.metadata == {"X-A": "1", SET_AT: "5"}
    found = client.ask(
        read("a"), stat("a"), read("none"), stat("none"), read("b"), store("a", b"2")
    )
    assert [each.status for each in found] == [200, 200, 404, 404, 200, 409]
    assert [each.body for each in found[:2]] == [b"one", b""]
    assert [each.size for each in found[:2]] == [3, 3]
    assert found[0].metadata == found[1].metadata == b'{"X-A":"1","X-Sos-Set-At":"5"}'
    assert (found[4].size, found[4].body) == (0, b"")


def test_an_empty_batch(kept):
    assert Client(kept).ask() == []


def test_metadata_without_a_time_gets_one(kept):
    """As of an upload by itself; a chunk has none."""
    Client(kept).ask(store("a", b"", b'{"X-A":"1"}'), store("b", b""))
    assert int(kept.blobs["a"].info.metadata[SET_AT]) > 10**14
    assert kept.blobs["b"].info.metadata == {}


def test_a_manifest_is_verified(kept):
    id, text, metadata = manifest_of(body_of(2_000), 1_000)
    encoded = to_header(metadata)
    answers = Client(kept).ask(store(id, text[:-1], encoded), store(id, text, encoded))
    assert [each.status for each in answers] == [422, 200]


def test_what_is_large_has_to_be_asked_for_by_itself(kept):
    """And is not counted as asked for, since it will be again."""
    client = Client(kept)
    kept.blobs["a"] = Blob(BlobInfo("a", SMALL_BODY + 1, {}), bytes(SMALL_BODY + 1))
    (answer,) = client.ask(store("b", bytes(SMALL_BODY + 1)))
    assert (answer.status, "b" in kept.blobs) == (ALONE, False)
    assert [line["path"] for line in client.lines] == ["/batch"]
    if isinstance(kept, Prompt):
        assert client.ask(read("a"))[0].status == ALONE
    assert client.ask(stat("a"))[0].size == SMALL_BODY + 1


def test_an_answer_is_bounded(kept):
    """What is behind that is asked for again."""
    client = Client(kept)
    for n in range(10):
        client.ask(store(f"a{n}", bytes(SMALL_BODY)))
    answers = client.ask(*(read(f"a{n}") for n in range(10)))
    assert [each.status for each in answers] == [200] * 4 + [ALONE] * 6
    many = 64
    metadata = to_header({"X-A": '"' * 4000})
    for n in range(many):
        client.ask(store(f"b{n}", bytes(100), metadata))
    for ask in (read, stat):
        answer = client.raw([ask(f"b{n}") for n in range(many)])
        assert len(answer.body) <= FULL + SMALL_BODY < batch.MOST_BYTES
        answers = batch.parse_answers(answer.body, many)
        assert {each.status for each in answers} == {200, ALONE}


def test_the_limit_of_a_body(kept):
    answers = Client(kept, max_size=3).ask(store("a", b"abc"), store("b", b"abcd"))
    assert [each.status for each in answers] == [200, 413]
    assert list(kept.blobs) == ["a"]


@pytest.mark.parametrize("body", [b"{", b"{}", b"\x01", b"\x09" * 30])
def test_what_is_no_batch(kept, body):
    """As of the release before, which sent JSON; nothing is stored of it."""
    talk = Client(kept).talk
    assert talk.ask("POST", "/batch", body).status == 400
    assert talk.ask("POST", "/batch", store("a", b"x").encode() + body).status == 400
    assert talk.ask("GET", "/batch?ids=a").status == 405
    assert kept.blobs == {}


def test_a_batch_is_bounded(kept):
    talk = Client(kept).talk
    assert talk.ask("POST", "/batch", bytes(batch.MOST_BYTES + 1)).status == 413
    many = store("a", b"x").encode() * (batch.MOST_RECORDS + 1)
    assert talk.ask("POST", "/batch", many).status == 400
    assert kept.blobs == {}


def test_a_batch_is_checked_against_its_digest(kept):
    """Nothing is stored of one that was changed on the way."""
    client = Client(kept)
    sent = store("a", b"")
    digest = b64encode(sha256(sent.encode()).digest())
    header = b"Content-Digest: sha-256=:%s:" % digest
    assert client.raw([store("b", b"")], header).status == 400
    assert kept.blobs == {}
    assert client.raw([sent], header).status == 200


@pytest.mark.parametrize(
    ("error", "status"), [(NoSpace("full"), 507), (ReadOnly("ro"), 503), (Unavailable("no"), 503)]
)
def test_failures_of_the_store(error, status):
    """Each operation gets the status of its error, and the reason."""
    client = Client(FailingStore(error=error))
    answers = client.ask(store("a", b"x"), read("b"), stat("c"))
    assert [each.status for each in answers] == [status] * 3
    assert answers[0].body == str(error).encode()


def test_a_mistake_of_ours_is_that_of_one_operation(kept, monkeypatch):
    """The others have their answers."""

    async def stat_none(id):
        raise ZeroDivisionError

    monkeypatch.setattr(kept, "stat", stat_none)
    client = Client(kept)
    assert [each.status for each in client.ask(store("a", b"x"), stat("a"))] == [200, 500]


def test_metrics_and_the_access_log_have_each_operation(kept):
    """With the id of the client's request, by which its lines are found."""
    client = Client(kept)
    client.ask(store("a", b"one"))
    client.lines.clear()
    client.ask(read("a", b"client-1"), read("none", b"client-2"), stat("a"))
    *operations, whole = client.lines
    assert [
        [line[name] for name in ("request_id", "method", "path", "route", "status", "bytes", "id")]
        for line in operations[:2]
    ] == [
        ["client-1", "GET", "/blob/a", "/blob/<id>", 200, 3, "a"],
        ["client-2", "GET", "/blob/none", "/blob/<id>", 404, 0, "none"],
    ]
    assert operations[2]["method"] == "HEAD"
    assert operations[2]["request_id"] not in ("", whole["request_id"])
    assert (whole["path"], whole["status"]) == ("/batch", 200)
    routes = client.talk.site.request_metrics.document()["routes"]
    found = {(each["route"], each["method"]): each for each in routes}
    assert found["/blob/<id>", "GET"]["statuses"] == {"200": 1, "404": 1}
    assert found["/blob/<id>", "POST"]["bytes_in"] == 3
    assert found["/batch", "POST"]["statuses"] == {"200": 2}


def test_an_unreadable_request_id_is_replaced(kept):
    """Nothing of a batch reaches a log unchecked."""
    client = Client(kept)
    client.ask(read("none", b'a\r\nb"'), read('a"\r\n', b""))
    assert "\r" not in client.lines[0]["request_id"]


@ensureDeferred
async def test_a_client_that_goes_away():
    """The work for it is cancelled, and recorded once."""
    ended = []

    class Slow(MemoryStore):
        async def stat(self, id):
            try:
                await Deferred()
            finally:
                ended.append(id)

    client = Client(Slow())
    body = stat("a").encode() + stat("b").encode()
    client.talk.send(b"POST /batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
    client.talk.send(body)
    assert ended == []
    with capturedLogs() as logged:
        client.talk.transport.drop()
    assert sorted(ended) == ["a", "b"]
    assert logged == []
    assert [line["status"] for line in client.lines] == [499]


@ensureDeferred
async def test_work_that_goes_on_after_its_client_has_gone():
    """It ends for itself."""
    go_on = Deferred()

    class Stubborn(MemoryStore):
        async def stat(self, id):
            try:
                await Deferred()
            finally:
                await go_on

    client = Client(Stubborn())
    body = stat("a").encode()
    head = b"POST /batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    client.talk.send(head + body)
    with capturedLogs() as logged:
        client.talk.transport.drop()
        go_on.callback(None)
    assert go_on.result is None  # not the failure of who waited for it
    assert logged == []


@ensureDeferred
async def test_operations_are_carried_out_together(kept):
    """None waits for one before it."""
    begun, go_on = [], Deferred()

    class Waiting(MemoryStore):
        async def stat(self, id):
            begun.append(id)
            await go_on
            return BlobInfo(id, 1, {})

    client = Client(Waiting())
    body = stat("a").encode() + stat("b").encode()
    head = b"POST /batch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert client.talk.send(head + body) == b""
    assert begun == ["a", "b"]
    go_on.callback(None)
    client.talk.clock.advance(0)
    assert client.talk.transport.value().startswith(b"HTTP/1.1 200")


def test_a_damaged_blob_is_not_served(kept):
    """The store finds out, and says so."""

    class Damaged(MemoryStore):
        async def read(self, id, span=None):
            raise Unavailable("it is damaged")

    if isinstance(kept, Prompt):
        kept.blobs["a"] = Blob(BlobInfo("a", SMALL_BODY + 1, {}), bytes(SMALL_BODY + 1))
        assert Client(kept).ask(read("a"))[0].status == ALONE
    else:
        assert Client(Damaged()).ask(read("a"))[0].status == 503


mutations = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)


def mutated(text, changes, cut):
    """Return *text* with some of its bytes replaced, and so many cut off at its end."""
    changed = bytearray(text)
    for position, value in changes:
        if changed:
            changed[position % len(changed)] = value
    return bytes(changed[: len(changed) - cut])


@given(mutations, st.sampled_from([0, 0, 0, 1, 5, 9]))
def test_any_batch(changes, cut):
    """It is refused as a whole, or answered in full; nothing is stored under another id."""
    kept = Prompt()
    client = Client(kept)
    records = [
        store(content_id(b"one"), b"one", b'{"X-A":"1","X-Sos-Set-At":"5"}'),
        read(content_id(b"one"), b"client"),
        store("name", b"two"),
        stat("name"),
    ]
    body = mutated(b"".join(each.encode() for each in records), changes, cut)
    with capturedLogs() as logged:
        answer = client.talk.ask("POST", "/batch", body)
    assert answer.status in (200, 400)
    assert [event for event in logged if "log_failure" in event] == []
    if answer.status == 200:
        count = len(batch.parse(body))
        statuses = {each.status for each in batch.parse_answers(answer.body, count)}
        assert statuses <= {200, ALONE, 400, 404, 409, 422}
    for id, blob in kept.blobs.items():
        assert algorithm(id) is None or content_id(blob.body) == id
