"""What the workers of a daemon ask each other, and tell together."""

from __future__ import annotations

import json

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos import __version__
from sos.interfaces import Member
from sos.replication import Policy, ReplicationService
from sos.scrub import Report
from sos.stores.memory import MemoryStore
from sos.stores.replicated import Copying, ReplicatedStore
from sos.survey import LEFT_ALONE, UP, parse_standings
from sos.tap.hints import HINT_SECONDS, PassingOn, take_from
from sos.tap.overview import ClusterPart, Overview, StorePart
from sos.tap.siblings import SIBLING_SECONDS, Siblings
from sos.tap.worker import Handed, Worker
from tests.support.blobs import content_id, put
from tests.support.doubles import FailingStore


class Crew:
    """Workers whose messages pass through here, as JSON.

    :ivar gone: the numbers of those that get none.
    """

    def __init__(self, count):
        self.clock = Clock()
        self.clock.advance(1000)
        self.gone = set()
        self.siblings = {number: self._siblings(number, count) for number in range(1, count + 1)}
        handed = Handed("module", {}, (), None, 0, count, started_at=900.0)
        self.workers = [Worker(n, each, handed, None, None) for n, each in self.siblings.items()]

    def _siblings(self, number, count):
        def send(targets, message):
            passed_on = json.loads(json.dumps(message))
            for target in targets:
                if target not in self.gone:
                    self.siblings[target].received(number, passed_on)

        others = [other for other in range(1, count + 1) if other != number]
        return Siblings(others, send, self.clock)


@pytest.fixture
def crew():
    return Crew(3)


def asked(work):
    outcome = []
    deferred(work).addCallbacks(outcome.append, lambda failure: failure.raiseException())
    return outcome


class TestSiblings:
    def test_each_is_asked_by_any(self, crew):
        """And tells what it knows at that time."""
        for number, each in crew.siblings.items():
            each.tell = lambda number=number: {"number": number}
        assert asked(crew.siblings[2].ask()) == [{1: {"number": 1}, 3: {"number": 3}}]
        crew.siblings[1].tell = lambda: "news"
        assert asked(crew.siblings[3].ask()) == [{1: "news", 2: {"number": 2}}]
        assert crew.clock.getDelayedCalls() == []

    def test_who_does_not_answer_is_waited_for_and_named(self, crew):
        """For so long, while others can ask."""
        crew.siblings[1].tell = lambda: "first"
        crew.gone = {3}
        told = asked(crew.siblings[2].ask())
        crew.clock.advance(SIBLING_SECONDS - 0.1)
        assert told == []
        again = asked(crew.siblings[2].ask())
        crew.clock.advance(0.2)
        assert told == [{1: "first", 3: None}]
        assert again == []
        # What comes too late for one question is no answer to another.
        crew.siblings[2].received(3, {"answer": "late", "to": 1})
        assert again == []
        crew.siblings[2].received(3, {"answer": "in time", "to": 2})
        assert again == [{1: "first", 3: "in time"}]

    def test_who_cannot_tell_what_it_knows_is_silent(self, crew):
        """And goes on: it is not the one who asks that finds out why."""
        crew.siblings[1].tell = lambda: 1 / 0
        crew.siblings[3].tell = lambda: "third"
        told = asked(crew.siblings[2].ask())
        crew.clock.advance(SIBLING_SECONDS)
        assert told == [{1: None, 3: "third"}]

    def test_news_are_for_one_alone(self, crew):
        """If that is there; it is not an answer to anything."""
        learned = []
        for number, each in crew.siblings.items():
            each.learn = lambda news, number=number: learned.append((number, news))
        crew.siblings[2].inform(1, {"news": [1]})
        assert learned == [(1, {"news": [1]})]
        crew.gone = {1}
        crew.siblings[2].inform(1, "lost")
        assert len(learned) == 1

    def test_who_is_alone_asks_nobody(self):
        """And waits for nothing."""
        assert asked(Siblings([], None, None).ask()) == [{}]


def cluster_of(crew, replicates=1, b_is_down_for=None):
    """Return the stores of each worker before the same two servers, and their overviews."""
    a, well = MemoryStore("a"), MemoryStore("b")
    members, overviews = [], []
    for worker in crew.workers:
        b = FailingStore("b") if worker.number == b_is_down_for else well
        groups = {"default": (Member(a), Member(b, preferred=True))}
        store = ReplicatedStore(groups, maybeDeferred, crew.clock, copying=Copying(1, 2))
        replication = None
        if worker.number == replicates:
            replication = ReplicationService(
                groups, Policy(2), 10.0, crew.clock, set(), lambda: 5000.0
            )
            replication.startService()
        members.append(store)
        part = ClusterPart(store, replication)
        overviews.append(Overview(part, {"min-copies": 2}, worker, crew.clock))
    return members, overviews


class TestACluster:
    def test_counts_of_all_workers_add_up(self, crew):
        """Whichever of them is asked."""
        members, overviews = cluster_of(crew)
        for number, store in enumerate(members):
            for each in range(number + 1):
                asked(put(store, b"%d %d" % (number, each)))
            work = Deferred()
            store.background.add(100, work, work.cancel)
        crew.clock.advance(7)
        documents = [asked(overview.document())[0] for overview in overviews]
        assert documents[0] == documents[1] == documents[2]
        told = documents[0]
        assert (told["version"], told["uptime"]) == (__version__, 107.0)
        assert told["settings"] == {"min-copies": 2}
        assert told["workers"] == {"count": 3, "silent": []}
        assert told["background"] == {"copies": 3, "bytes": 300}
        (servers,) = parse_standings(told["groups"]).values()
        assert [(each.url, each.state, each.requests) for each in servers] == [
            ("a", UP, 6),
            ("b", UP, 6),
        ]
        assert [each.p95_ms for each in servers] == [0.0, 0.0]

    def test_a_server_is_as_the_worst_off_worker_sees_it(self, crew):
        """It may be this or another."""
        members, overviews = cluster_of(crew, b_is_down_for=2)
        asked(put(members[1], b"x"))
        for overview in overviews:
            (servers,) = parse_standings(asked(overview.document())[0]["groups"]).values()
            assert [each.state for each in servers] == [UP, LEFT_ALONE]
            assert servers[1].reason == "b is down"
        for store in members:
            store.stop()

    def test_replication_is_told_by_the_one_that_does_it(self, crew):
        """When, how long, and what it did."""
        _, overviews = cluster_of(crew, replicates=2)
        for overview in overviews:
            assert asked(overview.document())[0]["replication"] == {
                "running_since": None,
                "last": None,
                "lag": 0.0,
                "hints": 0,
                "passes": {"ok": 0, "incomplete": 0, "failed": 0},
                "made": {"copied": 0, "bytes": 0, "failed": 0, "moved": 0},
            }
        crew.clock.advance(12)
        for overview in overviews:
            told = asked(overview.document())[0]["replication"]
            assert told["passes"]["ok"] == 1
            last = told["last"]
            assert (last["started_at"], last["seconds"], last["error"]) == (5000.0, 0.0, None)
            assert (last["summary"]["servers"], last["summary"]["copied"]) == (2, 0)

    @ensureDeferred
    async def test_what_each_notices_is_told_to_the_one_that_replicates(self, crew):
        """Many hints by one message, none twice, and again when it is noticed again."""
        hints = {number: set() for number in (1, 2, 3)}
        take_from(crew.siblings[1], hints[1])
        passing = [PassingOn(hints[n], crew.siblings[n], crew.clock) for n in (2, 3)]
        for each in passing:
            each.startService()
        hints[2] |= {("default", "abc"), ("default", "def")}
        hints[3] |= {("default", "abc"), ("other", "abc")}
        crew.clock.advance(HINT_SECONDS)
        told = {("default", "abc"), ("default", "def"), ("other", "abc")}
        assert (hints[1], hints[2], hints[3]) == (told, set(), set())
        hints[1].clear()
        crew.clock.advance(HINT_SECONDS)
        assert hints[1] == set()
        hints[3].add(("default", "abc"))
        crew.clock.advance(HINT_SECONDS)
        assert hints[1] == {("default", "abc")}
        for each in passing:
            await each.stopService()
        assert crew.clock.getDelayedCalls() == []

    def test_one_that_is_silent_is_named(self, crew):
        """What it knows is missing."""
        _, overviews = cluster_of(crew)
        crew.gone = {1}
        told = asked(overviews[2].document())
        crew.clock.advance(SIBLING_SECONDS)
        assert told[0]["workers"] == {"count": 3, "silent": [1]}
        assert told[0]["replication"] is None


@ensureDeferred
async def test_a_store_is_told_of_with_the_scrub_of_the_one_that_scrubs(crew, local_store):
    """As it is now."""
    await put(local_store, b"x", content_id(b"x"))
    report = Report()
    overviews = [
        Overview(StorePart(local_store, report if n == 1 else None), {}, worker, crew.clock)
        for n, worker in enumerate(crew.workers)
    ]
    for checked in (0, 5):
        report.checked = checked
        for overview in overviews:
            told = await overview.document()
            assert told["scrub"]["checked"] == checked
            assert (told["store"]["writable"], told["store"]["blobs"]) == (True, 1)


@ensureDeferred
async def test_a_disk_that_failed_one_has_failed_all(crew, local_store):
    """Also before they have been told."""
    overviews = [
        Overview(StorePart(local_store, None, lambda: local_store.failure), {}, worker, crew.clock)
        for worker in crew.workers
    ]
    third = overviews[2].own() | {"part": {"failure": "it broke", "scrub": None, "commits": None}}
    crew.siblings[3].tell = lambda: third
    told = (await overviews[0].document())["store"]
    assert (told["writable"], told["reason"]) == (False, "it broke")
    local_store.turn_read_only("it broke here")
    told = (await overviews[0].document())["store"]
    assert (told["writable"], told["reason"]) == (False, "it broke here")
