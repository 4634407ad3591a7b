"""Batches of small blobs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from sos import batch
from sos.errors import InvalidRequest, NoSpace, Unavailable
from sos.interfaces import SMALL_BODY, Blob, BlobInfo
from sos.model.manifest import MARK
from sos.stores.memory import MemoryStore
from tests.support.blobs import body_of, content_id, put

BLOBS = st.dictionaries(
    st.from_regex("[0-9a-z]{1,128}", fullmatch=True),
    st.tuples(st.binary(max_size=100), st.binary(max_size=20)),
    max_size=5,
)


def of(id, body, **metadata):
    return Blob(BlobInfo(id, len(body), metadata), body)


@given(BLOBS)
def test_what_is_written_is_read(found):
    """Any bytes, also those of headers."""
    blobs = [
        of(id, body, **{"X-A": value.translate(None, b"\r\n\0").decode("utf-8", "surrogateescape")})
        for id, (body, value) in found.items()
    ]
    assert batch.decode(batch.encode(blobs)) == blobs


def blob(**changed):
    return {"metadata": {}, "body": "", **changed}


@pytest.mark.parametrize(
    "document",
    [
        [],
        "a",
        {"A": blob()},
        {"a": blob(size=1)},
        {"a": {"body": ""}},
        {"a": []},
        {"a": blob(body=1)},
        {"a": blob(body="YQ")},
        {"a": blob(body="Y!Q==")},
        {"a": blob(body="\u00e9")},
        {"a": blob(metadata=[])},
        {"a": blob(metadata={"X-A": 1})},
        {"a": blob(metadata={"Host": "x"})},
        {"a": blob(metadata={"x-a": "x"})},
        {"a": blob(metadata={"X-A": "x\n"})},
        {"a": blob(metadata={"X-A": "\ud800"})},
        {"a": blob(metadata={"X-A": "x" * 5000})},
        {"a": blob(metadata={"X-Forwarded-For": "x"})},
        {f"a{n}": blob() for n in range(batch.MOST_BLOBS + 1)},
    ],
    ids=lambda document: json.dumps(document)[:50],
)
def test_what_is_no_batch(document):
    """It is refused as a whole."""
    with pytest.raises(InvalidRequest):
        batch.decode(json.dumps(document).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN'])
def test_what_is_no_json(text):
    with pytest.raises(InvalidRequest):
        batch.decode(text)


def test_a_manifest_may_be_among_them():
    """Servers tell each other which blobs are."""
    blobs = [of("a", b"", **{MARK: "1"})]
    assert batch.decode(batch.encode(blobs)) == blobs


@ensureDeferred
async def test_what_cannot_be_read_is_left_out():
    """As what is not there, and what is not small."""

    class Damaged(MemoryStore):
        async def read(self, id, span=None):
            if id == "damaged":
                raise Unavailable("it is damaged")
            return await super().read(id, span)

    store = Damaged("a")
    await put(store, body_of(batch.SMALL), "small")
    await put(store, body_of(batch.SMALL + 1), "large")
    await put(store, body_of(SMALL_BODY + 1), "larger")
    await put(store, b"", "damaged")
    found = await batch.read_from(store, ("large", "larger", "damaged", "missing", "small"))
    assert [blob.info.id for blob in found] == ["small"]
    assert found[0].body == body_of(batch.SMALL)


@ensureDeferred
async def test_no_more_is_read_than_a_batch_holds():
    """Whatever is asked for: all of it is in memory until it is taken."""
    store = MemoryStore("a")
    for n in range(batch.MOST_BLOBS):
        await put(store, body_of(batch.SMALL), f"a{n}")
    found = await batch.read_from(store, [f"a{n}" for n in range(batch.MOST_BLOBS)])
    assert sum(blob.info.size for blob in found) == batch.FULL + batch.SMALL
    assert len(batch.encode(found)) < batch.MOST_BYTES


@ensureDeferred
async def test_what_cannot_be_stored_is_left_out():
    """As what is not what its id says, what has other bytes there, and what has no room."""

    class Full(MemoryStore):
        def writer(self, id=None, metadata=None, size=None):
            if id == "late":
                raise NoSpace("it is full")
            return super().writer(id, metadata or {}, size)

    store = Full("a")
    await put(store, b"first", "taken")
    wrong = content_id(b"other")
    sent = [of("taken", b"second"), of(wrong, b"x"), of("late", b""), of("name", b"y")]
    assert await batch.store_in(store, sent) == ["name"]
    assert set(store.blobs) == {"taken", "name"}
    assert (await store.read("taken")).body == b"first"
