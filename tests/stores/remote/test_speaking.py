"""A store that tells its server by which members it goes, and hears of others."""

from __future__ import annotations

import json

import pytest
from pytest_twisted import ensureDeferred

from sos.aio.threads import threads_of
from sos.errors import NotFound, SOSError, Unavailable
from sos.http.client.agent import Agent
from sos.model.membership import MEMBERS, Announcer, Membership
from sos.stores.memory import MemoryStore
from sos.stores.remote.client import Exchange
from sos.stores.remote.store import RemoteStore
from sos.web.blob_api import BlobServer
from sos.web.errors import answer_json
from sos.web.routes import handler
from tests.support.replicas import replicated
from tests.support.servers import serving


def announcer(name, *names):
    return Announcer(f"host/1/{name}", Membership(2, {"group0": dict.fromkeys(names, 1.0)}))


def speaking(store, reactor, agent, who):
    exchange = Exchange(store.name, agent, reactor)
    return RemoteStore(exchange, threads_of(reactor), announcer=who)


def counted(app, asked):
    answer = handler(app)

    def count(request):
        asked.append((request.method, request.path))
        answer(request)

    return count


@ensureDeferred
async def test_what_it_goes_by_is_told_once(reactor):
    """After that its fingerprint is enough; and when it leaves it is forgotten."""
    agent, asked = Agent(reactor), []
    server = BlobServer(MemoryStore())
    async with serving(counted(server.app, asked), reactor, agent) as plain:
        one = speaking(plain, reactor, agent, announcer("one", "a", "b"))
        for _ in range(3):
            assert (await one.status()).others == ()
        assert asked == [(b"GET", b"/status"), (b"POST", b"/members"), *[(b"GET", b"/status")] * 2]
        two = speaking(plain, reactor, agent, announcer("two", "b", "c"))
        (view,) = (await two.status()).others
        assert (view.senders, view.unknown) == (("host/1/one",), ("a",))
        (view,) = (await one.status()).others
        assert (view.senders, view.unknown) == (("host/1/two",), ("c",))
        (first, second) = (await plain.status()).others  # who only looks is told all
        assert first.unknown is second.unknown is None
        await two.leave()
        assert (await one.status()).others == ()
        assert (await two.status()).others  # it does not speak any more
        assert (await one.status()).others == ()


@ensureDeferred
async def test_no_member_is_said_to_lack_what_an_unknown_one_may_have(reactor):
    """As soon as others have told of it; and it is again, when they are gone."""
    agent = Agent(reactor)
    async with serving(handler(BlobServer(MemoryStore()).app), reactor, agent) as plain:
        one = speaking(plain, reactor, agent, announcer("one", plain.name))
        two = speaking(plain, reactor, agent, announcer("two", plain.name, "http://c:1"))
        store = replicated(reactor, [one])
        await two.status()
        with pytest.raises(Unavailable, match="another API server also uses http://c:1"):
            await store.stat("abc")
        assert [str(each)[:10] for each in store.errors()] == ["host/1/two"]
        await two.leave()
        assert await store.look() == []
        with pytest.raises(NotFound):
            await store.stat("abc")


@pytest.mark.parametrize(
    "members",
    [
        7,
        [7],
        [{}],
        {"a": 1},
        [{"fingerprint": 32 * "0", "speakers": ["x"], "members": {"copies": 2, "groups": {}}}],
        [{"fingerprint": 32 * "0", "speakers": ["x"], "members": 7}],
    ],
)
@ensureDeferred
async def test_a_server_that_tells_nonsense_has_failed(reactor, members):
    agent = Agent(reactor)

    def answer(request):
        document = {**dict.fromkeys(("reason", "blobs", "size", "capacity", "free"))}
        request.write(answer_json(request, {**document, "writable": True, "members": members}))
        request.finish()

    async with serving(answer, reactor, agent) as plain:
        for who in (None, announcer("one", "a")):
            with pytest.raises(Unavailable):
                await speaking(plain, reactor, agent, who).status()


@ensureDeferred
async def test_a_server_of_the_release_before_is_told_nothing(reactor):
    """It does not listen: nobody is known to disagree, as before."""
    agent, asked = Agent(reactor), []

    def answer(request):
        asked.append(request.method)
        document = dict.fromkeys(("reason", "blobs", "size", "capacity", "free"))
        request.write(json.dumps({**document, "writable": True}).encode())
        request.finish()

    async with serving(answer, reactor, agent) as plain:
        status = await speaking(plain, reactor, agent, announcer("one", "a")).status()
        assert (status.others, status.id, asked) == (None, None, [b"GET"])


@ensureDeferred
async def test_what_a_blob_server_is_told_is_checked(reactor):
    """A header or a membership that is none is refused, and not remembered."""
    agent = Agent(reactor)
    good = announcer("one", "a")
    async with serving(handler(BlobServer(MemoryStore()).app), reactor, agent) as plain:
        exchange = Exchange(plain.name, agent, reactor)
        for method, path, header, body in (
            ("GET", "/status", "nonsense", None),
            ("POST", "/members", "nonsense", good.membership.encoded),
            ("POST", "/members", None, good.membership.encoded),
            ("POST", "/members", good.header, b"{}"),
            ("POST", "/members", good.header, b" " * 70_000),
            ("DELETE", "/members", None, None),
        ):
            fields = {} if header is None else {MEMBERS: header}
            with pytest.raises(SOSError, match="answered 4"):
                await exchange.answered(exchange.send(method, path, fields, body, 10.0))
        assert (await plain.status()).others == ()
