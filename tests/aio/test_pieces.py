"""Streams of pieces: read ahead, and held back."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import ensureDeferred as deferred
from twisted.logger import capturedLogs

from sos.aio.pieces import ReadAhead, even_pieces, hold_last
from sos.errors import BodyError
from sos.transfer import pieces_of


class Broken(Exception):
    """What goes wrong in a test."""


class Reads:
    """Reads that end when the test says so."""

    def __init__(self, count):
        self.begun = []
        self.cancelled = 0
        self._count = count

    def __iter__(self):
        for _ in range(self._count):
            self.begun.append(Deferred(self._cancel))
            yield self.begun[-1]

    def _cancel(self, read):
        self.cancelled += 1
        read.errback(CancelledError())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 10, 11])
@ensureDeferred
async def test_pieces_are_cut_evenly(size):
    """However they come; only the last may be smaller, and none is empty."""

    async def pieces():
        for piece in (b"012", b"3", b"456789"):
            yield piece

    got = [piece async for piece in even_pieces(pieces(), size)]
    assert got == [b"0123456789"[start : start + size] for start in range(0, 10, size)]


@ensureDeferred
async def test_the_next_reads_run_while_a_result_is_handled():
    """As many as are allowed, and no more; the results come in order."""
    reads = Reads(4)
    ahead = ReadAhead(iter(reads), most=2)
    assert len(reads.begun) == 2
    first = deferred(anext(ahead))
    reads.begun[1].callback("two")
    assert not first.called
    reads.begun[0].callback("one")
    assert await first == "one"
    assert len(reads.begun) == 3
    for read, result in zip(reads.begun[2:], ["three"], strict=True):
        read.callback(result)
    assert await anext(ahead) == "two"
    reads.begun[3].callback("four")
    assert [each async for each in ahead] == ["three", "four"]


@pytest.mark.parametrize(("cancel", "cancelled"), [(True, 2), (False, 0)])
@ensureDeferred
async def test_closing_gives_up_the_reads_in_progress(cancel, cancelled):
    """Whatever becomes of them concerns nobody; no other is begun."""
    reads = Reads(5)
    ahead = ReadAhead(iter(reads), most=2, cancel=cancel)
    await ahead.aclose()
    assert reads.cancelled == cancelled
    for read in reads.begun:
        if not read.called:
            read.errback(CancelledError())
    assert [each async for each in ahead] == []
    assert len(reads.begun) == 2


@ensureDeferred
async def test_a_read_that_fails_fails_where_it_is_waited_for():
    """In its place, after those before it."""
    reads = Reads(3)
    ahead = ReadAhead(iter(reads), most=3)
    reads.begun[0].callback(0)
    reads.begun[1].errback(Broken())
    assert await anext(ahead) == 0
    with pytest.raises(Broken):
        await anext(ahead)
    await ahead.aclose()


@ensureDeferred
async def test_a_failure_that_was_raised_is_not_logged_again():
    """Nor is what is wrong with a stored body, when nobody waits for the read."""
    reads = Reads(2)
    ahead = ReadAhead(iter(reads), most=2)
    reads.begun[0].errback(Broken())
    with capturedLogs() as logged:
        with pytest.raises(Broken):
            await anext(ahead)
        reads.begun[1].errback(BodyError())
        await ahead.aclose()
    assert logged == []


async def three():
    for piece in (b"a", b"b", b"c"):
        yield piece


@ensureDeferred
async def test_the_last_piece_waits_until_all_are_verified():
    """If they are not right, the reader lacks it."""
    seen, passed = [], []

    async def update(piece):
        seen.append(piece)

    async def verify():
        assert passed == [b"a", b"b"]
        raise Broken

    async def read():
        async for piece in hold_last(three(), update, verify):
            passed.append(piece)

    with pytest.raises(Broken):
        await read()
    assert seen == [b"a", b"b", b"c"]
    assert passed == [b"a", b"b"]


@ensureDeferred
async def test_what_is_verified_comes_whole():
    """Also a single piece, and none."""

    async def update(piece):
        pass

    async def verify():
        verified.append(True)

    for body, wanted in [(three(), b"abc"), (pieces_of(b"x"), b"x"), (pieces_of(b""), b"")]:
        verified = []
        pieces = hold_last(body, update, verify)
        assert b"".join([piece async for piece in pieces]) == wanted
        assert verified == [True]
