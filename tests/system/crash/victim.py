"""A process that stores blobs and says what was acknowledged, for a test to torment.

``python -m tests.system.crash.victim DIRECTORY before|after ACTION...``: it waits for
a line on standard input, before or after it has opened the store, then takes
each ACTION, one after the other, and reads a blob that was there.  An action is
the size of a body to store, or what happens to a blob that was there: ``drop``
it, or ``replace`` a manifest by its object.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from sos.errors import SOSError
from sos.stores.local import LocalStore
from sos.transfer import transfer
from tests.support.blobs import body_of, content, content_id, manifest_of, put

PIECE = 64 * 1024
HELD = body_of(100, seed=99)
#: What is dropped.
LEAVING = body_of(100_000, seed=98)
#: What takes the place of its manifest, which is as well in a file.
OBJECT = body_of(150_000, seed=97)
MANIFEST = manifest_of(OBJECT, 100)


def say(text: str) -> None:
    """Tell the test, by one system call."""
    os.write(1, text.encode() + b"\n")


def wait() -> None:
    say("READY")
    sys.stdin.readline()


async def pieces(body: bytes):
    """Cut *body* as a connection would."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


async def store_body(store: LocalStore, number: int, size: int) -> str:
    writer = store.writer(None, {"X-Size": str(size)}, size)
    info = await transfer(pieces(body_of(size, seed=number)), writer)
    return f"ACK {info.id}"


async def drop(store: LocalStore) -> str:
    await store.drop(content_id(LEAVING), await store.lease(60))
    return f"GONE {content_id(LEAVING)}"


async def replace(store: LocalStore) -> str:
    info = await transfer(pieces(OBJECT), store.writer(None, {}, len(OBJECT)))
    return f"ACK {info.id}"


async def prepare(store: LocalStore) -> None:
    """Store what is dropped and replaced later."""
    await put(store, HELD)
    await put(store, LEAVING)
    id, text, metadata = MANIFEST
    await put(store, text, id, metadata)


async def take(action: str, number: int, store: LocalStore) -> str:
    if action == "prepare":
        await prepare(store)
        return "PREPARED"
    if action == "drop":
        return await drop(store)
    if action == "replace":
        return await replace(store)
    return await store_body(store, number, int(action))


async def main(directory: Path, when: str, actions: list[str]) -> None:
    store = LocalStore(directory, reactor)
    if when == "before":
        wait()
    store.open()
    if when == "after":
        await (prepare(store) if "drop" in actions else put(store, HELD))
        wait()
    for number, action in enumerate(actions):
        try:
            say(await take(action, number, store))
        except SOSError as error:
            say(f"ERR {type(error).__name__}")
    if when == "after":
        try:
            (held,) = [id for id in await store.listing() if (await store.stat(id)).size == 100]
            say("READ" if await content(await store.read(held)) == HELD else "WRONG")
        except SOSError as error:
            say(f"NOREAD {error}")
        try:
            say("WRITABLE" if (await store.status()).writable else "READONLY")
        except SOSError as error:
            say(f"NOSTATUS {error}")
    await store.close()
    say("END")


if __name__ == "__main__":
    arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    react(lambda _: ensureDeferred(main(*arguments)))
