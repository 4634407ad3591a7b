"""Large bodies that are hashed on another thread."""

from __future__ import annotations

import hashlib

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, succeed

from sos.digest import BodyDigest, ManifestDigest
from sos.errors import Mismatch
from sos.manifest import MAX_BYTES
from sos.stores.lane import threads_of
from sos.stores.verifier import Verifier

PIECES = [bytes([number]) * 200_000 for number in range(20)]
ID = hashlib.sha1(b"".join(PIECES)).hexdigest()


class Threads:
    """Runs things when it is told to."""

    def __init__(self):
        self.waiting = []

    def __call__(self, function, *arguments):
        done = Deferred()
        self.waiting.append((done, function, arguments))
        return done

    def go(self):
        done, function, arguments = self.waiting.pop(0)
        try:
            done.callback(function(*arguments))
        except Exception:
            done.errback()


async def feed(verifier):
    for piece in PIECES:
        await verifier.update(piece)
    return await verifier.verified_id()


@ensureDeferred
async def test_it_comes_to_the_same_hash(reactor):
    """Whatever the size of the pieces."""
    assert await feed(Verifier(BodyDigest(ID), threads_of(reactor))) == ID


@ensureDeferred
async def test_a_wrong_body_is_found_out(reactor):
    """At its end."""
    with pytest.raises(Mismatch):
        await feed(Verifier(BodyDigest("0" * 40), threads_of(reactor)))


def test_no_more_is_taken_than_can_be_hashed():
    """One batch is being hashed, another is gathered, and then it is waited for the first."""
    threads = Threads()
    work = Deferred.fromCoroutine(feed(Verifier(BodyDigest(ID), threads)))
    done = []
    work.addCallback(done.append)
    while threads.waiting:
        assert len(threads.waiting) == 1
        threads.go()
    assert done == [ID]


@ensureDeferred
async def test_what_the_digest_raises_is_passed_on():
    """Here because a manifest cannot be that long."""

    def at_once(function, *arguments):
        try:
            return succeed(function(*arguments))
        except Exception:
            failed = Deferred()
            failed.errback()
            return failed

    verifier = Verifier(ManifestDigest(ID, "1", "sha1", None), at_once)
    await verifier.update(bytes(MAX_BYTES + 1))
    with pytest.raises(Mismatch, match="manifest of over"):
        await verifier.update(bytes(MAX_BYTES))
