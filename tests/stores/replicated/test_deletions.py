"""Uploads and reads of objects that some servers know to be deleted."""

from __future__ import annotations

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from sos.errors import Conflict, Deleted, Forbidden, NotFound, Unavailable
from sos.interfaces import Member
from sos.model.merge import times, tombstone
from sos.model.metadata import EXPIRES_AT, SET_AT, STORED_AT, ticks
from sos.model.upload_clock import UploadClock
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from tests.support.blobs import body_of, content, content_id, put

NOW = 1.79e9
BODY = body_of(10)
ID = content_id(BODY)


class Door:
    """An API server whose clock stands still, over servers in memory.

    :param readonly: whether there is one more server, which is never written to.
    """

    def __init__(self, count, quorum=1, readonly=False):
        self.servers = [MemoryStore(f"server{n}") for n in range(count + readonly)]
        self.now = NOW
        self.hints = set()
        now = UploadClock(lambda: self.now)
        members = [Member(each, readonly=n == count) for n, each in enumerate(self.servers)]
        self.members = ReplicatedStore(
            {"one": tuple(members)},
            maybeDeferred,
            Clock(),
            copy_counts=CopyCounts(quorum, 2),
            hints=self.hints,
            uploads=now,
        )
        self.store = ChunkedStore(self.members, 1000, maybeDeferred, now=now)

    def fail(self, n):
        """Let server *n* fail."""

        async def failing(*_):
            raise Unavailable(f"server{n} is away")

        self.servers[n].__dict__.update(stat=failing, read=failing, reconcile=failing)

    def well(self, n):
        """Let server *n* answer again."""
        for name in ("stat", "read", "reconcile"):
            del self.servers[n].__dict__[name]


@ensureDeferred
async def test_what_is_deleted_is_not_only_missing():
    """Where one server knows it, and the others have never heard of it."""
    door = Door(3)
    with pytest.raises(NotFound) as caught:
        await door.store.read(ID)
    assert not isinstance(caught.value, Deleted)
    await door.servers[1].reconcile(ID, tombstone(ticks(NOW)))
    for ask in (door.store.read, door.store.stat):
        with pytest.raises(Deleted) as caught:
            await ask(ID)
        assert caught.value.metadata == {}
    door.members.stop()


@pytest.mark.parametrize("large", [False, True])
@ensureDeferred
async def test_an_upload_that_is_older_than_a_deletion_is_tried_again(large):
    """The clock of whoever deleted it was ahead: after a failure, ours is not behind any more.

    It is not acknowledged where the deletion would undo it.
    """
    door = Door(3)
    body = body_of(5000) if large else BODY
    id = content_id(body)
    for server in door.servers:
        await server.reconcile(id, tombstone(ticks(NOW + 60)))
    with pytest.raises(Unavailable, match="try again"):
        await put(door.store, body)
    await put(door.store, body)
    assert await content(await door.store.read(id)) == body
    door.members.stop()


def test_the_clock_goes_on_from_what_it_has_seen():
    """And is the time of day, once that is later."""
    now = [NOW]
    clock = UploadClock(lambda: now[0])
    assert clock() == NOW
    clock.see(tombstone(ticks(NOW + 60)))
    assert ticks(clock()) == ticks(NOW + 60) + 1
    now[0] = NOW + 120
    clock.see({})
    assert clock() == NOW + 120


@pytest.mark.parametrize("now", [NOW, NOW + 0.123456, 1.0])
def test_no_two_operations_have_the_same_time(now):
    """Though the time of day stands still: a renewal that failed must not undo a deletion."""
    clock = UploadClock(lambda: now)
    times = [ticks(clock()) for _ in range(1000)]
    assert times == list(range(times[0], times[0] + 1000))
    assert clock.time_of_day() == now


class TestDelete:
    """A client deletes an object through an API server."""

    @pytest.mark.parametrize("large", [False, True])
    @ensureDeferred
    async def test_it_is_gone_from_all_servers(self, large):
        """And another deletion says that there is no such object any more."""
        door = Door(3)
        body = body_of(5000) if large else BODY
        await put(door.store, body)
        id = content_id(body)
        assert await door.members.delete(id) == 2
        for ask in (door.store.read, door.store.stat, door.members.delete):
            with pytest.raises(Deleted):
                await ask(id)
        for server in door.servers:
            assert id not in await server.listing()

    @ensureDeferred
    async def test_one_that_was_never_there(self):
        """404, if all servers say so, 503 otherwise; a chunk by itself is no object."""
        door = Door(3)
        with pytest.raises(NotFound) as caught:
            await door.members.delete(ID)
        assert not isinstance(caught.value, Deleted)
        await put(door.store, body_of(5000))
        with pytest.raises(NotFound):
            await door.members.delete(content_id(body_of(5000)[:1000]))
        door.fail(0)
        with pytest.raises(Unavailable, match="cannot tell"):
            await door.members.delete(ID)
        door.members.stop()

    @ensureDeferred
    async def test_a_chunk_that_is_an_object_too_stays_a_chunk(self):
        """The other object is whole."""
        door = Door(3)
        whole = body_of(5000)
        await put(door.store, whole)
        id = (await put(door.store, whole[:1000])).id
        await door.members.delete(id)
        assert await content(await door.store.read(content_id(whole))) == whole

    @pytest.mark.parametrize("again", [False, True])
    @ensureDeferred
    async def test_what_may_be_a_chunk_of_an_older_version_stays(self, again):
        """Which marked no chunks, also when the same bytes were stored by themselves since."""
        door = Door(2)
        whole = body_of(3000)
        await put(door.store, whole)
        first = whole[:1000]
        for server in door.servers:
            del server.blobs[content_id(first)]
            await put(server, first)
        if again:
            await put(door.store, first)
        await door.members.delete(content_id(first))
        assert await content(await door.store.read(content_id(whole))) == whole
        for server in door.servers:
            found = (await server.stat(content_id(first))).metadata
            assert not times(found).is_object

    @ensureDeferred
    async def test_too_few_servers(self):
        """It is not done; the next try is."""
        door = Door(2, quorum=2)
        await put(door.store, BODY)
        door.fail(1)
        with pytest.raises(Unavailable, match="1 of 2 servers have recorded"):
            await door.members.delete(ID)
        door.well(1)
        assert await door.members.delete(ID) == 2
        with pytest.raises(Deleted):
            await door.store.read(ID)
        door.members.stop()

    @ensureDeferred
    async def test_a_server_that_was_away_is_not_believed(self):
        """Whoever asks a server that knows better before it."""
        door = Door(3)
        await put(door.store, BODY)
        one = next(n for n, each in enumerate(door.servers) if ID in each.blobs)
        door.fail(one)
        assert await door.members.delete(ID) >= 1
        assert door.hints
        door.well(one)
        answers = []
        for _ in range(2):
            try:
                answers.append(await door.store.read(ID))
            except Deleted:
                answers.append(None)
        order = [peer.name for peer in door.members._members.holders("one", ID)]
        first = order[0] == f"server{one}"
        assert answers[0] is None or first
        door.members.stop()

    @ensureDeferred
    async def test_servers_that_cannot_remember_it(self):
        """409 that names them, and nothing is deleted."""
        door = Door(3)
        await put(door.store, BODY)
        old = door.servers[2]
        status = old.status

        async def as_before():
            return evolve(await status(), tombstones=False)

        old.status = as_before
        with pytest.raises(Conflict, match="server2"):
            await door.members.delete(ID)
        assert await content(await door.store.read(ID)) == BODY

    @ensureDeferred
    async def test_a_copy_on_a_readonly_server(self):
        """409: it would be served for ever."""
        door = Door(2, readonly=True)
        await put(door.store, BODY)
        await put(door.servers[-1], BODY, ID)
        with pytest.raises(Conflict, match="read-only"):
            await door.members.delete(ID)
        assert await content(await door.store.read(ID)) == BODY

    @ensureDeferred
    async def test_a_young_object(self):
        """It stays for so long after its last upload."""
        door = Door(2)
        await put(door.store, BODY)
        door.now += 50
        with pytest.raises(Forbidden, match="before 50 s have passed"):
            await door.members.delete(ID, 100)
        await put(door.store, BODY)
        door.now += 99
        with pytest.raises(Forbidden):
            await door.members.delete(ID, 100)
        door.now += 1.01
        assert await door.members.delete(ID, 100) == 2

    @pytest.mark.parametrize("ahead", [-240, 0, 240])
    @ensureDeferred
    async def test_a_deletion_is_later_than_what_it_deletes(self, ahead):
        """Though the clock of whoever uploaded it was ahead; so is an upload after that."""
        door = Door(2)
        for server in door.servers:
            await put(server, BODY, ID, {SET_AT: str(ticks(NOW + ahead))})
        await door.members.delete(ID)
        await put(door.store, BODY)
        assert await content(await door.store.read(ID)) == BODY
        await door.members.delete(ID)
        with pytest.raises(Deleted):
            await door.store.read(ID)


class TestRenew:
    """A client stores again what is there already, without sending it."""

    @pytest.mark.parametrize("size", [10, 5000])
    @ensureDeferred
    async def test_it_is_stored_now(self, size):
        """A deletion that a server has yet to hear of does not count."""
        door = Door(2)
        body = body_of(size)
        info = await put(door.store, body)
        door.now += 10
        assert await door.members.renew(info.id) == 2
        for server in door.servers:
            await server.reconcile(info.id, tombstone(ticks(door.now - 1)))
        assert await content(await door.store.read(info.id)) == body

    @ensureDeferred
    async def test_servers_that_remember_no_deletions(self):
        """Are asked whether they do, but not by each request."""
        door = Door(2)
        asked = []

        async def status():
            asked.append(1)
            return evolve(await MemoryStore.status(door.servers[0]), tombstones=False)

        door.servers[0].status = door.servers[1].status = status
        await put(door.store, BODY)
        for _ in range(3):
            with pytest.raises(NotFound):
                await door.members.renew(ID)
        assert len(asked) == 2

    @ensureDeferred
    async def test_too_few_copies(self):
        """Then it has to be sent."""
        door = Door(2, quorum=2)
        await put(door.servers[0], BODY, ID)
        for id in (ID, content_id(b"other")):
            with pytest.raises(NotFound):
                await door.members.renew(id)

    @ensureDeferred
    async def test_a_deleted_object(self):
        """Its bytes are gone."""
        door = Door(2)
        await put(door.store, BODY)
        await door.members.delete(ID)
        with pytest.raises(NotFound):
            await door.members.renew(ID)

    @ensureDeferred
    async def test_an_expired_object(self):
        """It has to be sent, too, and until then can be renewed, for longer or for ever."""
        door = Door(2)
        await put(door.store, BODY, metadata=expiring(NOW + 100))
        door.now += 99
        assert await door.members.renew(ID, expires=ticks(NOW + 200)) == 2
        door.now += 50
        assert await content(await door.store.read(ID)) == BODY
        door.now += 100
        with pytest.raises(Deleted, match="has expired"):
            await door.members.renew(ID)
        await put(door.store, BODY)
        assert await content(await door.store.read(ID)) == BODY


def expiring(seconds):
    """Return the metadata of an upload that expires at this time."""
    return {EXPIRES_AT: str(ticks(seconds))}


class TestExpiry:
    """Objects that were stored for a time."""

    @pytest.mark.parametrize("size", [10, 5000])
    @ensureDeferred
    async def test_it_is_gone_after_that(self, size):
        """And comes back when it is uploaded again."""
        door = Door(2)
        body = body_of(size)
        id = (await put(door.store, body, metadata=expiring(NOW + 100))).id
        door.now += 99
        assert await content(await door.store.read(id)) == body
        door.now += 2
        for ask in (door.store.read, door.store.stat):
            with pytest.raises(Deleted, match="has expired") as caught:
                await ask(id)
            assert caught.value.metadata == {}
        await put(door.store, body, metadata=expiring(door.now + 5))
        assert await content(await door.store.read(id)) == body

    @pytest.mark.parametrize("informed", [0, 1])
    @pytest.mark.parametrize("last", [None, 500])
    @ensureDeferred
    async def test_the_latest_end_counts(self, informed, last):
        """Though only one server has heard of it."""
        door = Door(2)
        await put(door.store, BODY, metadata=expiring(NOW + 100))
        later = {} if last is None else expiring(NOW + last)
        stored = str(ticks(NOW + 1))
        metadata = {SET_AT: stored, STORED_AT: stored, **later}
        await put(door.servers[informed], BODY, ID, metadata)
        door.now = NOW + 200
        assert await content(await door.store.read(ID)) == BODY
        door.now = NOW + 501
        if last is not None:
            with pytest.raises(Deleted):
                await door.store.read(ID)
        door.members.stop()

    @ensureDeferred
    async def test_a_server_that_is_away_may_know_of_a_later_upload(self):
        """So that is not 410."""
        door = Door(2)
        await put(door.store, BODY, metadata=expiring(NOW + 100))
        door.now += 200
        door.fail(0)
        with pytest.raises(Unavailable):
            await door.store.read(ID)
        door.members.stop()

    @ensureDeferred
    async def test_the_bytes_of_a_chunk_are_read_on(self):
        """By the objects that need them."""
        door = Door(2)
        body = body_of(2000)
        chunk = content_id(body[:1000])
        await put(door.store, body[:1000], metadata=expiring(NOW + 100))
        id = (await put(door.store, body)).id
        door.now += 200
        assert await content(await door.store.read(id)) == body
        assert EXPIRES_AT in (await door.store.stat(chunk)).metadata

    @ensureDeferred
    async def test_an_upload_for_ever_after_a_deletion_by_a_clock_that_is_ahead(self):
        """The object was stored again, for a time: the upload is not acknowledged in vain."""
        door = Door(2)
        later = {SET_AT: str(ticks(NOW + 61)), STORED_AT: str(ticks(NOW + 61))}
        for server in door.servers:
            await server.reconcile(ID, tombstone(ticks(NOW + 60)))
            await put(server, BODY, ID, {**later, **expiring(NOW + 100)})
        with pytest.raises(Unavailable, match="try again"):
            await put(door.store, BODY)
        await put(door.store, BODY)
        door.now += 200
        assert await content(await door.store.read(ID)) == BODY
        door.members.stop()

    @ensureDeferred
    async def test_an_upload_that_meets_a_deletion(self):
        """The copies that are made are renewed: with their end, not for ever."""
        door = Door(2)
        first, second = (each.store for each in door.members._members.replica_set(ID, 2))
        await second.reconcile(ID, tombstone(ticks(NOW + 60)))
        await put(door.store, BODY, metadata=expiring(NOW + 100))
        known = times((await first.stat(ID)).metadata)
        assert (known.stored, known.expires) == (ticks(NOW + 60) + 1, ticks(NOW + 100))

    @ensureDeferred
    async def test_servers_that_keep_no_expiry(self):
        """Would serve it for ever."""
        door = Door(2)

        async def status():
            return evolve(await MemoryStore.status(door.servers[0]), tombstones=False)

        door.servers[0].status = status
        with pytest.raises(Conflict, match="no object can expire while server0"):
            await put(door.store, BODY, metadata=expiring(NOW + 100))
        await put(door.store, BODY)
        with pytest.raises(Conflict):
            await door.members.renew(ID, expires=ticks(NOW + 100))
