"""Blobs on their way from one store into another."""

from __future__ import annotations

import pytest
from attrs import define
from pytest_twisted import ensureDeferred

from sos.errors import NoSpace, ReadOnly, Unavailable
from sos.model.metadata import EMPTY
from sos.stores.memory import MemoryStore
from sos.transfer import are_same, copy
from tests.support.blobs import body_of, put
from tests.support.doubles import FailingStore, PlacingStore


class Refusing(MemoryStore):
    """Takes no blob, and says so before it is sent any of it."""

    def writer(self, id=None, metadata=EMPTY, size=None):
        raise ReadOnly("nothing is taken here")


@ensureDeferred
async def test_a_copy_is_the_same_blob():
    """Its bytes and its metadata, under its id."""
    source, target = PlacingStore(), MemoryStore()
    info = await put(source, body_of(300_000), metadata={"X-Tag": "kept"})
    await copy(await source.read(info.id), target)
    assert target.blobs[info.id].body == body_of(300_000)
    assert target.blobs[info.id].info.metadata == {"X-Tag": "kept"}
    assert not source.open


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (Refusing("refusing"), ReadOnly),
        (FailingStore("full", NoSpace("full")), NoSpace),
        (FailingStore("late", when="commit"), Unavailable),
    ],
    ids=["at-once", "while-it-is-written", "at-the-end"],
)
@ensureDeferred
async def test_the_body_of_a_blob_that_is_refused_is_closed(target, error):
    """It may be a connection, which must not wait for the garbage collector."""
    source = PlacingStore()
    info = await put(source, body_of(300_000))
    blob = await source.read(info.id)
    assert source.open
    with pytest.raises(error):
        await copy(blob, target)
    assert not source.open


@define
class Cut:
    """A body in pieces of one size, which can break off."""

    body: bytes
    size: int
    error: Exception | None = None
    closed: bool = False

    async def __aiter__(self):
        for start in range(0, len(self.body), self.size):
            yield self.body[start : start + self.size]
        if self.error is not None:
            raise self.error

    async def aclose(self):
        self.closed = True


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@ensureDeferred
async def test_bodies_are_the_same_however_they_are_cut(size):
    """In memory or in pieces, and empty ones as well."""
    for body in (b"", b"a", b"some bytes, cut in one way or another"):
        assert await are_same(body, Cut(body, size))
        assert await are_same(Cut(body, size), body)
        assert await are_same(Cut(body, 4), Cut(body, size))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@ensureDeferred
async def test_bodies_of_other_bytes_or_sizes_are_not(size):
    """One that the other begins with, too."""
    body = b"some bytes, cut in one way or another"
    for other in (b"", body[:-1], body + b"!", b"!" + body[1:], body[:-1] + b"!"):
        assert not await are_same(Cut(body, 4), Cut(other, size))
        assert not await are_same(Cut(other, size), body)


@pytest.mark.parametrize("other", [b"ab", b"xx", b""])
@ensureDeferred
async def test_bodies_that_were_compared_are_closed(other):
    """Whether they are the same or not, and where one breaks off."""
    ones, others = Cut(b"ab", 1), Cut(other, 1)
    await are_same(ones, others)
    assert ones.closed
    assert others.closed
    ones, others = Cut(b"", 1, Unavailable("gone")), Cut(other, 1)
    with pytest.raises(Unavailable):
        await are_same(ones, others)
    assert ones.closed
    assert others.closed
