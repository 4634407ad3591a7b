"""A process that stores blobs and says what was acknowledged, for a test to torment.

``python -m tests.crash.victim DIRECTORY before|after SIZE...``: it waits for a
line on standard input, before or after it has opened the store, then stores a
body of each SIZE, one after the other, and reads one that was there.
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
from tests.contract import body_of, content, put

PIECE = 64 * 1024
HELD = body_of(100, seed=99)


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


async def main(directory: Path, when: str, sizes: list[int]) -> None:
    store = LocalStore(directory, reactor)
    if when == "before":
        wait()
    store.open()
    if when == "after":
        await put(store, HELD)
        wait()
    for number, size in enumerate(sizes):
        try:
            writer = store.writer(None, {"X-Size": str(size)}, size)
            info = await transfer(pieces(body_of(size, seed=number)), writer)
        except SOSError as error:
            say(f"ERR {type(error).__name__}")
        else:
            say(f"ACK {info.id}")
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
    arguments = Path(sys.argv[1]), sys.argv[2], [int(size) for size in sys.argv[3:]]
    react(lambda _: ensureDeferred(main(*arguments)))
