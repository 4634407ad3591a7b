"""Uploads and reads of objects that some servers know to be deleted."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock

from sos.errors import Deleted, NotFound, Unavailable
from sos.interfaces import Member
from sos.model.merge import tombstone
from sos.model.metadata import ticks
from sos.stores.chunked.store import ChunkedStore
from sos.stores.memory import MemoryStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from sos.stores.upload_clock import UploadClock
from tests.support.blobs import body_of, content, content_id, put

NOW = 1.79e9
BODY = body_of(10)
ID = content_id(BODY)


class Door:
    """An API server whose clock stands still, over servers in memory."""

    def __init__(self, count):
        self.servers = [MemoryStore(f"server{n}") for n in range(count)]
        clock = Clock()
        now = UploadClock(lambda: NOW)
        self.members = ReplicatedStore(
            {"one": tuple(map(Member, self.servers))},
            maybeDeferred,
            clock,
            copy_counts=CopyCounts(1, 2),
            uploads=now,
        )
        self.store = ChunkedStore(self.members, 1000, maybeDeferred, now=now)


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
    assert ticks(clock()) > ticks(NOW + 60)
    now[0] = NOW + 120
    assert clock() == NOW + 120
    clock.see({})
    assert clock() == NOW + 120
