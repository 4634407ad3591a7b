"""Each request has a name, which goes with all that is done for it."""

from __future__ import annotations

import re

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from sos.aio.tasks import run
from sos.aio.threads import threads_of
from sos.aio.timeouts import Deadlines
from sos.http.client.agent import Agent
from sos.http.server.request_ids import CURRENT
from sos.interfaces import Member
from sos.model.metadata import EMPTY
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from sos.web.blob_api import BlobServer
from sos.web.public_api import DownloadServer, UploadServer
from sos.web.routes import handler
from tests.support.blobs import content_id, put
from tests.support.conversation import Conversation, request
from tests.support.doubles import FailingStore
from tests.support.servers import serving


def ask(*headers, face=None):
    talk = Conversation(handler((face or BlobServer(MemoryStore())).app))
    return talk.ask("GET", "/alive", None, *headers).headers[b"x-request-id"]


@pytest.mark.parametrize(
    "given", [b"a", b"550e8400-e29b-41d4-a716-446655440000", b"x" * 64, b"a.b~!"]
)
def test_a_client_may_name_its_request(given):
    """A token of up to 64 characters comes back as it is."""
    assert ask(b"X-Request-Id: " + given) == given


@pytest.mark.parametrize("given", [b"", b"x" * 65, b"a b", b'"a"', b"a\\n", b"a,b", b"\xc3\xa4"])
def test_a_name_that_is_none_is_replaced(given):
    """What could not stand in a log as it is, or would fill it."""
    assert re.fullmatch(rb"[0-9a-f]{12}-[0-9a-f]+", ask(b"X-Request-Id: " + given))
    assert ask(b"X-Request-Id: a", b"X-Request-Id: b") != b"a, b"


def test_others_get_names_of_their_own():
    """No two have the same, and errors have one as well."""
    names = [ask() for _ in range(3)]
    assert len(set(names)) == 3
    talk = Conversation(handler(BlobServer(MemoryStore()).app))
    answers = talk.answers(request("GET", "/nothing") + request("GET", "/blob/NO"))
    assert all(b"x-request-id" in answer.headers for answer in answers)


def test_it_is_never_stored():
    """Nor does a stored one change what an answer has."""
    store = MemoryStore()
    talk = Conversation(handler(BlobServer(store).app))
    id = content_id(b"x")
    talk.answers(request("POST", f"/blob/{id}", b"x", b"X-Request-Id: mine", b"X-Kept: yes"))
    (answer,) = talk.answers(request("GET", f"/blob/{id}"))
    assert answer.headers[b"x-kept"] == b"yes"
    assert answer.headers[b"x-request-id"] != b"mine"


def test_who_waits_goes_on_with_its_own():
    """Whoever sets it going again; and nothing of it stays behind."""
    seen = []
    first, second = Deferred(), Deferred()

    async def work(awaited):
        seen.append(CURRENT.get())
        await awaited
        seen.append(CURRENT.get())

    for name, awaited in ((b"one", first), (b"two", second)):
        before = CURRENT.set(name)
        run(work(awaited), lambda outcome: seen.append(CURRENT.get()))
        CURRENT.reset(before)
    second.callback(None)
    first.callback(None)
    assert seen == [b"one", b"two", b"two", b"two", b"one", b"one"]
    assert CURRENT.get() is None


def test_who_is_late_is_told_in_its_own():
    """The timer is everybody's."""
    clock, seen = Clock(), []
    deadlines = Deadlines(clock, 0.5)

    class Late:
        def on_deadline(self):
            seen.append(CURRENT.get())

    before = CURRENT.set(b"one")
    deadlines.set(Late(), 1.0)
    CURRENT.reset(before)
    clock.pump([0.5] * 4)
    assert seen == [b"one"]


class Noting(MemoryStore):
    """Notes for which request it is used."""

    def __init__(self):
        super().__init__()
        self.names = []

    def writer(self, id=None, metadata=EMPTY, size=None):
        self.names.append(("store", CURRENT.get()))
        return super().writer(id, metadata, size)

    async def read(self, id, span=None):
        self.names.append(("read", CURRENT.get()))
        return await super().read(id, span)


@pytest.mark.parametrize("size", [5, 100_000])
@ensureDeferred
async def test_servers_are_told_for_whom_they_are_asked(reactor, size):
    """Also the second one that is asked, the one that gets a copy in the background, in batches."""
    first, second = Noting(), Noting()
    faces = [handler(BlobServer(each).app) for each in (first, second)]
    agent = Agent(reactor)
    async with serving(faces[0], reactor, agent) as one, serving(faces[1], reactor) as two:
        groups = {"default": (Member(one), Member(two))}
        store = ReplicatedStore(groups, threads_of(reactor), reactor, copy_counts=CopyCounts(1, 2))
        talk = Conversation(handler(UploadServer(store).app))
        talk.send(request("POST", "/upload", bytes(size), b"X-Request-Id: up"))
        while store.background.count or not (first.names and second.names):
            await wait(reactor)
        assert first.names == second.names == [("store", b"up")]
        talk = Conversation(handler(DownloadServer(store).app))
        talk.send(request("GET", "/fetch/nothing", None, b"X-Request-Id: down"))
        while b"404" not in talk.transport.value():
            await wait(reactor)
        assert ("read", b"down") in first.names
        assert ("read", b"down") in second.names
        # What nobody has asked for has no name but one of its server.
        await put(two, bytes(size + 1))
        assert second.names[-1][0] == "store"
        assert second.names[-1][1] not in (None, b"up", b"down")
        store.stop()


async def wait(reactor):
    turned = Deferred()
    reactor.callLater(0.01, turned.callback, None)
    await turned


def test_what_is_logged_of_a_failure_names_the_request():
    """In the text, and where programs look for it."""
    events = []
    globalLogPublisher.addObserver(events.append)
    try:
        talk = Conversation(handler(DownloadServer(FailingStore()).app))
        talk.send(request("GET", "/fetch/abc", None, b"X-Request-Id: mine"))
    finally:
        globalLogPublisher.removeObserver(events.append)
    (event,) = [event for event in events if event.get("request_id") == "mine"]
    assert "request_id={request_id}" in event["log_format"]
