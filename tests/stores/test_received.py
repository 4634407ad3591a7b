"""Bodies in arrival: in memory, in a file, and from the one to the other."""

from __future__ import annotations

import errno
import os
import tempfile
from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred, execute, maybeDeferred

from sos.aio.threads import ThreadJobs, threads_of
from sos.errors import Mismatch, NoSpace
from sos.interfaces import SMALL_BODY
from sos.model.digest import BodyDigest, ManifestDigest
from sos.stores.received import MemoryBudget, ReceivedBody
from sos.stores.threaded_digest import ThreadedDigest
from tests.support.blobs import body_of

MIB = 1 << 20


class Threads:
    """Threads that run each function when :meth:`run` is called, in any number of steps."""

    def __init__(self):
        self.waiting = []

    def __call__(self, function, *arguments):
        ended = Deferred()
        self.waiting.append((ended, function, arguments))
        return ended

    def run(self):
        waiting, self.waiting = self.waiting, []
        for ended, function, arguments in waiting:
            execute(function, *arguments).chainDeferred(ended)


def result_of(deferred):
    """Return the result of *deferred*, which has to have one."""
    found = []
    deferred.addCallback(found.append)
    assert found
    return found[0]


def unnamed_file():
    return tempfile.TemporaryFile(buffering=0)


def received(budget, keeps=True, run=maybeDeferred, create=None):
    digest = BodyDigest(None)
    hashed = []
    body = ReceivedBody(
        digest,
        create or unnamed_file,
        ThreadJobs(run),
        hashed.append,
        keeps,
        budget,
    )
    return body, digest, hashed


def stored(body):
    """Return what is in the file of *body*, or kept in memory."""
    if body.file is None:
        return b"".join(body.kept)
    return os.pread(body.file.fileno(), 1 << 30, 0)


@given(
    sizes=st.lists(st.sampled_from([1, 1000, SMALL_BODY, SMALL_BODY + 1, 300_000, 2 * MIB])),
    batches=st.integers(0, 6),
    keeps=st.booleans(),
)
def test_any_body_is_received_whole(sizes, batches, keeps):
    """In memory as far as the budget lasts, and it is returned in the end."""
    budget = MemoryBudget(batches * MIB)
    pieces = [body_of(size, seed) for seed, size in enumerate(sizes)]
    whole = b"".join(pieces)
    body, digest, hashed = received(budget, keeps)

    async def receive():
        for piece in pieces:
            await body.write(piece)
        return await body.whole()

    found = result_of(Deferred.fromCoroutine(receive()))
    assert digest.verified_id() == sha1(whole).hexdigest()
    if len(whole) > SMALL_BODY:
        assert found is None
        assert stored(body) == whole == b"".join(hashed)
        assert body.file is not None or keeps
        if keeps and 2 * len(whole) + MIB <= batches * MIB:
            assert body.file is None
        assert 0 <= budget.left < batches * MIB or batches == 0
    else:
        assert (found, body.file, body.kept, hashed) == (whole, None, [], [])
    body.discard()
    assert budget.left == batches * MIB


def test_a_body_moves_to_the_file_when_the_memory_is_used_up():
    """And gives back what it has taken of it."""
    budget = MemoryBudget(3 * MIB)
    body, _, _ = received(budget)
    for number in range(20):
        result_of(Deferred.fromCoroutine(body.write(bytes(256 * 1024))))
        if number < 2 * 4:
            assert body.file is None
    assert body.file is not None
    assert (body.kept, budget.left) == ([], 2 * MIB)


def test_a_piece_waits_for_a_thread():
    """So no more of them arrive than a thread takes at once."""
    threads = Threads()
    body, digest, _ = received(MemoryBudget(9 * MIB), run=threads)
    result_of(Deferred.fromCoroutine(body.write(bytes(MIB))))
    held_up = Deferred.fromCoroutine(body.write(bytes(1)))
    assert not held_up.called
    threads.run()
    result_of(held_up)
    assert digest.size == MIB + 1


def test_small_pieces_are_joined():
    """Each takes memory beside its bytes."""
    body, _, _ = received(MemoryBudget(9 * MIB))
    for _ in range(3 * 1024):
        result_of(Deferred.fromCoroutine(body.write(bytes(1024))))
    result_of(Deferred.fromCoroutine(body.whole()))
    assert body.file is None
    assert sum(map(len, body.kept)) == 3 * MIB
    assert len(body.kept) < 10


def test_a_full_disk_is_an_error_of_the_write():
    """Such that the caller knows at once."""

    def full():
        raise OSError(errno.ENOSPC, "full")

    body, _, _ = received(MemoryBudget(0), create=full)
    failures = []
    Deferred.fromCoroutine(body.write(bytes(SMALL_BODY + 1))).addErrback(failures.append)
    assert failures[0].check(NoSpace)


def test_nothing_is_left_of_a_body_that_is_given_up():
    """Also if a thread still writes; its failure then concerns nobody."""
    budget = MemoryBudget(9 * MIB)
    for fails in (False, True):
        threads = Threads()
        files = []

        def create(files=files, fails=fails):
            if fails:
                raise OSError(errno.EIO, "broken")
            files.append(unnamed_file())
            return files[0]

        budget.left = 0
        body, _, _ = received(budget, True, threads, create)
        waiting = Deferred.fromCoroutine(body.write(bytes(SMALL_BODY + 1)))
        waiting.cancel()
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
        gone = []
        body.discard(lambda gone=gone: gone.append(True))
        assert gone == []
        threads.run()
        assert all(file.closed for file in files)
        assert gone == [] if fails else [True]


@ensureDeferred
async def test_a_threaded_digest_is_that_of_the_body(reactor):
    """Whatever its pieces are."""
    for sizes in ([], [1], [MIB], [MIB - 1, 1, 5], [3 * MIB, 100], [1000] * 3000):
        pieces = [body_of(size, seed) for seed, size in enumerate(sizes)]
        digest = ThreadedDigest(BodyDigest(sha1(b"".join(pieces)).hexdigest()), threads_of(reactor))
        for piece in pieces:
            await digest.update(piece)
        assert await digest.verified_id() == sha1(b"".join(pieces)).hexdigest()


@ensureDeferred
async def test_a_threaded_digest_raises_what_the_thread_raised(reactor):
    """Either at a later piece or at the end; if the body is given up, nobody hears of it."""
    id = "a" * 40

    async def receive(digest, sizes):
        for size in sizes:
            await digest.update(bytes(size))
        await digest.verified_id()

    for sizes in ([MIB] * 12, [*[MIB] * 8, 1]):
        digest = ThreadedDigest(ManifestDigest(id, "9", "sha1", None), threads_of(reactor))
        with pytest.raises(Mismatch, match="larger than"):
            await receive(digest, sizes)
    with pytest.raises(Mismatch, match="hashes to"):
        await receive(ThreadedDigest(BodyDigest(id), threads_of(reactor)), [1000])
