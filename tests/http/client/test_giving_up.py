"""Clients that give requests up, at any moment, and what becomes of the requests of others."""

from __future__ import annotations

import random
from collections import Counter
from hashlib import sha256

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred

from sos.http.client.agent import Agent
from sos.http.client.bodies import ResponseBody, StreamedBody
from sos.http.server.site import Site
from sos.stores.remote.client import gather

CLIENTS = 40
# Some come in one read with their head, some in several.
SIZES = (0, 10, 5000, 20_000, 100_000)
BODY = random.Random(1).randbytes(SIZES[-1])


class Server:
    """Answers a GET with so many bytes as its path says, a POST with the hash of its body.

    :ivar asked: how often, by path.
    """

    def __init__(self):
        self.asked = Counter()

    def __call__(self, request):
        self.asked[request.path] += 1
        request.work = Deferred.fromCoroutine(self._answer(request))
        request.work.addErrback(lambda failure: request.abort())

    async def _answer(self, request):
        if request.method == b"POST":
            hash = sha256()
            async for piece in request.body:
                hash.update(piece)
            request.finish(hash.digest())
        else:
            request.finish(BODY[: int(request.path.split(b"/")[1])])


class Clients:
    """Ask one request after the other, each a different one, and give up some of the others'."""

    def __init__(self, agent, reactor, base, chance):
        self.agent, self.reactor, self.base, self.chance = agent, reactor, base, chance
        self.begun = self.whole = self.given_up = 0
        self.underway = []

    async def ask(self, most):
        while self.begun < most:
            self.begun += 1
            asked = Deferred.fromCoroutine(self._one(self.begun))
            self.underway.append(asked)
            try:
                await asked
                self.whole += 1
            except CancelledError:
                self.given_up += 1
            finally:
                self.underway.remove(asked)
            if self.underway and self.chance.random() < 0.1:
                self.chance.choice(self.underway).cancel()

    async def _one(self, number):
        size = self.chance.choice(SIZES)
        uri = b"%s/%d/%d" % (self.base, size, number)
        method = self.chance.choice([b"GET", b"GET", b"HEAD", b"POST"])
        if method != b"POST":
            answer = await self._body(self.agent.request(method, uri))
            assert answer == (b"" if method == b"HEAD" else BODY[:size])
            return
        body = StreamedBody(self.chance.choice([size, None]), self.reactor)
        answered = self.agent.request(method, uri, None, body)
        feeding = Deferred.fromCoroutine(self._feed(body, size))
        assert await self._body(answered) == sha256(BODY[:size]).digest()
        await feeding

    async def _body(self, answered):
        return await gather(ResponseBody(await answered, self.reactor), 1 << 20)

    async def _feed(self, body, size):
        for start in range(0, size, 4000):
            if not await body.write(BODY[start : min(size, start + 4000)]):
                return
        body.finish()


@pytest.mark.parametrize("most", [8, 256])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@ensureDeferred
async def test_what_one_gives_up_is_of_no_effect_to_others(kind, most, tmp_path, reactor, long):
    """Each of their requests is done, once, and answered as it should be."""
    server = Server()
    site = Site(server, reactor=reactor)
    if kind == "tcp":
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        base = b"http://127.0.0.1:%d" % port.getHost().port
    else:
        port = reactor.listenUNIX(str(tmp_path / "socket"), site)
        base = b"http+unix://" + bytes(tmp_path / "socket").replace(b"/", b"%2F")
    agent = Agent(reactor, most)
    clients = Clients(agent, reactor, base, random.Random(2))
    requests = 50_000 if long else 2000
    for each in [Deferred.fromCoroutine(clients.ask(requests)) for _ in range(CLIENTS)]:
        await each
    await agent.close()
    await port.stopListening()
    await site.drain(10)
    assert clients.whole + clients.given_up == requests
    assert 0 < clients.given_up < requests / 4
    assert {path: times for path, times in server.asked.items() if times > 1} == {}
