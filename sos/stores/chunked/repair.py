"""Repair an object that has two manifests: make the missing chunks of one from the other."""

from __future__ import annotations

from sos.errors import NotFound
from sos.interfaces import IBlobStore
from sos.model.manifest import Chunk, Manifest
from sos.model.metadata import part_of_object
from sos.stores.chunked.reader import AssembledBody, parts
from sos.transfer import transfer


async def mend(store: IBlobStore, broken: Manifest, whole: Manifest, now: float) -> None:
    """Store the chunks of *broken* that no server of *store* has.

    :param whole: another manifest of the same object, whose chunks all exist.
    :param now: the time in seconds since the epoch.
    """
    start = 0
    for chunk in broken.chunks:
        stop = start + chunk.size
        if not await _is_there(store, chunk):
            writer = store.writer(chunk.id, part_of_object(now), chunk.size)
            body = AssembledBody(store.read, parts(whole.chunks, start, stop))
            await body.begin()
            await transfer(body, writer)
        start = stop


async def _is_there(store: IBlobStore, chunk: Chunk) -> bool:
    try:
        await store.stat(chunk.id)
    except NotFound:
        return False
    return True
