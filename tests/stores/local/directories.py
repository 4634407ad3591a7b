"""Directories of stores, filled, damaged and looked at."""

from __future__ import annotations

import os

from twisted.internet.defer import ensureDeferred, gatherResults

from sos.stores.local import LocalStore
from sos.stores.local.disk import Layout
from tests.support.blobs import body_of, content, content_id, put

SMALL = [body_of(100 + 90 * seed, seed) for seed in range(120)]
LARGE = [body_of(300_000 + seed, seed) for seed in range(4)]
NAMED = body_of(100_000, 7)
NAME = "named"
PAGE = 4096


def metadata_of(body):
    return {"X-Size": str(len(body))}


def everything():
    """Return the bodies of a filled store, by id."""
    return {NAME: NAMED} | {content_id(body): body for body in [*SMALL, *LARGE]}


async def fill(directory, reactor, bodies=None):
    """Store *bodies*, by id, or everything."""
    store = LocalStore(directory, reactor)
    store.open()
    found = everything() if bodies is None else bodies
    await gatherResults(
        [ensureDeferred(put(store, body, id, metadata_of(body))) for id, body in found.items()]
    )
    await store.close()


async def read_all(directory, reactor):
    """Open the store, and return the bodies of all that it lists, each with its metadata."""
    store = LocalStore(directory, reactor, require=True)
    store.open()
    try:
        found = {}
        for id in await store.listing():
            blob = await store.read(id)
            found[id] = await content(blob)
            assert blob.info.metadata == metadata_of(found[id])
        assert store.failure is None
        return found
    finally:
        await store.close()


def body_path(directory, id):
    return Layout(directory, durable=False).body(id)


def states(directory):
    """Return what each file holds and when it was changed, by its path."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for path in directory.rglob("*")
    }


def overwrite(path, position, data):
    with open(path, "r+b") as file:
        file.seek(position)
        file.write(data)


def bare(path, size):
    """Make a body's file one from before anything stood behind bodies."""
    os.truncate(path, size)


def damage_index(directory, random):
    """Overwrite some pages of the index, or cut it short, or both."""
    data = directory / "index/data.mdb"
    pages = data.stat().st_size // PAGE
    kinds = (bytes(PAGE), b"\xff" * PAGE, random.randbytes(PAGE))
    for _ in range(random.randrange(5)):
        overwrite(data, random.randrange(pages) * PAGE, random.choice(kinds))
    for _ in range(random.randrange(5)):
        overwrite(data, random.randrange(pages * PAGE - 8), random.randbytes(8))
    if random.random() < 0.3:
        os.truncate(data, random.randrange(pages * PAGE))
