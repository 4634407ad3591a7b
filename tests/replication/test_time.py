"""What passes wait for, and for how long."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.internet.task import Clock

from sos.errors import Unavailable
from sos.replication.leases import SECONDS, Leases
from sos.stores.memory import MemoryStore
from tests.replication.groups import id_for, run, stores
from tests.support.blobs import body_of, put
from tests.support.doubles import BrokenBodyStore


class Still(MemoryStore):
    """Never answers when it is asked in one way."""

    def __init__(self, name, asked):
        super().__init__(name)
        setattr(self, asked, self._wait)

    async def _wait(self, *arguments):
        await Deferred()


@pytest.mark.parametrize("asked", ["digests", "blob_digests", "lease", "read", "drop"])
@ensureDeferred
async def test_a_server_that_stands_still_ends_no_pass(asked):
    """It is left out, or its copies stay; the others have theirs."""
    clock = Clock()
    servers = Still("a", asked), *stores("b", "c")
    id = id_for(servers, "b", "c")
    await put(servers[0], b"x", id)
    await put(servers[1], b"y", "other")
    done = deferred(run(servers, 2, clock=clock))
    clock.pump([10.0] * 200)
    summary = await done
    assert id in servers[0].blobs
    assert sum("other" in store.blobs for store in servers) >= 2
    assert summary.failed or summary.unlisted or summary.staying


@ensureDeferred
async def test_a_lease_lasts_as_long_as_the_pass():
    """It is made to last longer again and again, and given back at the end."""
    clock = Clock()
    store = MemoryStore(now=clock.seconds)
    leases = Leases({"a": store}, clock)
    tokens = await leases.tokens()
    clock.pump([10.0] * 100)
    assert await leases.tokens() == tokens
    await put(store, b"x", "name")
    await store.drop("name", tokens["a"])
    await leases.release()
    await store.lease(60)
    assert clock.getDelayedCalls() == []


@ensureDeferred
async def test_a_lease_that_cannot_be_prolonged_is_none():
    """Nothing is dropped any more in that pass."""
    clock = Clock()
    store = MemoryStore(now=clock.seconds)
    leases = Leases({"a": store}, clock)
    tokens = await leases.tokens()
    await store.release(tokens["a"])
    clock.pump([10.0] * (SECONDS // 10))
    with pytest.raises(Exception, match="invalid or has expired"):
        await leases.tokens()
    await leases.release()


@ensureDeferred
async def test_leases_are_had_of_all_or_not_at_all():
    """Whatever went wrong with one; those of the others are given back."""
    clock = Clock()
    stores = {name: MemoryStore(name, now=clock.seconds) for name in "abc"}

    async def mistake(seconds, token=None):
        raise ZeroDivisionError

    stores["b"].lease = mistake
    leases = Leases(stores, clock)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await leases.tokens()
    await stores["a"].lease(60)
    assert clock.getDelayedCalls() == []


@ensureDeferred
async def test_leases_that_are_given_up_while_they_are_asked_for():
    """What has been had by then is given back before the pass is over."""
    clock = Clock()
    stores = {"a": MemoryStore("a", now=clock.seconds), "b": Still("b", "lease")}
    gate, taken = Deferred(), []
    release = stores["a"].release

    async def slowly(token):
        await gate
        taken.append(token)
        await release(token)

    stores["a"].release = slowly
    leases = Leases(stores, clock)
    asked = deferred(leases.tokens())
    asked.addErrback(lambda failure: None)
    asked.cancel()
    done = deferred(leases.release())
    assert not done.called
    gate.callback(None)
    await done
    assert len(taken) == 1
    await stores["a"].lease(60)
    assert clock.getDelayedCalls() == []


@ensureDeferred
async def test_stopping_waits_for_no_server():
    """A lease that is not taken back ends by itself."""
    clock = Clock()
    frozen = [Still(name, "release") for name in "abc"]
    leases = Leases({store.name: store for store in frozen}, clock)
    await leases.tokens()
    done = deferred(leases.release())
    assert not done.called
    clock.advance(2)
    await done


@ensureDeferred
async def test_a_pace_is_kept_before_a_body_is_opened():
    """Who sends it would lose patience with one that is open and not read."""
    clock = Clock()
    opened = []

    class Noting(MemoryStore):
        async def read(self, id, span=None):
            opened.append(clock.seconds())
            return await super().read(id, span)

    source, target = Noting("a"), MemoryStore("b")
    for n in range(4):
        await put(source, body_of(100_000, n))
    done = deferred(run((source, target), 2, clock=clock, rate=100_000))
    clock.pump([0.1] * 50)
    assert (await done).copied == 4
    assert [round(each) for each in opened] == [1, 2, 3, 4]


@ensureDeferred
async def test_a_source_that_breaks_off_is_not_held_against_the_target():
    """Else the target would be left alone, and what others could give it not be copied."""
    clock = Clock()
    broken, sound, target = BrokenBodyStore("a"), MemoryStore("b"), MemoryStore("c")
    for n in range(10):
        await put(broken, body_of(100_000, n))
    for n in range(10, 30):
        await put(sound, body_of(100_000, n))
    done = deferred(run((broken, sound, target), 3, clock=clock))
    clock.pump([1.0] * 40)
    summary = await done
    assert len(target.blobs) == 20
    # What is to go to the broken one is copied unless that has failed too often by then,
    # which the order of partitions decides: it is a random one.
    assert summary.failed >= 20
    assert summary.failed + summary.copied == 60


@ensureDeferred
async def test_a_pass_that_is_broken_off_ends_at_once():
    """Whatever it waits for."""
    clock = Clock()
    servers = Still("a", "blob_digests"), *stores("b")
    await put(servers[0], b"x")
    done = deferred(run(servers, 2, clock=clock))
    done.cancel()
    with pytest.raises((CancelledError, Unavailable)):
        await done
