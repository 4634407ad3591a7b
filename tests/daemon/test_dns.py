"""How daemons look names of hosts up."""

from __future__ import annotations

import threading
from socket import AF_INET, SOCK_STREAM, gaierror

import pytest
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.threads import deferToThread
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sos.daemon.dns import MOST_LOOKUPS, HostnameResolver, _Lookup
from sos.tap import api, blob
from tests.support.options import parsed


class Answers:
    """A name server: answers when it is let, each name on the thread that asks.

    :ivar asked: the names, as they were asked for.
    """

    def __init__(self):
        self.asked = []
        self.let = threading.Event()
        self.slow = set()

    def __call__(self, host, port, family=0, type=0, proto=0, flags=0):
        self.asked.append(host)
        if host in self.slow:
            self.let.wait()
        if host == "none":
            raise gaierror("no such name")
        if host == "trouble":
            raise OSError(24, "too many open files")
        return [(AF_INET, SOCK_STREAM, 6, "", (f"10.0.0.{len(host)}", port))]


@implementer(IResolutionReceiver)
class Receiver:
    def __init__(self):
        self.names, self.hosts = [], []
        self.complete = Deferred()

    def resolutionBegan(self, resolution):
        self.names.append(resolution.name)

    def addressResolved(self, address):
        self.hosts.append((address.host, address.port))

    def resolutionComplete(self):
        self.complete.callback(self.hosts)


@pytest.fixture
def answers():
    answers = Answers()
    yield answers
    answers.let.set()


@async_yield_fixture
async def names(reactor, answers):
    former = reactor.nameResolver
    names = HostnameResolver(reactor, answers)
    names.startService()
    yield names
    names.stopService()
    assert reactor.nameResolver is former


def looked_up(reactor, name, port=80):
    receiver = Receiver()
    reactor.nameResolver.resolveHostName(receiver, name, port)
    assert receiver.names == [name]
    return receiver.complete


@ensureDeferred
async def test_a_name_is_looked_up(reactor, names):
    """With the port; one that there is not has no address, and neither has one in trouble."""
    assert await looked_up(reactor, "abc") == [("10.0.0.3", 80)]
    assert await looked_up(reactor, "none") == []
    for _ in range(2):
        assert await looked_up(reactor, "trouble") == []
    assert verifyObject(IHostnameResolver, names)
    assert verifyObject(IResolutionReceiver, _Lookup(lambda: None))


@ensureDeferred
async def test_a_name_server_that_does_not_answer_holds_no_file_up(reactor, names, answers):
    """As many names as are looked up at once."""
    slow = [f"slow{n}" for n in range(MOST_LOOKUPS)]
    answers.slow.update(slow)
    waiting = DeferredList([looked_up(reactor, name) for name in slow])
    for _ in range(3):
        assert await deferToThread(len, "abc") == 3
    assert not waiting.called
    answers.let.set()
    assert all(success for success, _ in await waiting)


@ensureDeferred
async def test_files_that_are_slow_hold_no_name_up(reactor, names):
    """All threads for them are busy."""
    disk = threading.Event()
    most = reactor.getThreadPool().max
    files = DeferredList([deferToThread(disk.wait) for _ in range(2 * most)])
    assert await looked_up(reactor, "abc") == [("10.0.0.3", 80)]
    disk.set()
    await files


@ensureDeferred
async def test_one_name_takes_one_thread(reactor, names, answers):
    """However many ask for it; later it is looked up again, and so is another port."""
    answers.slow.add("slow")
    waiting = [looked_up(reactor, "slow") for _ in range(2 * MOST_LOOKUPS)]
    assert await looked_up(reactor, "abc") == [("10.0.0.3", 80)]
    answers.let.set()
    for each in waiting:
        assert await each == [("10.0.0.4", 80)]
    assert answers.asked.count("slow") == 1
    assert await looked_up(reactor, "slow", 81) == [("10.0.0.4", 81)]
    assert answers.asked.count("slow") == 2


@ensureDeferred
async def test_a_lookup_is_not_waited_for_when_the_daemon_stops(reactor, answers):
    """It has no end that is known."""
    names = HostnameResolver(reactor, answers)
    names.startService()
    answers.slow.add("slow")
    waiting = looked_up(reactor, "slow")
    names.stopService()
    assert not waiting.called
    answers.let.set()
    assert await waiting == [("10.0.0.4", 80)]


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(blob, ["--store", "data"]), (api, ["--blob-server", "http://a:1,http://b:1"])],
)
def test_each_daemon_looks_names_up_so(reactor, module, arguments, tmp_path, monkeypatch):
    """Until all else has stopped: parts stop the last one first."""
    monkeypatch.chdir(tmp_path)
    whole = module.makeService(parsed(module, *arguments), reactor)
    assert isinstance(next(iter(whole)), HostnameResolver)
