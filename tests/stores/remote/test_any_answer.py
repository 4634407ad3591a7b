"""Whatever a server answers, it is the server that failed, and not this program."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from sos.aio.threads import threads_of
from sos.errors import SOSError
from sos.http.client.agent import Agent
from sos.model.batch import Answer
from sos.model.membership import Announcer, Membership
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from tests.support.blobs import content_id
from tests.support.servers import serving

ID = "a" * 40
NAMES = [
    "count",
    "size",
    "store",
    "stored",
    "lease",
    "status",
    "id",
    "writable",
    "members",
    "scrub",
]
NAMES += ["reason", "blobs", "capacity", "free", "lost", "lost_ids", "fingerprint", "speakers"]
NAMES += ["copies", "groups", "error", "metadata", "body", "aaa", ID, "a", "0" * 32]
HEADERS = {
    b"ETag": [b'"x"', b"\xff", b'W/"\xc3\xa9"', b"x", b'"', b'"\xff"'],
    b"Content-Range": [b"bytes 0-4/5", b"bytes 0-4/" + b"9" * 30, b"bytes */5", b"\xff", b"bytes"],
    b"X-Sos-Manifest": [b"5", b"\xb2", b"9" * 30, b"-1", b""],
    b"X-Sos-Set-At": [b"5", b"\xb2", b"9" * 30, b"-1", b""],
    b"X-Mime-Type": [b"\xff", b"a/b", b"a" * 5000],
    b"Last-Modified": [b"\xff", b"Sat, 01 Jan 2000 00:00:00 +99999999999999"],
    b"Repr-Digest": [b"\xff", b"sha-256=:AAAA:"],
    b"Connection": [b"close", b"\xff"],
}
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from([10**400, -(10**30), 1e308, float("inf"), float("nan")]),
    st.sampled_from(["", "OK", "x", ID, "\ud800", "\u0000", "1" + "0" * 64, "0" * 32, "bytes"]),
    st.text(max_size=3),
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
    ),
    max_leaves=20,
)
TRAPS = [b"", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"\xff", b"[1", b'{"a"', b'"']
bodies = documents.map(lambda each: json.dumps(each).encode()) | st.sampled_from(TRAPS)
fields = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from(each) | st.binary(max_size=6).map(lambda v: bytes(b | 33 for b in v))
        for name, each in HEADERS.items()
    },
)
statuses = st.sampled_from([200, 200, 200, 206, 304, 204, 404, 409, 413, 416, 422, 500, 503, 507])


class Anything:
    """Answers requests with what it is given."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __call__(self, request):
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        request.finish(self.body)


async def upload(store):
    writer = store.writer(ID, {}, 5)
    await writer.write(b"hello")
    await writer.commit()


async def drain(store, span=None):
    body = (await store.read(ID, span)).body
    if not isinstance(body, bytes):
        async for _ in body:
            pass


QUESTIONS = [
    lambda store: store.stat(ID),
    drain,
    lambda store: drain(store, (0, 5)),
    upload,
    lambda store: store.put(ID, {}, b"hello"),
    lambda store: store.listing(),
    lambda store: store.blob_digests("aaa"),
    lambda store: store.reconcile(ID, {}),
    lambda store: store.lease(5),
    lambda store: store.drop(ID, "token"),
    lambda store: store.status(),
    lambda store: store.digests(),
]


async def ask_all(store):
    """Ask everything that is asked of a server, and the last again with what it has said."""
    for ask in (*QUESTIONS, QUESTIONS[-1]):
        with suppress(SOSError):
            await ask(store)


@given(statuses, fields, bodies)
@settings(suppress_health_check=list(HealthCheck))
@ensureDeferred
async def test_no_answer_is_our_mistake(reactor, status, headers, body):
    """Only what a store may raise comes of it."""
    agent = Agent(reactor)
    async with serving(Anything(status, headers, body), reactor, agent) as store:
        announcer = Announcer("somebody", Membership(1, {"g": {"a": 1.0}}))
        exchange = Exchange(store.name, agent, reactor)
        await ask_all(RemoteStore(exchange, threads_of(reactor), announcer=announcer))


BODY = b"the body"
WHOLE = Answer(200, len(BODY), b'{"X-A":"1"}', BODY).encode()


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=3),
    st.sampled_from([0, 0, 0, 1, len(BODY)]),
)
@settings(suppress_health_check=list(HealthCheck))
@ensureDeferred
async def test_any_answer_to_a_batch(reactor, changes, cut):
    """A body that was changed on its way is never returned."""
    changed = bytearray(WHOLE[: len(WHOLE) - cut])
    for position, value in changes:
        changed[position % len(changed)] = value
    agent = Agent(reactor)

    def answer(request):
        if request.path != b"/batch":
            request.setResponseCode(404)
        request.finish(bytes(changed))

    async with serving(answer, reactor, agent) as store:
        id = content_id(BODY)
        with suppress(SOSError):
            assert (await store.read(id)).body == BODY
        with suppress(SOSError):
            assert (await store.stat(id)).id == id
        with suppress(SOSError):
            assert (await store.put(id, {}, BODY)).size == len(BODY)
