"""A replication pass over stores in memory."""

from __future__ import annotations

import re

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import Conflict, NoSpace, NotFound, Unavailable
from sos.interfaces import Member
from sos.model.manifest import MARK
from sos.model.metadata import SET_AT, STORED_AT
from sos.model.placement import rank
from sos.replication.pass_state import PassState
from sos.replication.plan import ALL
from sos.stores.memory import MemoryStore
from tests.replication.groups import (
    OriginalStore,
    RecordedReport,
    group,
    id_for,
    replica_set,
    run,
    stores,
)
from tests.support.blobs import body_of, content, content_id, manifest_of, put
from tests.support.doubles import BrokenBodyStore, FailingStore


@ensureDeferred
async def test_every_blob_gets_its_copies():
    """With its bytes and its metadata."""
    a, b, c = stores("a", "b", "c")
    for size in (0, 10, 300_000):
        await put(a, body_of(size), metadata={"X-Size": str(size)})
    await put(b, b"named", "name")
    summary = await run((a, b, c), 3)
    assert summary.ok
    assert (summary.blobs, summary.planned, summary.copied, summary.failed) == (4, 8, 8, 0)
    assert summary.bytes == 2 * (10 + 300_000 + 5)
    for store in (a, b, c):
        assert len(store.blobs) == 4
        for id, stored in store.blobs.items():
            blob = await store.read(id)
            assert await content(blob) == stored.body
            if id != "name":
                assert blob.info.metadata == {"X-Size": str(len(stored.body))}
    again = await run((a, b, c), 3)
    assert again.idle
    assert again.differing == 0


@ensureDeferred
async def test_copies_are_made_where_they_belong():
    """And one that lies elsewhere is dropped, once all that should have it do."""
    servers = stores("a", "b", "c", "d")
    ids = [(await put(servers[0], b"%d" % n)).id for n in range(40)]
    recorded = RecordedReport()
    summary = await run(servers, 2, recorded)
    assert summary.ok
    for id in ids:
        assert [store for store in servers if id in store.blobs] == replica_set(id, servers, 2)
    moved = sum(servers[0] not in replica_set(id, servers, 2) for id in ids)
    assert summary.moved == moved > 0
    assert summary.copied == 40 + moved
    assert (
        len(
            [note for note in recorded.notes if note.startswith("dropped ") and " from a: " in note]
        )
        == moved
    )
    assert recorded.progress[-1] == (summary.differing, summary.copied)
    assert (await run(servers, 2)).idle


@ensureDeferred
async def test_those_who_have_to_do_with_a_partition_are_asked_for_it():
    """Who holds something of it, or should; not all the others of a large group."""

    class Counted(MemoryStore):
        async def blob_digests(self, partition):
            asked.append((partition, self.name))
            return await super().blob_digests(partition)

    asked = []
    servers = [Counted(name) for name in "abcdefgh"]
    id = (await put(servers[0], b"x")).id
    assert (await run(servers, 2)).ok
    holders = {store.name for store in replica_set(id, servers, 2)}
    assert set(asked) == {(id[:3], name) for name in holders | {"a"}}


@ensureDeferred
async def test_all_means_every_server_that_can_be_written_to():
    a, b, c = stores("a", "b", "c")
    await put(a, b"x")
    summary = await run((a, b, Member(c, readonly=True)), ALL)
    assert (summary.ok, len(b.blobs), len(c.blobs)) == (True, 1, 0)


@ensureDeferred
async def test_more_copies_than_servers():
    """What can be made is made, and the rest is told."""
    a, b = stores("a", "b")
    await put(a, b"x")
    await put(a, b"y")
    summary = await run((a, b), 3)
    assert (summary.copied, summary.short, summary.ok) == (2, 2, False)
    assert "2 blobs need more writable servers" in str(summary)


@ensureDeferred
async def test_groups_never_mix():
    """What one group holds is no business of another."""
    a, b, c, d = stores("a", "b", "c", "d")
    one = await put(a, b"one")
    two = await put(c, b"two")
    await run({"first": group(a, b), "second": group(c, d)}, 2)
    assert list(a.blobs) == list(b.blobs) == [one.id]
    assert list(c.blobs) == list(d.blobs) == [two.id]


@ensureDeferred
async def test_a_server_that_is_down_is_left_out():
    """The others go on; that it did not answer is said, and is not success."""
    a, b = stores("a", "b")
    await put(a, b"x")
    recorded = RecordedReport()
    summary = await run((FailingStore("down"), a, b), 2, recorded)
    assert len(b.blobs) == 1
    assert not summary.ok
    assert summary.unlisted == ["down"]
    assert "down" in recorded.warnings[0]
    assert "down" in str(summary)


@ensureDeferred
async def test_nothing_is_dropped_while_a_server_is_away():
    """It could be the one that has the copies that others lack."""
    servers = stores("a", "b", "c")
    id = id_for(servers, "b", "c")
    for store in servers:
        await put(store, b"x", id)
    summary = await run((*servers, FailingStore("down")), 2)
    assert (summary.moved, summary.failed) == (0, 0)
    assert id in servers[0].blobs
    await run(servers, 2)
    assert id not in servers[0].blobs


@ensureDeferred
async def test_a_server_that_cannot_list_a_partition_is_left_out():
    """As one that could not tell its digests; the others go on."""

    class Broken(MemoryStore):
        async def blob_digests(self, partition):
            raise Unavailable(f"{self.name} broke off")

    broken, a, b = Broken("broken"), MemoryStore("a"), MemoryStore("b")
    for n in range(20):
        await put(a, b"%d" % n)
    summary = await run((broken, a, b), 2)
    assert summary.unlisted == ["broken"]
    assert len(b.blobs) == 20
    assert broken.blobs == {}


class TestFailures:
    @ensureDeferred
    async def test_a_copy_that_cannot_be_made_is_counted(self):
        """A full server is not asked again and again, and stops nothing else."""

        class Full(MemoryStore):
            asked = 0

            def writer(self, id=None, metadata=None, size=None):
                self.asked += 1
                raise NoSpace("full")

        a, full, c = MemoryStore("a"), Full("full"), MemoryStore("c")
        for n in range(40):
            await put(a, b"%d" % n)
        summary = await run((a, full, c), 3)
        assert (summary.copied, summary.failed) == (40, 40)
        assert not summary.ok
        assert len(c.blobs) == 40
        assert full.asked < 20

    @ensureDeferred
    async def test_what_failed_is_tried_again(self):
        """After a while, and only so often."""

        class Flaky(MemoryStore):
            left = 2

            def writer(self, id=None, metadata=None, size=None):
                if self.left:
                    self.left -= 1
                    raise Unavailable("not now")
                return super().writer(id, metadata, size)

        a, flaky, clock = MemoryStore("a"), Flaky("b"), Clock()
        await put(a, b"x")
        work = deferred(run((a, flaky), 2, clock=clock))
        assert (flaky.left, len(flaky.blobs)) == (1, 0)
        clock.advance(1)
        assert (flaky.left, len(flaky.blobs)) == (0, 0)
        clock.advance(4)
        assert len(flaky.blobs) == 1
        assert (await work).ok

    @ensureDeferred
    async def test_a_server_that_fails_all_the_time_is_left_alone(self):
        """For this pass: it costs no retry for each of many blobs."""

        class Down(MemoryStore):
            asked = 0

            def writer(self, id=None, metadata=None, size=None):
                self.asked += 1
                raise Unavailable("down again")

        a, down, c, clock = MemoryStore("a"), Down("b"), MemoryStore("c"), Clock()
        for n in range(200):
            await put(a, b"%d" % n)
        work = deferred(run((a, down, c), 3, clock=clock))
        clock.pump([1] * 10)
        summary = await work
        assert len(c.blobs) == 200
        assert summary.failed == 200
        assert down.asked <= 32

    @ensureDeferred
    async def test_a_step_that_takes_too_long_is_given_up(self):
        """A target that hangs is one that failed."""

        class Hanging(MemoryStore):
            def writer(self, id=None, metadata=None, size=None):
                writer = super().writer(id, metadata, size)
                writer.commit = Deferred
                return writer

        a, hanging, clock = MemoryStore("a"), Hanging("b"), Clock()
        await put(a, b"x")
        work = deferred(run((a, hanging), 2, clock=clock))
        clock.pump([31, 1, 31, 4, 31])
        summary = await work
        assert (summary.copied, summary.failed) == (0, 1)

    @ensureDeferred
    async def test_a_broken_copy_is_fetched_from_the_next_server(self):
        """And nothing of the broken one is kept."""
        broken, sound, empty = BrokenBodyStore("a"), MemoryStore("b"), MemoryStore("c")
        for store in (broken, sound):
            info = await put(store, body_of(300_000))
        summary = await run((broken, sound, empty), 3)
        assert summary.ok
        assert await content(await empty.read(info.id)) == body_of(300_000)

    @ensureDeferred
    async def test_a_copy_that_is_damaged_at_its_source_comes_from_another(self):
        """A store sets it aside when it finds that out: then it is missing there as well."""

        class Damaged(MemoryStore):
            async def read(self, id, span=None):
                self.blobs.pop(id, None)
                raise NotFound("it was set aside")

        damaged, sound, empty = Damaged("a"), MemoryStore("b"), MemoryStore("c")
        for n in range(10):
            for store in (damaged, sound):
                await put(store, b"%d" % n)
        assert (await run((damaged, sound, empty), 3)).ok
        assert len(empty.blobs) == 10
        await run((damaged, sound, empty), 3)
        assert len(damaged.blobs) == 10

    @ensureDeferred
    async def test_no_server_can_be_listed(self):
        """There is nothing to do, and it is not well."""
        assert not (await run((FailingStore("a", Unavailable("gone")),), 2)).ok

    @ensureDeferred
    async def test_one_group_that_breaks_does_not_take_the_others_with_it(self):
        """It is told as not listed."""

        class Buggy(MemoryStore):
            async def digests(self):
                raise ZeroDivisionError

        a, b = stores("a", "b")
        await put(a, b"x")
        summary = await run({"bad": group(Buggy(), a), "good": group(a, b)}, 2)
        assert len(b.blobs) == 1
        assert summary.unlisted == ["group bad"]


class TestMetadata:
    @ensureDeferred
    async def test_servers_come_to_tell_the_same(self):
        """The metadata that was set first, on all of them."""
        servers = stores("a", "b", "c")
        versions = [{"X-A": "1", SET_AT: "2000"}, {"X-A": "2", SET_AT: "1000"}, {}]
        for store, metadata in zip(servers, versions, strict=True):
            await put(store, b"x", "name", metadata)
        summary = await run(servers, 3)
        assert (summary.ok, summary.settled, summary.copied) == (True, 3, 0)
        for store in servers:
            found = store.blobs["name"].info.metadata
            assert found == {**versions[1], STORED_AT: "200000"}
        assert (await run(servers, 3)).idle

    @pytest.mark.parametrize("kept", [{"X-A": "1"}, {"X-A": "1", SET_AT: "5"}])
    @ensureDeferred
    async def test_an_upload_without_metadata_takes_none_away(self, kept):
        """One server was away when it was said, and has the same content from somebody else."""
        servers = stores("a", "b", "c")
        for number in range(20):
            body = b"%d" % number
            for store in servers[:2]:
                await put(store, body, metadata=kept)
            await put(servers[2], body)
        assert (await run(servers, 3)).ok
        for store in servers:
            assert [each.info.metadata["X-A"] for each in store.blobs.values()] == ["1"] * 20
        await run(servers, 3)  # the third server says, too, that it may be a chunk
        assert (await run(servers, 3)).idle

    @ensureDeferred
    async def test_what_is_from_before_times_were_kept_stays(self):
        """As was first: whatever its hash is, and on servers that differ by the time alone."""
        servers = stores("a", "b", "c")
        for number in range(20):
            body, metadata = b"%d" % number, {"X-A": str(number)}
            await put(servers[0], body, metadata=metadata)
            await put(servers[1], body, metadata={"X-A": "later", SET_AT: "1"})
            await put(servers[2], body, metadata={**metadata, SET_AT: "9"})
        summary = await run(servers, 3)
        assert (summary.ok, summary.settled) == (True, 20)
        for store in servers:
            found = {each.body: each.info.metadata["X-A"] for each in store.blobs.values()}
            assert found == {b"%d" % number: str(number) for number in range(20)}
        assert (await run(servers, 3)).idle

    @ensureDeferred
    async def test_the_object_itself_takes_the_place_of_its_manifest(self):
        """And never the other way round."""
        a, b = stores("a", "b")
        body = body_of(5000)
        id, text, metadata = manifest_of(body, 1000)
        await put(a, text, id, metadata)
        await put(b, body, id, {"X-Name": "n"})
        assert (await run((a, b), 2)).ok
        for store in (a, b):
            assert store.blobs[id].body == body
            assert store.blobs[id].info.metadata == {"X-Name": "n"}
        assert (await run((a, b), 2)).idle

    @ensureDeferred
    async def test_a_manifest_is_copied_as_one(self):
        a, b = stores("a", "b")
        id, text, metadata = manifest_of(body_of(5000), 1000)
        await put(a, text, id, metadata)
        assert (await run((a, b), 2)).copied == 1
        assert b.blobs[id].info.metadata[MARK] == "5000"

    @ensureDeferred
    async def test_different_bytes_of_one_name_are_told_and_left(self):
        """Nothing says which are right."""
        a, b, c = stores("a", "b", "c")
        await put(a, b"one", "name")
        await put(b, b"two too", "name")
        recorded = RecordedReport()
        summary = await run((a, b, c), 2, recorded)
        assert (summary.disputed, summary.ok, summary.copied) == (1, False, 0)
        assert "name has different bodies on different servers" in recorded.warnings[0]
        assert (a.blobs["name"].body, b.blobs["name"].body) == (b"one", b"two too")


class TestMoves:
    @ensureDeferred
    async def test_a_copy_stays_while_a_holder_gives_no_sound_one(self):
        """It is confirmed by reading what each of them has."""
        a, b, c = MemoryStore("a"), MemoryStore("b"), BrokenBodyStore("c")
        id = id_for((a, b, c), "b", "c")
        for store in (a, b, c):
            await put(store, body_of(300_000), id)
        summary = await run((a, b, c), 2)
        assert (summary.moved, summary.failed) == (0, 1)
        assert id in a.blobs

    @ensureDeferred
    async def test_a_copy_of_other_bytes_stays(self):
        """Of an opaque name, of the same size: which of them is right nothing tells."""
        servers = stores("a", "b", "c")
        id = id_for(servers, "b", "c")
        for store, body in zip(servers, (b"one", b"two", b"two"), strict=True):
            await put(store, body, id, {"X-Body": body.decode()})
        summary = await run(servers, 2)
        assert (summary.moved, summary.settled, summary.disputed) == (0, 0, 1)
        assert not summary.ok
        assert [store.blobs[id].body for store in servers] == [b"one", b"two", b"two"]
        assert servers[0].blobs[id].info.metadata == {"X-Body": "one"}

    @ensureDeferred
    async def test_what_came_after_the_look_is_not_dropped(self):
        """An upload can bring the object to where its manifest was to be dropped."""
        body = body_of(5000)
        id, text, metadata = manifest_of(body, 1000)

        class Late(MemoryStore):
            async def drop(self, id, token, known=None):
                await put(self, body, id)
                await super().drop(id, token, known)

        servers = Late("a"), *stores(*"bcdefgh")
        servers = (servers[0], *replica_set(id, servers[1:], 2))
        if servers[0] in replica_set(id, servers, 2):
            servers = (Late("z"), *servers[1:])
        for store in servers:
            await put(store, text, id, metadata)
        weights = {store.name: 1.0 for store in servers}
        late = next(s for s in servers if isinstance(s, Late))
        summary = await run(servers, 2)
        if late.name not in rank(weights, id[:3])[:2]:
            assert (summary.moved, summary.failed) == (0, 1)
        assert late.blobs[id].body == body

    @ensureDeferred
    async def test_copies_are_only_added_by_who_does_not_move(self):
        """Whoever wants fewer copies than there are leaves them."""
        servers = stores("a", "b", "c")
        for n in range(20):
            for store in servers:
                await put(store, b"%d" % n)
        summary = await run(servers, 2, moves=False)
        assert (summary.idle, [len(store.blobs) for store in servers]) == (True, [20] * 3)
        assert (await run(servers, 2)).moved == 20

    @ensureDeferred
    async def test_nothing_is_dropped_while_there_are_too_few_servers(self):
        """A server is not drained down to the last copy."""
        old, new = stores("old", "new")
        await put(old, b"x")
        members = (Member(old, readonly=True), new)
        summary = await run(members, 2, drained=frozenset(["old"]))
        assert (summary.copied, summary.moved, summary.short) == (1, 0, 1)
        assert (await run(members, 1, drained=frozenset(["old"]))).moved == 1

    @ensureDeferred
    async def test_the_object_is_enough_in_place_of_a_manifest(self):
        """Once it says what the manifest does, of which that was said before."""
        servers = stores("a", "b", "c")
        body = next(
            body
            for body in (body_of(5000, seed) for seed in range(1000))
            if servers[0] not in replica_set(content_id(body), servers, 2)
        )
        id, text, metadata = manifest_of(body, 1000)
        await put(servers[0], text, id, metadata)
        for store in servers[1:]:
            await put(store, body, id)
        summary = await run(servers, 2)
        assert (summary.settled, summary.moved) == (2, 1)
        assert id not in servers[0].blobs
        for store in servers[1:]:
            assert store.blobs[id].info.metadata["X-Name"] == metadata["X-Name"]

    @ensureDeferred
    async def test_one_pass_at_a_time_drops(self):
        """Without the lease of every server nothing is dropped, and nothing else is hindered."""
        servers = stores("a", "b", "c")
        id = id_for(servers, "b", "c")
        await put(servers[0], b"x", id)
        token = await servers[2].lease(60)
        recorded = RecordedReport()
        summary = await run(servers, 2, recorded)
        assert (summary.copied, summary.moved, summary.staying) == (2, 0, 1)
        assert (summary.ok, summary.idle) == (True, False)
        assert id in servers[0].blobs
        assert "another process holds the lease" in recorded.warnings[-1]
        for store in servers[:2]:  # which were asked for theirs first
            await store.release(await store.lease(60))
        await servers[2].release(token)
        assert (await run(servers, 2)).moved == 1
        for store in servers:  # which all have their leases back
            await store.lease(60)

    @ensureDeferred
    async def test_a_lease_that_ends_meanwhile_drops_nothing(self):
        class Forgetful(MemoryStore):
            async def drop(self, id, token, known=None):
                raise Conflict("the lease is invalid or has expired")

        a, b, c = Forgetful("a"), MemoryStore("b"), MemoryStore("c")
        id = id_for((a, b, c), "b", "c")
        await put(a, b"x", id)
        summary = await run((a, b, c), 2)
        assert (summary.copied, summary.moved, summary.failed) == (2, 0, 1)

    @ensureDeferred
    async def test_a_readonly_server_gives_and_takes_nothing(self):
        """It counts for nothing, and keeps what it has."""
        old, new, more = stores("old", "new", "more")
        await put(old, b"x")
        await put(new, b"y")
        members = (Member(old, readonly=True), new, more)
        summary = await run(members, 2)
        assert summary.ok
        assert [len(store.blobs) for store in (old, new, more)] == [1, 2, 2]
        assert (await run(members, 2)).idle

    @ensureDeferred
    async def test_a_server_is_drained(self):
        """Its blobs go to the others, and it ends empty."""
        old, new, more = stores("old", "new", "more")
        for n in range(50):
            await put(old, b"%d" % n)
        summary = await run((Member(old, readonly=True), new, more), 2, drained=frozenset(["old"]))
        assert (summary.ok, summary.moved) == (True, 50)
        assert [len(store.blobs) for store in (old, new, more)] == [0, 50, 50]

    @ensureDeferred
    async def test_a_server_is_not_drained_onto_too_few(self):
        """What the others cannot take stays."""
        old, new = MemoryStore("old"), FailingStore("new", when="commit")
        new.digests = MemoryStore().digests
        new.blob_digests = MemoryStore().blob_digests
        new.error = NoSpace("full")
        for n in range(5):
            await put(old, b"%d" % n)
        await run((Member(old, readonly=True), new), 1, drained=frozenset(["old"]))
        assert len(old.blobs) == 5
        await run((Member(old, readonly=True),), 1, drained=frozenset(["old"]))
        assert len(old.blobs) == 5

    @pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 4)])
    @ensureDeferred
    async def test_a_new_server_gets_its_share(self, weights):
        """As its weight is, and no copy moves between the others."""
        a, b, c = stores("a", "b", "c")
        before = (Member(a, weight=weights[0]), Member(b, weight=weights[1]))
        for n in range(400):
            await put(a, b"%d" % n)
        await run(before, 1)
        held = {store.name: set(store.blobs) for store in (a, b)}
        assert (await run((*before, Member(c, weight=weights[2])), 1)).ok
        share = weights[2] / sum(weights)
        assert 0.7 * share < len(c.blobs) / 400 < 1.3 * share
        assert set(a.blobs) <= held["a"]
        assert set(b.blobs) <= held["b"]


class TestOriginalServers:
    @ensureDeferred
    async def test_they_take_part(self):
        """By their listings, without a request for each of the objects."""
        a, b, c = OriginalStore("a"), MemoryStore("b"), OriginalStore("c")
        for n in range(30):
            await put((a, b, c)[n % 3], b"%d" % n)
        a.stat = c.stat = b.stat = None
        assert (await run((a, b, c), 3)).ok
        assert [len(store.blobs) for store in (a, b, c)] == [30, 30, 30]
        assert (await run((a, b, c), 3)).idle

    @ensureDeferred
    async def test_nothing_is_ever_dropped_from_one(self):
        """But from others of its group, which can be told."""
        a, b, c = OriginalStore("a"), MemoryStore("b"), MemoryStore("c")
        ours = id_for((a, b, c), "c")
        theirs = id_for((a, b, c), "b")
        for id in (ours, theirs):
            await put(a, b"x", id)
            await put(b, b"x", id)
        summary = await run((a, b, c), 1)
        assert set(a.blobs) == {ours, theirs}
        assert set(b.blobs) == {theirs}
        assert set(c.blobs) == {ours}
        assert summary.ok


class TestHow:
    @ensureDeferred
    async def test_a_dry_run_tells_and_does_nothing(self):
        """Line by line."""
        servers = stores("a", "b", "c")
        id = id_for(servers, "b", "c")
        await put(servers[0], b"x", id)
        await put(servers[1], b"x", id, {"X-A": "1"})
        before = [dict(store.blobs) for store in servers]
        recorded = RecordedReport()
        summary = await run(servers, 2, recorded, dry_run=True)
        assert [store.blobs for store in servers] == before
        assert (summary.planned, summary.copied) == (1, 0)
        assert recorded.notes == [
            f"copy {id} from b to c",
            f"drop {id} from a once it is on b, c",
        ]
        assert not summary.idle

    @pytest.mark.parametrize("size", [100_000, 10_000])
    @ensureDeferred
    async def test_the_rate_is_kept(self, size):
        """In bytes a second, however small the blobs are."""
        a, b, clock = *stores("a", "b"), Clock()
        for n in range(1_000_000 // size):
            await put(a, body_of(size, n))
        work = deferred(run((a, b), 2, clock=clock, rate=100_000))
        for _ in range(4):
            clock.advance(1)
        assert 390_000 <= len(b.blobs) * size <= 600_000
        clock.pump([1] * 10)
        assert (await work).ok

    @ensureDeferred
    async def test_what_is_known_to_be_missing_comes_first(self):
        """Before all the others, which are taken in any order."""

        class Noting(MemoryStore):
            order = ()

            async def blob_digests(self, partition):
                self.order = (*self.order, partition)
                return await super().blob_digests(partition)

        a, b = Noting("a"), MemoryStore("b")
        for n in range(200):
            await put(a, b"%d" % n)
        await put(a, b"x", "0")
        hint = ("default", "b6589fc6ab0dc82cf12099d1c2d40ab994e8410c"[:3])
        hints = {hint, ("other", "123")}
        await run((a, b), 2, state=PassState(hints))
        assert hint[1] in a.order[:4]
        assert hints == {("other", "123")}

    @ensureDeferred
    async def test_a_server_that_is_away_is_waited_for(self):
        """Its copies are made elsewhere when it does not come back."""
        servers, clock = stores("a", "b", "c"), Clock()
        a, b, c = servers
        id = id_for(servers, "a", "b", "c")
        await put(a, b"x", id)
        down = (a, FailingStore("b"), c)
        state = PassState(away_seconds=600)
        for seconds, there in ((0, False), (599, False), (2, True)):
            clock.advance(seconds)
            await run(down, 2, clock=clock, state=state)
            assert (id in c.blobs) == there
        summary = await run(servers, 2, clock=clock, state=state)
        assert (id in b.blobs, id in c.blobs, summary.moved) == (True, False, 1)
        await run(down, 2, clock=clock, state=state)  # and it is waited for anew
        assert id not in c.blobs

    @ensureDeferred
    async def test_what_differs_for_good_is_not_compared_each_time(self):
        """But once an hour, or when something has changed."""

        class Counting(MemoryStore):
            asked = 0

            async def blob_digests(self, partition):
                self.asked += 1
                return await super().blob_digests(partition)

        old, new, clock, state = Counting("old"), MemoryStore("new"), Clock(), PassState()
        clock.advance(10_000)
        members = (Member(old, readonly=True), new)
        await put(old, b"x", "name")
        await put(new, b"x", "name")
        await put(old, b"x", "name", {"X-A": "1"})
        await put(new, b"y", "another of the same partition".replace(" ", ""))
        old.blobs["name"] = evolve(
            old.blobs["name"],
            info=evolve(old.blobs["name"].info, metadata={}),
        )
        new.blobs["name"] = evolve(
            new.blobs["name"],
            info=evolve(new.blobs["name"].info, metadata={"X-A": "1"}),
        )
        for _ in range(3):
            summary = await run(members, 1, clock=clock, state=state)
            assert summary.idle
        asked = old.asked
        assert asked <= 2
        clock.advance(3601)
        await run(members, 1, clock=clock, state=state)
        assert old.asked > asked

    @ensureDeferred
    async def test_what_has_not_changed_is_not_looked_at_again(self):
        """What the last pass found is told, until something changes, or an hour has passed."""
        looked = []

        class Noting(PassState):
            def mark_unchanged(self, *found):
                looked.append(found)
                super().mark_unchanged(*found)

        servers, clock, state = stores("a", "b"), Clock(), Noting()
        clock.advance(10_000)
        for n in range(20):
            await put(servers[0], b"%d" % n)
        await run(servers, 2, clock=clock, state=state)
        for _ in range(3):
            summary = await run(servers, 2, clock=clock, state=state)
            assert (summary.idle, summary.blobs) == (True, 20)
        assert len(looked) == 1
        await put(servers[1], b"new")
        assert (await run(servers, 2, clock=clock, state=state)).copied == 1
        assert (await run(servers, 2, clock=clock, state=state)).blobs == 21
        assert len(looked) == 2
        await run((Member(servers[0], readonly=True), servers[1]), 2, clock=clock, state=state)
        assert len(looked) == 3
        clock.advance(3601)
        assert (await run(servers, 2, clock=clock, state=state)).blobs == 21
        assert len(looked) == 4

    @ensureDeferred
    async def test_two_passes_at_once_do_no_harm(self):
        """What one has done the other finds, or does again."""
        servers = stores("a", "b", "c")
        ids = [(await put(servers[n % 3], b"%d" % n)).id for n in range(60)]
        first, second = deferred(run(servers, 2)), deferred(run(servers, 2))
        await first
        await second
        for id in ids:
            assert set(replica_set(id, servers, 2)) <= {s for s in servers if id in s.blobs}
        await run(servers, 2)
        assert (await run(servers, 2)).idle


def test_a_summary_in_words():
    from sos.replication import Summary

    summary = Summary(servers=3, blobs=5, planned=4, copied=2, failed=1, moved=1, settled=2)
    summary.short, summary.disputed, summary.unlisted = 1, 1, ["http://x:1"]
    assert re.sub(r"\s+", " ", str(summary)) == (
        "5 blobs on 3 servers: 4 copies to make, 2 made, 1 failed; 1 surplus copies dropped; "
        "metadata of 2 copies updated; 1 blobs need more writable servers than there are; "
        "1 ids have different bodies on different servers; no listing from http://x:1"
    )
