"""Blobs on their way from one store into another."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from sos.errors import NoSpace, ReadOnly, Unavailable
from sos.metadata import EMPTY
from sos.stores.memory import MemoryStore
from sos.transfer import copy
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
