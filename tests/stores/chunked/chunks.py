"""Chunked stores, and what is in them."""

from __future__ import annotations

from sos.aio.threads import threads_of
from sos.interfaces import Member
from sos.stores.chunked.store import ChunkedStore
from sos.stores.replicated.store import CopyCounts, ReplicatedStore
from tests.support.blobs import content_id

SIZE = 1000  # bytes of a chunk, where nothing else is said


def over(placing, reactor, chunk_size=SIZE):
    return ChunkedStore(placing, chunk_size, threads_of(reactor))


def replicated(reactor, *stores):
    copy_counts = CopyCounts(wanted=1)
    groups = {"g": tuple(map(Member, stores))}
    return ReplicatedStore(groups, threads_of(reactor), reactor, copy_counts=copy_counts)


def chunks_of(body, size=SIZE):
    return [body[start : start + size] for start in range(0, len(body), size)]


def ids_of(body, size=SIZE):
    return list(map(content_id, chunks_of(body, size)))
