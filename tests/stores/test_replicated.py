"""The replicated store, over stores in memory: its contract, and its configuration."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from sos.errors import NotFound, Unavailable
from sos.interfaces import Member
from sos.stores.memory import MemoryStore
from tests.contract import StoreContract, put
from tests.replicas import Recovering, grouped, replicated


class TestReplicatedStore(StoreContract):
    @pytest.fixture
    def store(self, reactor):
        return replicated(reactor, [MemoryStore("a"), MemoryStore("b")], [MemoryStore("c")])


@ensureDeferred
async def test_other_servers_can_be_configured_while_it_runs(reactor):
    """What is known of those that stay is kept."""
    clock = Clock()
    bad, good, new = Recovering("bad"), MemoryStore("good"), MemoryStore("new")
    store = replicated(reactor, [bad, good], clock=clock)
    with pytest.raises(Unavailable):
        await store.read("abc")
    store.configure(grouped([bad, Member(good, readonly=True), new]))
    info = await put(store, b"x")
    assert list(new.blobs) == [info.id]
    assert bad.asked == 1
    store.configure(grouped([new]))
    assert clock.getDelayedCalls() == []
    with pytest.raises(NotFound):
        await store.read("abc")
