"""Manifests: one way to write each, and nothing else is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sos.errors import Mismatch
from sos.model import manifest
from sos.model.manifest import MAX_BYTES, MAX_CHUNKS, Chunk, Manifest, encode, parse

ID = "a" * 40


def manifest_of(*sizes, id=ID):
    chunks = tuple(Chunk(f"{n:0{len(id)}x}", size) for n, size in enumerate(sizes))
    return Manifest(id, sum(sizes), chunks)


@st.composite
def manifests(draw):
    digits = draw(st.sampled_from((40, 64)))
    ids = st.text("0123456789abcdef", min_size=digits, max_size=digits)
    chunks = draw(st.lists(st.builds(Chunk, ids, st.integers(1, 10**9)), min_size=2, max_size=5))
    return Manifest(draw(ids), sum(chunk.size for chunk in chunks), tuple(chunks))


def written(whole=ID, size=3, chunks=(("0" * 40, 1), ("0" * 39 + "1", 2)), **more):
    return json.dumps({"id": whole, "size": size, "chunks": chunks, **more}, separators=(",", ":"))


def test_what_is_written():
    """Compact JSON, in this order."""
    assert encode(manifest_of(1, 2)) == written().encode()
    assert parse(written().encode(), ID, "3") == manifest_of(1, 2)


@given(manifests())
def test_a_manifest_comes_back_as_it_was_written(whole):
    """Of objects of either hash."""
    assert parse(encode(whole), whole.id, str(whole.size)) == whole


@given(manifests(), st.data())
def test_a_body_that_was_changed_is_another_manifest_or_none(whole, data):
    """No two bodies mean the same."""
    body = encode(whole)
    start = data.draw(st.integers(0, len(body)))
    stop = data.draw(st.integers(start, min(start + 3, len(body))))
    changed = body[:start] + data.draw(st.binary(max_size=3)) + body[stop:]
    assume(changed != body)
    try:
        found = parse(changed, whole.id, str(whole.size))
    except Mismatch:
        return
    assert found != whole
    assert encode(found) == changed
    assert (found.id, found.size) == (whole.id, whole.size)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        "9" * 5000,
        "\xff",
        written("b" * 40),
        written(ID.upper()),
        written(size=4),
        written(size="3"),
        written(size=3.0),
        written(chunks=[]),
        written(chunks=[("0" * 40, 3)]),
        written(chunks=[("0" * 40, 3), ("1" * 40, 0)]),
        written(chunks=[("0" * 40, 4), ("1" * 40, -1)]),
        written(chunks=[("0" * 40, 2), ("1" * 40, True)]),
        written(chunks=[("0" * 40, 1.0), ("1" * 40, 2.0)]),
        written(chunks=[("0" * 40, None), ("1" * 40, 2)]),
        written(chunks=[("0" * 64, 1), ("1" * 64, 2)]),
        written(chunks=[("name", 1), ("1" * 40, 2)]),
        written(chunks=[("A" * 40, 1), ("1" * 40, 2)]),
        written(chunks=[(1, 1), ("1" * 40, 2)]),
        written(chunks=[("0" * 40, 1, 1), ("1" * 40, 2)]),
        written(chunks=[("0" * 40,), ("1" * 40, 2)]),
        written(chunks=[{"0": 1}, ("1" * 40, 2)]),
        written(chunks=3),
        written(more=1),
        written() + "\n",
        written().replace(",", ", "),
        written().replace('"size"', '"siz\\u0065"'),
        written().replace('"size":3', '"size":4,"size":3'),
    ],
)
def test_what_is_no_manifest(body):
    """Whatever is wrong with it, it is not taken."""
    with pytest.raises(Mismatch):
        parse(body.encode("latin-1"), ID, "3")


@pytest.mark.parametrize("mark", ["", "4", "03", "+3", " 3", "3 ", "3, 3", "\u0663", "3" * 5000])
def test_the_mark_is_the_size_of_the_whole(mark):
    """In decimal, and in one way."""
    with pytest.raises(Mismatch):
        parse(written().encode(), ID, mark)


@pytest.mark.parametrize("size", [4, 3.0, 10**18])
def test_the_size_of_the_whole_is_that_of_its_chunks(size):
    """Even when the mark says the same as the manifest; and it is one that a header can tell."""
    first = size - 2 if size == 10**18 else 1
    chunks = [("0" * 40, first), ("1" * 40, 2)]
    with pytest.raises(Mismatch):
        parse(written(size=size, chunks=chunks).encode(), ID, str(size))


@pytest.mark.parametrize("mark", ["", "0", "03", "+3", "-3", "3\n", "\u0663", "1" * 19])
def test_a_mark_that_is_no_size(mark):
    """Is told from one that is, without a look at the manifest."""
    with pytest.raises(Mismatch):
        manifest.marked_size(mark)
    assert manifest.marked_size("30") == 30


def test_only_a_content_id_has_a_manifest():
    """What the bytes of a name are, no manifest can tell."""
    with pytest.raises(Mismatch):
        parse(written("name").encode(), "name", "3")


def test_there_is_a_limit():
    """The most chunks fit in the most bytes, whatever their size."""
    size = (10**18 - 1) // MAX_CHUNKS
    most = manifest_of(*[size] * MAX_CHUNKS, id="a" * 64)
    body = encode(most)
    assert len(body) < MAX_BYTES
    assert parse(body, most.id, str(most.size)) == most
    more = manifest_of(*[1] * (MAX_CHUNKS + 1))
    with pytest.raises(Mismatch, match="chunks"):
        parse(encode(more), ID, str(more.size))
    with pytest.raises(Mismatch, match="bytes"):
        parse(b" " * (MAX_BYTES + 1), ID, "3")


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"%s","size":1,"chunks":[%s["",1]]}' % (ID.encode(), b'["",1],' * MAX_CHUNKS),
        b"[%s1]" % (b"{}," * 1000),
        b"[" * 100_000,
    ],
    ids=["chunks", "objects", "lists"],
)
def test_what_holds_too_much_is_not_even_parsed(body, monkeypatch):
    """Eight megabytes of lists would take some hundred of memory, and seconds."""
    monkeypatch.setattr(manifest.json, "loads", lambda text: pytest.fail("it was parsed"))
    with pytest.raises(Mismatch, match="over 90000 chunks"):
        parse(body, ID, "1")
