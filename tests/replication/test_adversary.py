"""Who may upload, and nothing else, cannot change what was said of an object by another.

An adversary knows the bytes, and uploads them with whatever headers, by whichever API server
and as often as he likes, while servers are away, come back, or have lost what they had.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from sos.errors import SOSError, Unavailable
from sos.interfaces import Member
from sos.model.metadata import EMPTY
from sos.replication import Policy, Report, replicate
from sos.replication.pass_state import PassState
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from tests.support.blobs import body_of, content, content_id, put, shown

# Between two uploads: one is acknowledged, and then another comes, on the same machine.
STEP_SECONDS = 3e-5
# Bytes of a chunk at the two API servers.
CHUNKS = (1000, 0)
# What the adversary says: of so many the hash of some is less than that of any other.
GROUND = [{"X-Name": f"invoice{n}.exe"} for n in range(8)]


class Server(MemoryStore):
    """A blob server that can be away."""

    away = False

    def _ask(self):
        if self.away:
            raise Unavailable(f"{self.name} is away")

    async def stat(self, id):
        self._ask()
        return await super().stat(id)

    async def read(self, id, span=None):
        self._ask()
        return await super().read(id, span)

    def writer(self, id=None, metadata=EMPTY, size=None):
        self._ask()
        return super().writer(id, metadata, size)

    async def digests(self):
        self._ask()
        return await super().digests()

    async def blob_digests(self, partition):
        self._ask()
        return await super().blob_digests(partition)

    async def reconcile(self, id, metadata):
        self._ask()
        await super().reconcile(id, metadata)

    async def lease(self, seconds, token=None):
        self._ask()
        return await super().lease(seconds, token)

    async def drop(self, id, token, known=None):
        self._ask()
        await super().drop(id, token, known)

    async def status(self):
        self._ask()
        return await super().status()


@define
class Cluster:
    """Blob servers in groups, and two API servers before them.

    :ivar metadata: what the victim has said of the object.
    """

    body: bytes
    metadata: dict
    groups: dict
    clock: Clock = field(factory=Clock)
    state: PassState = field(factory=lambda: PassState(away_seconds=3600.0))
    doors: list = field(init=False)
    members: list = field(init=False)

    def __attrs_post_init__(self):
        self.clock.advance(1.8e9)
        self.members = [
            ReplicatedStore(self.groups, maybeDeferred, self.clock, copy_counts=CopyCounts(1, 2))
            for _ in CHUNKS
        ]
        self.doors = [
            ChunkedStore(members, size, maybeDeferred, now=self.clock.seconds)
            for members, size in zip(self.members, CHUNKS, strict=True)
        ]

    @property
    def servers(self):
        return [member.store for members in self.groups.values() for member in members]

    def metadata_on(self, server):
        """Return what *server* says of the object, None if it does not have it."""
        blob = server.blobs.get(content_id(self.body))
        return (
            None
            if blob is None
            else {
                name: value for name, value in shown(blob.info.metadata).items() if name == "X-Name"
            }
        )

    async def upload(self, door, metadata):
        self.clock.advance(STEP_SECONDS)
        await put(self.doors[door], self.body, metadata=metadata)

    async def attack(self, door, metadata):
        with suppress(SOSError):
            await self.upload(door, metadata)

    async def besiege(self, door, metadata):
        """Upload when nobody is there who has heard of the object."""
        having = [n for n, each in enumerate(self.servers) if self.metadata_on(each) is not None]
        for n in having:
            await self.leave(n)
        for _ in range(2):  # by then the API server has seen that they are away
            await self.attack(door, metadata)
        for n in having:
            await self.come_back(n)

    async def read(self, door):
        with suppress(SOSError):
            await content(await self.doors[door].read(content_id(self.body)))

    async def leave(self, n):
        self.servers[n % len(self.servers)].away = True

    async def come_back(self, n):
        self.servers[n % len(self.servers)].away = False

    async def lose(self, n):
        """A server comes back with another disk, if others have what it had."""
        server = self.servers[n % len(self.servers)]
        others = [each for each in self.servers if each is not server]
        kept = [all(id in each.blobs for id in server.blobs) for each in others]
        if any(
            k and self.metadata_on(each) == self.metadata
            for k, each in zip(kept, others, strict=True)
        ):
            server.blobs.clear()

    async def wait(self):
        """Servers that are left alone are asked how they are."""
        self.clock.pump([1.0] * 70)

    async def replicate(self):
        report = Report(lambda _: None, lambda _: None, lambda _: None)
        return await replicate(self.groups, Policy(2), self.clock, report, self.state)

    async def rest(self):
        """All servers are there, and replication has nothing left to do."""
        for n in range(len(self.servers)):
            await self.come_back(n)
        await self.wait()
        for _ in range(6):
            summary = await self.replicate()
            if summary.idle:
                return
        raise AssertionError(summary)

    async def rest_without(self, n):
        """All servers are there but one, which has not come back for long."""
        for each in range(len(self.servers)):
            await self.come_back(each)
        await self.leave(n)
        await self.wait()
        for _ in range(6):
            await self.replicate()

    async def check(self):
        """All that are there say of the object what the victim has said, if any of them does."""
        there = [each for each in self.servers if not each.away]
        claims = [self.metadata_on(each) for each in there]
        if self.metadata in claims:
            assert [each for each in claims if each not in (None, self.metadata)] == []
            for door in self.doors:
                try:
                    found = await door.read(content_id(self.body))
                except Unavailable:  # a chunk can be where nobody answers
                    assert len(there) < len(self.servers)
                else:
                    assert shown(found.info.metadata) == self.metadata

    def stop(self):
        for each in self.members:
            each.stop()


def clusters(*sizes):
    names = iter("abcdefg")
    return {
        f"group{n}": tuple(Member(Server(next(names))) for _ in range(size))
        for n, size in enumerate(sizes)
    }


doors = st.integers(0, len(CHUNKS) - 1)
servers = st.integers(0, 4)
lies = st.sampled_from([{}, *GROUND])
steps = st.one_of(
    st.tuples(st.just("besiege"), doors, lies),
    st.tuples(st.just("besiege"), doors, lies),
    st.tuples(st.just("attack"), doors, lies),
    st.tuples(st.just("leave"), servers),
    st.tuples(st.just("leave"), servers),
    st.tuples(st.just("come_back"), servers),
    st.tuples(st.just("lose"), servers),
    st.tuples(st.just("read"), doors),
    st.tuples(st.just("wait")),
    st.tuples(st.just("replicate")),
)


@given(
    sizes=st.sampled_from([(4,), (3, 2), (2, 2)]),
    body=st.builds(body_of, st.sampled_from([10, 2500]), st.integers(0, 5)),
    metadata=st.sampled_from([{}, {"X-Name": "report.pdf"}]),
    away=st.sets(servers, max_size=3),
    door=doors,
    chosen=st.lists(steps, max_size=12),
    gone=servers,
)
@ensureDeferred
async def test_the_first_to_be_acknowledged_is_who_is_believed(
    sizes, body, metadata, away, door, chosen, gone
):
    """By every server that has the object, and by who reads it from any API server."""
    cluster = Cluster(body, metadata, clusters(*sizes))
    try:
        for n in away:
            await cluster.leave(n)
        await cluster.upload(door, metadata)
        for name, *arguments in chosen:
            await getattr(cluster, name)(*arguments)
        await cluster.rest_without(gone)
        await cluster.check()
        await cluster.rest()
        assert metadata in [cluster.metadata_on(each) for each in cluster.servers]
        await cluster.check()
    finally:
        cluster.stop()


@pytest.mark.parametrize("left", [1, 2])
@ensureDeferred
async def test_a_stand_in_is_told_what_those_say_that_are_there(left):
    """Nobody ever reads anything else, though nothing has been compared.

    Also when the clock of the other API server is behind.
    """
    body, metadata = body_of(10), {"X-Name": "report.pdf"}
    cluster = Cluster(body, metadata, clusters(3))
    try:
        await cluster.upload(0, metadata)
        holders = [
            n for n, each in enumerate(cluster.servers) if cluster.metadata_on(each) == metadata
        ]
        behind = ChunkedStore(cluster.members[1], 0, maybeDeferred, now=lambda: 1.7e9)
        for gone in holders[left - 1 : left]:
            await cluster.leave(gone)
        await put(behind, body, metadata=GROUND[0])
        assert [cluster.metadata_on(each) for each in cluster.servers] == [metadata] * 3
        assert shown((await behind.read(content_id(body))).info.metadata) == metadata
        await cluster.rest()
        assert {str(cluster.metadata_on(each)) for each in cluster.servers} <= {
            str(metadata),
            "None",
        }
    finally:
        cluster.stop()


@pytest.mark.parametrize(("size", "first"), [(10, 0), (2500, 0), (2500, 1)])
@ensureDeferred
async def test_a_copy_that_has_to_stay_where_it_does_not_belong_is_told(size, first):
    """It can be the one that is read: by who has seen it there first.

    Also where one is the object and the other its manifest.
    """
    body, metadata = body_of(size), {"X-Name": "report.pdf"}
    cluster = Cluster(body, metadata, clusters(3))
    try:
        await cluster.upload(first, metadata)
        await cluster.replicate()  # who is away then is expected back
        await cluster.besiege(1 - first, GROUND[0])
        assert sorted(map(str, map(cluster.metadata_on, cluster.servers))) == [
            str(GROUND[0]),
            str(metadata),
            str(metadata),
        ]
        holder = [cluster.metadata_on(each) for each in cluster.servers].index(metadata)
        await cluster.rest_without(holder)
        await cluster.check()
    finally:
        cluster.stop()
